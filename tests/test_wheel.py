"""A wheel of the project installs, trains and shows a ponder map where no clone is near."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "--updates",
    "3",
    "--eval-every",
    "3",
    "--save-every",
    "3",
    "--batch-size",
    "4",
    "--eval-examples",
    "8",
    "--test-examples",
    "8",
    "--data.length",
    "6",
    "--model.width",
    "16",
    "--model.num-heads",
    "2",
    "--loop.max-steps",
    "3",
    "--threads",
    "1",
]
SOURCES = ("act", "halting", "training")
FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints. It doesn't see this clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the clone keeps no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a fresh environment with the wheel in it. The libraries that it requires are
    those of this environment; its editable ponderloop is not among them, as `.pth` files that are
    found through another are not read."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--disable-pip-version-check", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_the_wheel_holds_the_packages_and_the_page(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in SOURCES:
        here = (path for path in (ROOT / package).rglob("*") if path.is_file())
        wanted = {p.relative_to(ROOT).as_posix() for p in here if p.suffix != ".pyc"}
        assert wanted <= names, sorted(wanted - names)
    assert "halting/maps/viewers/page/web/page.html" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_a_clean_environment_trains_and_shows(clean: Path, tmp_path: Path):
    where = run(clean / "python", "-c", "import halting; print(halting.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parent)
    ponder = clean / "ponder"
    assert "pointer_chase" in run(ponder, "recipes", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    run(ponder, "train", "pointer_chase", *SMALL, cwd=tmp_path)
    shown = run(ponder, "show", "runs/pointer_chase-001", "--html", "map.html", cwd=tmp_path)
    assert "map.html" in shown
    assert "<script" in (tmp_path / "map.html").read_text()
