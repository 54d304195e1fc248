"""docs/cli.md against the verbs that are there, and their flags."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from training.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
OF_TRAIN = ("train", "tune")
"""Verbs that take the flags of a recipe."""


def section(verb: str) -> str:
    found = re.search(rf"^## {verb}\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    assert found is not None, f"docs/cli.md has no section {verb}"
    return found[1]


def flags(text: str) -> set[str]:
    """The long flags in a text, but for those that are another command's."""
    text = re.sub(r" -- .*", "", text)
    return set(re.findall(r"--[a-z][a-z.-]*[a-z]", text))


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What each verb's help says."""
    script = (
        "import contextlib, io, json, sys\n"
        "from training.cli.main import VERBS, main\n"
        "said = {}\n"
        "recipes = [['train', name] for name in ('pointer_chase', 'bytes', 'lm')]\n"
        "for words in [[verb] for verb in VERBS] + recipes:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        main([*words, '--help'])\n"
        "    said[' '.join(words)] = out.getvalue()\n"
        "print(json.dumps(said))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(ended.stdout)


def test_every_verb_has_its_section_and_its_line():
    assert re.findall(r"^\| \[`(\w+)`\]\(#\1\)", PAGE, flags=re.M) == list(VERBS)
    assert re.findall(r"^## (\w+)$", PAGE, flags=re.M) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_flags_that_are_named_exist(verb: str, helps: dict[str, str]):
    said = helps[verb]
    if verb in OF_TRAIN:
        said += helps["train pointer_chase"] + helps["train bytes"] + helps["train lm"]
    assert flags(section(verb)) <= flags(said)


def test_the_check_sees_a_flag_that_is_not_there():
    assert flags("`--loop.max-steps`, `--to` -- --num_gpus 2") == {"--loop.max-steps", "--to"}


def test_the_completion_completes(tmp_path: Path):
    (function,) = re.findall(r"^```bash\n(_ponder.*?)^```", PAGE, flags=re.M | re.S)
    script = f"""{function}
ponder() {{ echo "$@" >>asked; printf ' --png PATH\\n --html PATH\\n'; }}
try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _ponder; echo "${{COMPREPLY[@]}}"; }}
try ponder ''; try ponder ca; try ponder show --; try ponder show --h; try ponder show ask
"""
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    verbs, one, both, html, file = ended.stdout.splitlines()
    assert verbs.split() == list(VERBS)
    assert (one, both, html, file) == ("calibrate", "--html --png", "--html", "asked")
    assert (tmp_path / "asked").read_text() == "show --help\n"
