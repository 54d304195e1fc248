"""What all benchmarks take, and how they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.cli import (
    finish,
    make_parser,
    make_training_parser,
    open_rows,
    results_file,
    seeds_of,
)
from benchmarks.harness.digest import ROOT
from benchmarks.harness.report import Figure, extent
from benchmarks.harness.rows import RESULTS

GOOD = Figure("accuracy", 0.99, "≥ 0.98", True)
BAD = Figure("steps", None, "≥ 1.5", False)


def test_where_rows_are_kept(tmp_path: Path):
    parser = make_parser("some", "About.", quick="little")
    assert results_file("a.npz", parser.parse_args([])) == RESULTS / "a.npz"
    assert results_file("a.npz", parser.parse_args(["--quick"])) is None
    words = ["--results", str(tmp_path)]
    assert results_file("a.npz", parser.parse_args(words)) == tmp_path / "a.npz"
    quick = parser.parse_args([*words, "--quick"])
    assert results_file("a.npz", quick) == tmp_path / "a-quick.npz"
    open_rows("a", quick, "code").add({"name": "x"})
    assert open_rows("a", quick, "code").find(name="x") is not None
    assert open_rows("a", parser.parse_args(words), "code").find(name="x") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a-quick.jsonl"]


def test_how_a_benchmark_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    parser = make_parser("some", "About.", quick="little", rows=False)
    path = tmp_path / "figures.json"
    assert finish(parser.parse_args(["--json", str(path)]), [GOOD, BAD]) == 1
    assert [each["met"] for each in json.loads(path.read_text())] == [True, False]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("0.99  ≥ 0.98     met") and lines[-1].endswith("–   ≥ 1.5  MISSED")
    quick = parser.parse_args(["--quick"])
    assert finish(quick, [BAD]) == 0 and finish(quick, [BAD], judges_quick=True) == 1
    assert finish(parser.parse_args([]), [GOOD]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seeds", "0"], "0 is less than 1"),
        (["--workers", "few"], "invalid"),
        (["--kept", "--again"], "not allowed"),
    ],
)
def test_what_trainings_cannot_be_asked_for(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        make_training_parser("some", "About.").parse_args(words)
    assert says in capsys.readouterr().err


def test_quick_is_one_seed():
    parser = make_training_parser("some", "About.", seeds=4)
    assert list(seeds_of(parser.parse_args([]))) == [0, 1, 2, 3]
    assert list(seeds_of(parser.parse_args(["--quick"]))) == [0]


def test_the_least_and_the_most():
    assert extent([2.0, None, 1.0], ".1f") == "1.0 … 2.0"
    assert extent([1.01, 1.02], ".1f") == "1.0" and extent([None], ".1f") == "–"


QUESTIONS = sorted(
    path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*/benchmark.py")
)


def test_every_question_has_a_readme_that_says_its_command():
    assert len(QUESTIONS) >= 12
    for folder in [*QUESTIONS, "benchmarks/maps"]:
        text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
        assert f"python -m {folder.replace('/', '.')}" in text, folder
        for part in ("**Question.**", "**Prints.**", "**Target.**", "**Where it stands.**"):
            assert part in text, f"{folder}: {part}"


def test_every_benchmark_starts_from_its_name():
    """In one process: each takes some seconds to import what it measures."""
    names = [folder.replace("/", ".") for folder in QUESTIONS]
    names += ["benchmarks.maps.page", "benchmarks.maps.recording", "benchmarks.compute.kernels"]
    script = (
        "import contextlib, io, runpy, sys\n"
        f"for name in {names!r}:\n"
        "    sys.argv = [name, '--help']\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):\n"
        "        runpy.run_module(name, run_name='__main__')\n"
        "    print(name if f'python -m {name} ' in said.getvalue() else f'{name}: no help')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split("\n")[:-1] == names
