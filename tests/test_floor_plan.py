"""The floor plan: no import circle at module level, and rooms that a person can take in at a
glance. Each check has a test that it can fail."""

import ast
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from check_file_length import NAMES, main, too_full

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("act", "halting", "training")


def modules_below(root: Path) -> dict[str, Path]:
    """The files of the packages by the names under which they are imported."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    names = [path.relative_to(root).with_suffix("").parts for path in files]
    return {
        ".".join(name[:-1] if name[-1] == "__init__" else name): path
        for name, path in zip(names, files, strict=True)
    }


def imported_at_once(statements: list[ast.stmt], modules: Container[str]) -> Iterator[str]:
    """The modules that are imported while a module itself is: none inside functions, and none that
    are for type checkers alone."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                if name in modules or node.module in modules:
                    yield name if name in modules else node.module
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imported_at_once(node.orelse, modules)
        else:
            if isinstance(node, ast.Try):
                for handler in node.handlers:
                    yield from imported_at_once(handler.body, modules)
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
                for part in ("body", "orelse", "finalbody"):
                    yield from imported_at_once(getattr(node, part, []), modules)


def import_circle(root: Path) -> list[str]:
    """The modules of one import circle, each imported by the next; empty where there is none."""
    modules = modules_below(root)
    graph = {
        name: set(imported_at_once(ast.parse(path.read_text("utf-8")).body, modules)) - {name}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others():
    assert len(modules_below(ROOT)) > 300
    assert import_circle(ROOT) == []


@pytest.mark.parametrize(
    ("line", "circle"),
    [
        ("import training.b", True),
        ("from training import b", True),
        ("from training.b import B", True),
        ("from training import b, nothing", True),
        ("try:\n    import training.b\nexcept ImportError:\n    pass", True),
        ("def late():\n    import training.b", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import training.b", False),
    ],
)
def test_the_circle_check(tmp_path: Path, line: str, circle: bool):
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "a.py").write_text(line + "\n")
    (folder / "b.py").write_text("from training.c import C\n")
    (folder / "c.py").write_text("import training.a\n")
    found = import_circle(tmp_path)
    assert bool(found) == circle
    assert set(found) == ({"training.a", "training.b", "training.c"} if circle else set())


def test_no_folder_of_the_product_lists_more_names_than_a_glance_takes_in():
    assert too_full(ROOT) == []


@pytest.mark.parametrize(
    ("folder", "names", "code"),
    [
        ("training/loop", NAMES, 0),
        ("training/loop", NAMES + 1, 1),
        ("act", NAMES + 1, 1),
        ("tests", NAMES + 1, 0),
    ],
)
def test_the_folder_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, names: int, code: int
):
    (tmp_path / folder / "__pycache__").mkdir(parents=True)
    for number in range(names):
        (tmp_path / folder / f"name_{number}.py").touch()
    assert main([str(tmp_path)]) == code
    assert (f"{folder}: {names} names" in capsys.readouterr().out) == bool(code)
