"""Every command of docs/getting_started.md runs, in its order, as it is printed. What pip installs
is tested in tests/test_wheel.py."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def commands(text: str = PAGE) -> list[str]:
    return [line for block in blocks("bash", text) for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command printed, all in one folder that was empty at first."""
    folder = tmp_path_factory.mktemp("first_hour")
    printed = {}
    ponder = [sys.executable, "-m", "training.cli.main"]
    run = [(line, [*ponder, *shlex.split(line)[1:]]) for line in commands() if "pip " not in line]
    run += [(block, [sys.executable, "-c", block]) for block in blocks("python")]
    for line, words in run:
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}\n{ended.stderr}"
        printed[line] = ended.stdout
    assert (folder / "map.html").is_file() and (folder / "my_map.npz").is_file()
    return printed


def test_all_commands_are_ponders_or_pips():
    assert {line.split()[0] for line in commands()} == {"ponder", "pip"}
    assert len(commands()) > 10
    assert commands("```bash\nls\n```\n\n```python\nx\n```\n") == ["ls"]


def test_each_command_answers(outputs: dict[str, str]):
    assert all(text.strip() for text in outputs.values())


def test_it_learns_what_the_page_promises(outputs: dict[str, str]):
    trained = next(text for line, text in outputs.items() if line.startswith("ponder train"))
    (right,) = re.findall(r"accuracy\s+([\d.]+)% of tokens", trained)
    assert float(right) > 95
    swept = next(text for line, text in outputs.items() if line.startswith("ponder tune"))
    assert "★" in swept
