"""Parts and recipes are found by name, and built with the options they take."""

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest
from echo_configs import ECHO, Echo, run_config

from halting import FixedSteps, GravesACT, HaltingRule, PonderCost, UsageError
from training.config.parts import (
    ROLES,
    build,
    check_options,
    exported_name,
    resolve,
    role_of,
    signature_fields,
)
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, Part
from training.recipes.load import load_recipe, recipe_names
from training.tasks import Task

RULE = """
from halting import FinalState, HaltingRule, StepDecision
from {sibling} import START

class {name}(HaltingRule):
    '''Never leaves.'''

    default_readout = FinalState

    def __init__(self, dim: int, patience: int = START):
        super().__init__()
        self.dim, self.patience = dim, patience

    def decide(self, view, memory):
        nothing = view.remaining * 0
        return StepDecision(mass=nothing, halt=nothing > 0, score=nothing), memory
"""


RECIPE = f"""
from training.config.sections import Part
from training.config.run_config import RunConfig

def recipe():
    return RunConfig(recipe="mine", updates=7, data=Part(kind="{ECHO}"))

def number():
    return 3
"""


def write_rule(folder: Path, name: str) -> Path:
    """A rule in a file of its own, which imports a sibling."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name.lower()}_sibling.py").write_text("START = 5\n")
    path = folder / f"{name.lower()}_file.py"
    path.write_text(RULE.format(name=name, sibling=f"{name.lower()}_sibling"))
    return path


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_exported_names_resolve_and_list_only_what_a_config_can_hold():
    assert resolve("GravesACT", HaltingRule) is GravesACT
    assert {"GravesACT", "FixedSteps"} <= set(ROLES["halting"].names)
    assert not {"HaltingRule", "MinSteps", "PerSequence", "StepsPlusRemainder"} & set(
        ROLES["halting"].names
    )
    for role in ROLES.values():
        for name in role.names:
            assert exported_name(resolve(name, role.base)) == name


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gravesact", ("no halting rule of this name", "FixedSteps", "Did you mean GravesACT?")),
        ("keep_rows", ("no halting rule of this name",)),
        ("StepsPlusRemainder", ("is a ponder cost, not a halting rule", "subclass of HaltingRule")),
        ("json:JSONDecoder", ("is something else, not a halting rule",)),
        ("json:JSONDecoderr", ("json has no 'JSONDecoderr'", "JSONDecoder")),
        ("no_such_module:Rule", ("no module 'no_such_module'", "path/to/file.py:Name")),
        ("no_such_file.py:Rule", ("no file", "no_such_file.py")),
    ],
)
def test_unknown_and_misplaced_classes_are_refused(kind: str, words: tuple[str, ...]):
    with pytest.raises(UsageError) as refusal:
        resolve(kind, HaltingRule)
    assert f"--halting.kind {kind}" in refusal.value.what
    for word in words:
        assert word in str(refusal.value)


def test_a_module_in_the_current_directory_is_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_rule(tmp_path, "Local")
    monkeypatch.chdir(tmp_path)
    rule = build(Part(kind="local_file:Local"), HaltingRule, dim=8)
    assert type(rule).__name__ == "Local"
    assert exported_name(type(rule)) == f"{tmp_path / 'local_file.py'}:Local"


def test_a_file_is_found_from_any_directory_and_imports_its_siblings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_rule(tmp_path / "rules", "Mine")
    monkeypatch.chdir(tmp_path)
    config = run_config(
        halting=HaltingPart(kind="rules/mine_file.py:Mine", options={"patience": 2})
    )
    monkeypatch.chdir(Path(tmp_path.anchor))
    again = RunConfig.from_json(config.to_json())
    rule: Any = build(again.halting, HaltingRule, dim=8, max_steps=3)
    assert (rule.dim, rule.patience) == (8, 2)
    assert resolve(config.halting.kind, HaltingRule) is type(rule)


def test_a_class_from_a_file_reaches_another_process(tmp_path: Path):
    cls = resolve(f"{write_rule(tmp_path, 'Sent')}:Sent", HaltingRule)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [fields] = pool.map(signature_fields, [cls])
    assert [field.name for field in fields] == ["patience"]


def test_a_file_named_like_an_installed_module_hides_nothing(tmp_path: Path):
    path = write_rule(tmp_path, "Shadow").rename(tmp_path / "halting.py")
    assert resolve(f"{path}:Shadow", HaltingRule).__module__ != "halting"
    assert resolve("GravesACT", HaltingRule) is GravesACT


def test_two_files_of_one_name_are_two_modules(tmp_path: Path):
    kinds = []
    for number, folder in enumerate(("left", "right")):
        path = write_rule(tmp_path / folder, f"Twin{number}")
        kinds.append(f"{path.rename(path.with_name('same_name_file.py'))}:Twin{number}")
    assert [resolve(kind, HaltingRule).__name__ for kind in kinds] == ["Twin0", "Twin1"]


def test_a_file_that_does_not_import_names_its_line(tmp_path: Path):
    path = tmp_path / "broken_file.py"
    path.write_text("first = 1\nsecond = nothing\n")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"NameError.*nothing.*line 2 of .*broken_file.py"):
            resolve(f"{path}:Rule", HaltingRule)


def test_a_module_that_lacks_one_of_its_own_imports_says_so(tmp_path: Path):
    path = tmp_path / "lacking_file.py"
    path.write_text("import not_installed_anywhere\n")
    with pytest.raises(UsageError, match="No module named 'not_installed_anywhere'"):
        resolve(f"{path}:Rule", HaltingRule)


def test_options_are_the_arguments_that_the_run_does_not_give():
    assert [field.name for field in signature_fields(Echo)] == ["length", "sizes", "loud"]
    assert [field.name for field in signature_fields(GravesACT)] == ["bias_init", "epsilon"]
    assert (
        role_of(GravesACT).noun == "halting rule"
        and role_of(PonderCost).flag("prior_steps") == "--cost.prior-steps"
    )


def test_options_arrive_as_the_class_wants_them():
    task = build(Part(kind=ECHO, options={"sizes": [5], "loud": True}), Task, seed=3, vocab_size=2)
    assert isinstance(task, Echo)
    assert (task.sizes, task.loud, task.seed) == ((5,), True, 3)
    rule: Any = build(
        Part(kind="FixedSteps", options={"steps": 3}), HaltingRule, dim=8, max_steps=4
    )
    assert isinstance(rule, FixedSteps) and rule.steps == 3


@pytest.mark.parametrize(
    "options", [{"length": "3"}, {"length": 1.5}, {"sizes": [1, "x"]}, {"loud": 1}, {"seed": 1}]
)
def test_options_of_the_wrong_type_are_refused(options: dict[str, Any]):
    with pytest.raises(UsageError, match=f"--data.{next(iter(options))}"):
        check_options(Echo, options)


class Demanding(Echo):
    """Has an option without a default."""

    def __init__(self, text: str):
        super().__init__()


class Wrapping(HaltingRule):
    """Cannot be written as data."""

    def __init__(self, inner: HaltingRule):
        super().__init__()


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match=r"Demanding lacks its option text.*--data.text STR"):
        check_options(Demanding, {})
    with pytest.raises(UsageError, match="cannot be built from a config: it needs `inner"):
        check_options(Wrapping, {})


def test_every_recipe_of_the_package_loads_and_finds_itself_again():
    for name in recipe_names():
        config = load_recipe(name)
        assert load_recipe(name.replace("_", "-")) == config
        assert load_recipe(config.recipe) == config
        assert RunConfig.from_json(config.to_json()) == config


def test_a_recipe_in_a_file_finds_itself_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_recipe.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    config = load_recipe("my_recipe.py:recipe")
    assert config.updates == 7
    assert load_recipe("my_recipe.py") == config
    assert load_recipe("my_recipe:recipe").recipe == "my_recipe:recipe"
    monkeypatch.chdir(Path(tmp_path.anchor))
    assert load_recipe(config.recipe) == config


def test_recipes_that_are_none_are_refused(tmp_path: Path):
    (tmp_path / "other_recipe.py").write_text(RECIPE)
    with pytest.raises(UsageError, match="There is no recipe nowhere"):
        load_recipe("nowhere")
    with pytest.raises(
        UsageError, match=r"gives 3.*function without arguments that returns a RunConfig"
    ):
        load_recipe(f"{tmp_path}/other_recipe.py:number")
    with pytest.raises(UsageError, match=r"has no 'recipes'.*Did you mean recipe\?"):
        load_recipe(f"{tmp_path}/other_recipe.py:recipes")


def test_a_near_miss_of_a_recipe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "chasing.py").write_text(RECIPE)
    import training.recipes

    monkeypatch.setattr(training.recipes, "__path__", [str(tmp_path)])
    assert recipe_names() == ["chasing"]
    with pytest.raises(UsageError, match=r"Did you mean chasing\?"):
        load_recipe("chassing")
    assert load_recipe("chasing").recipe == "chasing"
