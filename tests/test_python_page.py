"""The Python of docs/python.md runs as it stands there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


def test_the_blocks_of_the_page_run_one_after_another(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "curves.png").exists()
    assert len(names["losses"]) == 60 and len(names["accuracy"]) == len(names["when"]) == 3
    assert names["best"].weights.parent.parent.name == "checkpoints"
