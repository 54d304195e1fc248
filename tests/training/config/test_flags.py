"""Flags: every field of a RunConfig and every option of the chosen parts is one; misspelt ones stop
before any work."""

import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest

from halting import ExpectedSteps, FinalState, HaltingRule, PonderCost, UsageError, WeightedMean
from training.config.flags import parse
from training.config.model_part import ModelPart
from training.config.parts import ROLES
from training.config.record import Record, flag_name
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, Part
from training.recipes.load import load_recipe
from training.tasks import PointerChase


class Prior(PonderCost):
    """A cost with an option.

    Args:
        prior_steps: where the prior
            expects the exit.
    """

    def __init__(self, prior_steps: float = 3.0):
        self.prior_steps = prior_steps


class Geometric(HaltingRule):
    """A rule that brings its own readout and cost.

    Args:
        dim: D.
        bias_init: starting logit.
        mode: one of two.
        hard: whether it is.
    """

    default_readout = FinalState
    default_cost = Prior

    def __init__(
        self, dim: int, bias_init: float = 0.0, mode: Literal["a", "b"] = "a", hard: bool = False
    ):
        super().__init__()


class Costless(HaltingRule):
    """A rule without a cost."""

    default_readout = WeightedMean

    def __init__(self, depth: int = 2):
        super().__init__()


class Colliding(HaltingRule):
    """A rule with an argument that is a flag already."""

    default_readout = WeightedMean

    def __init__(self, min_steps: int = 2):
        super().__init__()


class Chase(PointerChase):
    """Follow pointers."""

    def __init__(self, length: int = 16, hops: tuple[int, ...] = (1, 2), seed: int = 0):
        super().__init__(length, seed=seed)
        self.hops = hops


class Reading(Chase):
    """Read a text."""

    def __init__(self, text: str):
        super().__init__()


def here(cls: type) -> str:
    return f"{cls.__module__}:{cls.__name__}"


RECIPE = RunConfig(
    recipe="chase",
    updates=9,
    halting=HaltingPart(kind=here(Geometric), options={"bias_init": -1.0}, min_steps=2),
    readout=Part(kind="WeightedMean"),
    cost=Part(kind=here(Prior), options={"prior_steps": 4.0}),
    data=Part(kind=here(Chase), options={"length": 8, "hops": [3]}),
)
PLAIN = RunConfig(
    recipe="plain",
    halting=HaltingPart(kind=here(Geometric)),
    data=Part(kind=here(Chase)),
    time_limit=60,
)


def parsed(*argv: str, recipe: RunConfig = RECIPE) -> RunConfig:
    return parse(recipe, argv)


JUDGING = ("best_by", "patience")
"""What goes only with one another, or takes a few names only: tests of their own."""


def leaves(
    record: type[Record], path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], Any, Any]]:
    """Path, type and default of every field that no part fills."""
    found = []
    for name, info in record.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Record):
            if info.annotation not in (Part, ModelPart):
                found += leaves(info.annotation, (*path, name))
        elif name not in ("recipe", "deepspeed", "readout", "cost", "kind", "options", *JUDGING):
            default = info.get_default(call_default_factory=True, validated_data={})
            found.append(((*path, name), info.annotation, default))
    return found


def another(annotation: Any, default: Any) -> tuple[Any, list[str]]:
    """A value of a type that is not the default, and how it is written."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    if typing.get_origin(annotation) is Literal:
        value = next(choice for choice in typing.get_args(annotation) if choice != default)
    elif typing.get_origin(annotation) is tuple:
        if float in typing.get_args(annotation):
            return (1.0, 2.0), ["1", "2"]
        inner = typing.get_args(annotation)[0]
        words = (
            list(typing.get_args(inner)[:2]) if typing.get_origin(inner) is Literal else ["a", "b"]
        )
        return tuple(words), words
    elif annotation is int:
        value = 2 * default if default else 2
    else:
        value = default / 2 if default and annotation is float else annotation(2)
    return value, [str(value)]


@pytest.mark.parametrize(
    ("path", "annotation", "default"),
    [pytest.param(*leaf, id=".".join(leaf[0])) for leaf in leaves(RunConfig)],
)
def test_every_field_is_a_flag_and_a_key(path: tuple[str, ...], annotation: Any, default: Any):
    flag = flag_name(*path)
    if annotation is bool:
        value, argv = not default, [flag]
    else:
        value, words = another(annotation, default)
        argv = [flag, *words]
    config = parsed(*argv, recipe=PLAIN)
    assert config != PLAIN
    assert config == parsed(
        *(argv[0].replace("-", "_").replace("__", "--", 1), *argv[1:]), recipe=PLAIN
    )
    for again in (config, RunConfig.from_json(config.to_json())):
        found: Any = again
        for name in path:
            found = getattr(found, name)
        assert found == value


def test_every_field_of_the_model_has_been_asked():
    groups = {path[0] for path, _, _ in leaves(RunConfig)} | set(ROLES) | {"recipe", "deepspeed"}
    assert groups == set(RunConfig.model_fields)


def test_judging_is_flags_and_keys():
    config = parsed("--best-by", "loss", "--patience", "3")
    for again in (config, RunConfig.from_json(config.to_json())):
        assert (again.evaluation.best_by, again.evaluation.patience) == ("loss", 3)


def test_no_flags_change_nothing():
    assert parsed() == RECIPE
    assert parsed(recipe=PLAIN) == PLAIN


@pytest.mark.parametrize(
    "argv",
    [["--halting.bias-init", "-3"], ["--halting.bias_init=-3"], ["--halting.bias-init", "-3e0"]],
)
def test_negative_numbers_are_values(argv: list[str]):
    assert parsed(*argv).halting.options == {"bias_init": -3.0}


def test_options_of_parts_are_flags():
    config = parsed(
        "--halting.mode", "b", "--halting.hard", "--cost.prior-steps", "5", "--data.hops", "4", "5"
    )
    assert config.halting.options == {"bias_init": -1.0, "mode": "b", "hard": True}
    assert config.cost == Part(kind=here(Prior), options={"prior_steps": 5.0})
    assert config.data.options == {"length": 8, "hops": [4, 5]}
    assert parsed("--halting.no-hard").halting.options == {"bias_init": -1.0, "hard": False}


def test_options_of_model_and_block_are_flags_of_one_group():
    config = parsed("--model.width", "32", "--model.num-layers", "2", "--model.no-tie-embeddings")
    assert config.model.options == {"width": 32, "num_layers": 2, "tie_embeddings": False}
    assert config.model.values()["injection"] == "concat", "what the model would have of its block"
    cell = parsed("--model.block", "GRUBlock", recipe=config)
    assert cell.model == ModelPart(block="GRUBlock", width=32, tie_embeddings=False)
    layer = ["--model.block", "torch.nn:TransformerEncoderLayer", "--model.nhead", "2"]
    wrapped = parsed(*layer, "--model.batch-first", "--model.positionwise").model
    assert wrapped.options == {"nhead": 2, "batch_first": True, "positionwise": True}
    assert RunConfig.from_json(config.to_json()) == config


def test_a_required_option_of_a_block_is_asked_for(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        parsed("--model.block", "torch.nn:TransformerEncoderLayer")
    assert leaving.value.code == 2
    assert "--model.nhead INT" in capsys.readouterr().err


def test_an_option_given_at_its_default_is_kept():
    assert parsed("--halting.mode=a", recipe=PLAIN).halting.options == {"mode": "a"}


def test_another_rule_drops_the_recipes_options_readout_and_cost():
    config = parsed("--halting.kind", "GravesACT", "--halting.bias-init", "-2")
    assert config.halting == HaltingPart(kind="GravesACT", options={"bias_init": -2.0}, min_steps=2)
    assert config.readout is None and config.cost is None


def test_another_rule_with_a_cost_in_the_flags_keeps_that():
    config = parsed(
        "--halting.kind", "GravesACT", "--cost.kind", "ExpectedSteps", "--readout.kind=EveryStep"
    )
    assert config.cost == Part(kind="ExpectedSteps") and config.readout == Part(kind="EveryStep")


def test_the_same_rule_spelt_again_drops_nothing():
    assert parsed("--halting.kind", here(Geometric)) == RECIPE


def test_another_task_drops_the_options_of_the_old_one():
    config = parsed("--data.kind", here(Reading), "--data.text", "corpus.txt")
    assert config.data == Part(kind=here(Reading), options={"text": "corpus.txt"})
    assert config.cost == RECIPE.cost


def test_the_rules_own_cost_has_flags_without_being_named():
    assert parsed("--updates", "3", recipe=PLAIN).cost is None
    cost = parsed("--cost.prior-steps", "3", recipe=PLAIN).cost
    assert cost is not None and cost.options == {"prior_steps": 3.0}
    assert ROLES["cost"].holds(ExpectedSteps)
    assert parsed("--cost.kind", cost.kind, "--cost.prior-steps", "3", recipe=PLAIN).cost == cost


def test_none_gives_the_rules_own_cost_back():
    assert parsed("--cost.kind", "None").cost is None
    assert parsed("--halting.kind", here(Costless), "--halting.depth", "3").halting.options == {
        "depth": 3
    }


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["--optimizer.lerning-rate", "1"], "--optimizer.learning-rate"),
        (["--halting.bias-inti", "-3"], "--halting.bias-init"),
        (["--halting.knid", "GravesACT"], "--halting.kind"),
        (["--cost.prior-step", "5"], "--cost.prior-steps"),
        (["--data.lenght", "5"], "--data.length"),
        (["--prior-steps", "5"], "--cost.prior-steps"),
        (["--updats", "5"], "--updates"),
    ],
)
def test_an_unknown_flag_names_the_one_that_was_meant(
    argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as leaving:
        parsed(*argv)
    assert leaving.value.code == 2
    message = capsys.readouterr().err
    assert argv[0] in message and f"{meant} " in message.partition("Perhaps you meant")[2]


@pytest.mark.parametrize(
    "argv",
    [
        ["--updates", "many"],
        ["--updates"],
        ["--halting.kind"],
        ["--halting.mode", "c"],
        ["stray"],
        ["--halting.steps", "3"],
    ],
)
def test_what_cannot_be_parsed_leaves_with_2(argv: list[str]):
    with pytest.raises(SystemExit) as leaving:
        parsed(*argv)
    assert leaving.value.code == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--updates", "0"], "--updates is 0"),
        (["--penalty.value", "nan"], "--penalty.value is nan"),
        (["--loop.max-steps", "0"], "--loop.max-steps is 0"),
        (["--halting.bias-init", "nan"], "JSON"),
        (["--halting.kind", "GravesATC"], "Did you mean GravesACT?"),
        (["--halting.kind", "None"], "no halting rule of this name"),
        (["--halting.kind", "ExpectedSteps"], "is a ponder cost, not a halting rule"),
        (["--cost.kind", "GravesACT"], "is a halting rule, not a ponder cost"),
        (["--halting.kind", here(Colliding)], "--halting.min-steps already means something else"),
        (["--model.width", "66"], "dim 66 cannot be divided among num_heads=4"),
        (["--model.block", "Blok"], "--model.block Blok: there is no block of this name"),
        (["--model.block", "halting:GravesACT"], "is a halting rule, not a block"),
        (["--model.kind", "Block"], "is something else, not a model"),
        (
            ["--model.block", "torch.nn:TransformerEncoder"],
            "cannot be built from a config: it needs",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_in_three_parts(argv: list[str], words: str):
    with pytest.raises(UsageError) as refusal:
        parsed(*argv)
    assert words in str(refusal.value)


def test_a_required_option_is_asked_for(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        parsed("--data.kind", here(Reading))
    assert leaving.value.code == 2
    assert "--data.text STR" in capsys.readouterr().err


def test_a_rule_in_a_file_brings_its_cost_and_its_flags(tmp_path: Path):
    path = tmp_path / "flagged_rule.py"
    path.write_text(
        "from halting import FinalState, HaltingRule, PonderCost\n"
        "class Toll(PonderCost):\n    def __init__(self, rate: float = 1.0): ...\n"
        "class Mine(HaltingRule):\n    default_readout, default_cost = FinalState, Toll\n"
        "    def __init__(self, patience: int = 3): ...\n"
    )
    config = parsed("--halting.kind", f"{path}:Mine", "--halting.patience", "4", "--cost.rate", "2")
    assert config.halting.options == {"patience": 4}
    assert config.cost == Part(kind=f"{path}:Toll", options={"rate": 2.0})
    assert RunConfig.from_json(config.to_json()) == config


def test_help_has_a_section_for_every_group(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        parsed("--help")
    assert leaving.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for group in ("model", "loop", "halting", "readout", "cost", "data", "optimizer", "penalty"):
        assert f"{group} options" in text
    assert "The ponder cost Prior: A cost with an option." in text
    assert "where the prior expects the exit (default: 4.0)" in text
    assert "starting logit (default: -1.0)" in text
    assert "(default: 9)" in text


def test_two_dashes_are_no_value() -> None:
    """The parser would drop them, and set a switch that was given none."""
    with pytest.raises(UsageError, match="--model.tie-embeddings=-- has no value"):
        parse(load_recipe("parity"), ["--model.tie-embeddings=--"])
