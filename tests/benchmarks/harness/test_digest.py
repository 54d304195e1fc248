"""A digest changes with every byte and path of the code that it is of, and with nothing else."""

from pathlib import Path

import pytest

from benchmarks.harness.digest import PACKAGES, code_digest
from halting.errors import UsageError


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "package" / "deep").mkdir(parents=True)
    (tmp_path / "package" / "a.py").write_text("one = 1\n")
    (tmp_path / "package" / "deep" / "recipe.json").write_text("{}")
    (tmp_path / "alone.py").write_text("two = 2\n")
    return tmp_path


def test_it_depends_on_bytes_paths_and_on_files_that_are_no_python(code: Path):
    def now() -> str:
        return code_digest("package", "alone.py", root=code)

    seen = [now()]
    (code / "alone.py").write_text("two = 3\n")
    seen.append(now())
    (code / "package" / "deep" / "recipe.json").write_text("{ }")
    seen.append(now())
    (code / "package" / "a.py").rename(code / "package" / "b.py")
    seen.append(now())
    (code / "package" / "new.py").write_text("")
    seen.append(now())
    assert len(set(seen)) == 5 and all(len(each) == 12 for each in seen)


def test_it_depends_on_nothing_else(code: Path):
    before = code_digest("package", "alone.py", root=code)
    (code / "other.py").write_text("three = 3\n")
    (code / "package" / "README.md").write_text("A package.")
    (code / "package" / "__pycache__").mkdir()
    (code / "package" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"compiled")
    assert code_digest("alone.py", "package", "package/a.py", root=code) == before


@pytest.mark.parametrize("names", [("moved.py",), ("package", "gone"), ("empty",), ()])
def test_code_that_is_not_there_is_refused(code: Path, names: tuple[str, ...]):
    (code / "empty").mkdir()
    with pytest.raises(UsageError):
        code_digest(*names, root=code)


def test_the_packages_are_there():
    assert len(code_digest(*PACKAGES)) == 12
