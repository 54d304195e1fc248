"""The house's laws about files and imports. Each check has a test that it can fail."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from check_file_length import LIMIT, main, too_long
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement

from halting import StepDecision, settle

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("act", "halting", "training")
KNOW_RANKS = ("training/engine/", "training/distributed/")
"""The only places that import DeepSpeed or torch.distributed."""
NAMED_AS_THE_FIELD_DOES = {"halting/trace.py"}
"""Nothing runs as a script from halting/, so its folder is never first on the path, and hides
nothing."""


def source_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def hides_another(path: Path) -> bool:
    """Whether a module has a standard-library name, or `kernels`: transformers imports any file of
    that name."""
    return path.stem in {*sys.stdlib_module_names, "kernels"} - {"__init__", "__main__"}


def imports_of_ranks(source: str) -> list[str]:
    """The lines that reach for DeepSpeed or torch.distributed, wherever in the file they stand."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        if any(re.match(r"(deepspeed|torch\.distributed)(\.|$)", name) for name in names):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def lint_imports(root: Path) -> tuple[int, str]:
    """import-linter's verdict on the packages below a folder: its exit code and its report."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    arguments = [sys.executable, "-c", command, "--no-cache", "--no-logo"]
    ended = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != project["name"]]


def test_no_file_is_longer_than_the_limit():
    assert too_long(ROOT) == []


@pytest.mark.parametrize(
    ("name", "lines", "code"),
    [
        ("a.py", LIMIT, 0),
        ("a.py", LIMIT + 1, 1),
        ("deep/down/a.html", LIMIT + 1, 1),
        ("tests/test_a.py", LIMIT + 1, 1),
        ("a.md", LIMIT + 1, 0),
        (".venv/a.py", LIMIT + 1, 0),
        ("runs/a.py", LIMIT + 1, 0),
    ],
)
def test_the_length_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, lines: int, code: int
):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x\n" * lines)
    assert main([str(tmp_path)]) == code
    assert (name in capsys.readouterr().out) == bool(code)


def test_the_length_check_leaves_generated_files_out(tmp_path: Path):
    (tmp_path / "a.py").write_text("# @generated\n" + "x\n" * LIMIT)
    assert too_long(tmp_path) == []


def test_test_folders_are_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_module_hides_another():
    files = source_files(*PACKAGES, "tests", "tools")
    hiding = {str(path.relative_to(ROOT)) for path in files if hides_another(path)}
    assert hiding <= NAMED_AS_THE_FIELD_DOES


@pytest.mark.parametrize(
    ("name", "hides"), [("profile.py", True), ("kernels.py", True), ("__init__.py", False)]
)
def test_the_name_check(name: str, hides: bool):
    assert hides_another(Path("training", name)) == hides


def test_imports_keep_the_contracts():
    code, report = lint_imports(ROOT)
    assert code == 0, report


def test_every_contract_can_be_broken(tmp_path: Path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file, line in {
        "halting/mass.py": "import act.blocks.block",
        "act/blocks/block.py": "import deepspeed",
        "act/caches/cache.py": "import act.loop.recurrence",
        "act/models/looped_transformer.py": "import act.testing.naive",
        "halting/rules/graves_act.py": "import halting.rules.ponder_net",
        "halting/costs/cost.py": "import halting.rules.graves_act",
        "halting/maps/viewers/caption.py": "import torch",
        "training/runs/loaded.py": "def late():\n    import training.exits.exit",
    }.items():
        with (tmp_path / file).open("a") as source:
            source.write(f"\n{line}\n")
    code, report = lint_imports(tmp_path)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    assert code == 1
    assert [
        contract["name"] for contract in contracts if f"{contract['name']} BROKEN" not in report
    ] == [], report


def test_only_engine_and_distributed_know_ranks():
    elsewhere = {}
    for path in source_files(*PACKAGES):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(KNOW_RANKS) and (found := imports_of_ranks(path.read_text())):
            elsewhere[name] = found
    assert elsewhere == {}


@pytest.mark.parametrize(
    ("source", "finds"),
    [
        ("import deepspeed", True),
        ("def late():\n    from deepspeed.ops import adam", True),
        ("import torch.distributed as dist", True),
        ("from torch import nn, distributed", True),
        ("from torch.distributed import all_reduce", True),
        ("import torch\ntorch.distributed.barrier()", True),
        (
            "from training.engine import "
            "start\nconfig.deepspeed_config\ntorch.distributions.Normal",
            False,
        ),
    ],
)
def test_the_rank_check(source: str, finds: bool):
    assert bool(imports_of_ranks(source)) == finds


def test_slow_libraries_are_imported_late():
    viewers = "halting.maps.viewers.picture.map, halting.maps.viewers.terminal.map"
    modules = f"act, halting, halting.maps.ponder_map, {viewers}, training.engine"
    slow = "{'deepspeed', 'matplotlib', 'scipy', 'tensorboard', 'pytest'}"
    script = f"import sys, {modules}; print(*sorted({slow} & sys.modules.keys()))"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == []


def test_shapes_in_signatures_are_checked():
    one = torch.ones(2)
    decision = StepDecision(mass=one, halt=one.bool(), score=one)
    assert settle(decision, one, True)[0].tolist() == [1, 1]
    with pytest.raises(TypeCheckError):
        settle(decision, torch.ones(2, 3), True)
    with pytest.raises(TypeCheckError):
        StepDecision(mass=one, halt=torch.ones(3, dtype=torch.bool), score=one)


def test_constraints_pin_what_the_project_requires():
    pins = pinned()
    unpinned = [
        str(wanted)
        for wanted in required()
        if pins.get(wanted.name.lower(), "none") not in wanted.specifier
    ]
    assert unpinned == []
    assert [f"{name}=={version}" for name, version in pins.items() if "+" in version] == [], (
        "a local build"
    )
