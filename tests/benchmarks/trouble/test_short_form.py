"""Some bad inputs of each kind, in children as the whole benchmark runs them: none of them may be
answered by a traceback, a hang, a stranger's code, a success that no rule allows, or a loss."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.digest import ROOT
from benchmarks.trouble.verdict import FAULTS


def test_some_of_each_kind(tmp_path: Path):
    """In a process of its own: it forks, and nothing else may have started threads there."""
    told = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.trouble", "--quick", "--json", str(told)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert told.exists(), ended.stderr[-2000:]
    figures = {each["figure"]: each["value"] for each in json.loads(told.read_text())}
    assert {fault: figures[f"cases of {fault}"] for fault in FAULTS} == dict.fromkeys(FAULTS, 0), (
        ended.stdout[-3000:]
    )
    assert ended.returncode == 0 and sum(figures.values()) >= 60
