"""What a command imports before it answers. Seconds are not asserted; benchmarks/startup has
them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import halting
from halting import UsageError
from training.cli.main import VERBS
from training.console import extras
from training.console.extras import check_extra

TORCH = ("torch", "numpy", "pydantic", "tyro", "rich")
HEAVY = ("deepspeed", "matplotlib", "optuna", "tensorboard", "scipy", "sqlalchemy", "transformers")


def imported(statement: str, *among: str) -> list[str]:
    """Which of some modules a fresh interpreter has loaded after a statement."""
    script = (
        f"import sys, io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        f"    {statement}\nprint(*sorted({set(among)!r} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return ended.stdout.split()


def answer(*words: str) -> str:
    return f"from training.cli.main import main; main({list(words)!r})"


@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("no_verb",), ("train", "--help"), ("train",)]
)
def test_help_needs_no_torch(words: tuple[str, ...]):
    assert imported(answer(*words), *TORCH, *HEAVY) == []


def test_a_recipes_flags_need_no_heavy_library():
    heavy = (*HEAVY, "training.start", "training.reports")
    assert imported(answer("train", "pointer_chase", "--help"), *heavy) == []


def test_no_verbs_flags_need_a_heavy_library():
    each = f"from training.cli.main import main; [main([verb, '--help']) for verb in {[*VERBS]!r}]"
    assert imported(each, *HEAVY) == []


def test_errors_and_maps_need_no_torch():
    maps = "from halting import PonderMap, UsageError; import halting.maps.viewers.picture.map"
    assert imported(maps, "torch") == []


def test_the_check_sees_what_is_imported():
    assert imported("import json", "json", "torch") == ["json"]


def test_halting_exports_what_it_lists():
    tree = ast.parse(Path(halting.__file__).read_text())
    for_checkers = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert for_checkers == halting._HOMES and set(halting.__all__) == set(halting._HOMES)
    assert all(getattr(getattr(halting, name), "__name__", name) == name for name in for_checkers)
    assert set(halting.__all__) <= set(dir(halting))
    with pytest.raises(AttributeError, match="no attribute 'GravesATC'"):
        _ = halting.GravesATC


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(extras._PACKAGES, "tune", ("no_such_package", "It draws settings"))
    with pytest.raises(UsageError) as refused:
        check_extra("tune", "ponder tune")
    assert refused.value.what.startswith("ponder tune needs the package no_such_package")
    assert refused.value.why.startswith("It draws settings; a plain install")
    assert refused.value.write == "Write pip install 'ponderloop[tune]'."


def test_an_extra_that_is_there_passes():
    check_extra("tune", "ponder tune")
    check_extra("deepspeed", "--deepspeed-config")
