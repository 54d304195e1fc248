"""What a rule's name alone gives, and which parts are refused together before anything is
written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from halting import DeepSupervision, EveryStep, MinSteps, OneAhead, UsageError
from tests.training.small_runs import small
from training.build import build_all, build_cost, build_model, build_rule, build_task
from training.config.parts import ROLES
from training.ponder_penalty import coefficient
from training.recipes.load import load_recipe, recipe_names
from training.train import main

GATED = sorted(set(ROLES["halting"].names) - {"FixedSteps", "ConvergenceExit", "ConfidenceExit"})


def built(folder: Path, rule: str, **changes: Any) -> Any:
    return build_all(small(folder, **{"halting": {"kind": rule}, "penalty": {}, **changes}))


@pytest.mark.parametrize("rule", GATED)
def test_naming_a_rule_is_enough_from_python_too(tmp_path: Path, rule: str) -> None:
    config = small(tmp_path, halting={"kind": rule}, penalty={})
    made = build_all(config)
    cls = type(made.model.recurrence.rule)
    assert cls.__name__ == rule
    assert type(made.model.recurrence.readout) is cls.default_readout
    assert type(made.cost) is cls.default_cost
    assert config.penalty.value is None and config.penalty.warmup == 0
    assert coefficient(config.penalty.value, made.cost) == cls.default_cost.default_penalty


def test_a_penalty_that_is_given_stays() -> None:
    config = load_recipe("pointer_chase")
    assert (
        config.penalty.value == 0.01
        and coefficient(config.penalty.value, build_all(config).cost) == 0.01
    )
    assert coefficient(config.penalty.value, None) == 0


def test_a_cost_brings_the_readout_that_it_is_meant_for(tmp_path: Path) -> None:
    made = built(tmp_path, "ExitGate", cost={"kind": "GateTarget"})
    assert isinstance(made.model.recurrence.readout, DeepSupervision)
    made = built(tmp_path, "ExitGate", cost={"kind": "GateTarget"}, readout={"kind": "EveryStep"})
    assert isinstance(made.model.recurrence.readout, EveryStep)


@pytest.mark.parametrize(
    ("rule", "changes", "words"),
    [
        (
            "GravesACT",
            {"cost": {"kind": "TopKTarget"}},
            "TopKTarget finds no choice_logit.*what GravesACT says",
        ),
        (
            "GravesACT",
            {"cost": {"kind": "GateTarget"}},
            "GateTarget finds no exit_logit.*Use ExitGate",
        ),
        (
            "PonderNet",
            {"cost": {"kind": "UpdatesPlusRemainder"}},
            "finds no update and no remainder",
        ),
        (
            "ConfidenceExit",
            {"cost": {"kind": "SameAnswer"}},
            "finds no same_logit.*Use EarlyExitClassifier",
        ),
        (
            "CorrectnessHalt",
            {"cost": {"kind": "QLearning"}},
            "finds no q_halt and no q_continue and no value",
        ),
        ("QHalt", {"cost": {"kind": "ExpectedSteps"}}, "needs a rule that spreads its mass"),
        (
            "QHalt",
            {"readout": {"kind": "FinalState"}},
            "needs the answer of every step.*kind DeepSupervision",
        ),
        (
            "GravesACT",
            {"readout": {"kind": "FinalState"}, "penalty": {"value": 0}},
            "Nothing would train GravesACT",
        ),
        (
            "QHalt",
            {"penalty": {"value": 0}},
            "Nothing would train QHalt: its cost has the penalty 0",
        ),
        (
            "UniversalTransformerACT",
            {"readout": {"kind": "WeightedMean"}, "penalty": {"value": 0}},
            "Nothing would train UniversalTransformerACT.*under WeightedMean",
        ),
        (
            "ExpertChoiceRouter",
            {"halting": {"kind": "ExpertChoiceRouter", "min_steps": 2}},
            "MinSteps cannot wrap",
        ),
        (
            "ExpertChoiceRouter",
            {"halting": {"kind": "ExpertChoiceRouter", "per_sequence": True}},
            "PerSequence cannot wrap ExpertChoiceRouter",
        ),
        (
            "TokenChoiceRouter",
            {"halting": {"kind": "TokenChoiceRouter", "one_ahead": True}},
            "OneAhead cannot wrap TokenChoiceRouter.*Drop --halting.one-ahead",
        ),
        (
            "GravesACT",
            {"cost": {"kind": "NextStepHelps"}},
            "NextStepHelps finds no helps_logit.*Use LookaheadDepth",
        ),
        (
            "GravesACT",
            {
                "halting": {"kind": "GravesACT", "one_ahead": True},
                "penalty": {"target_steps": "1.5"},
            },
            "below 2.*--halting.one-ahead",
        ),
        (
            "ExpertChoiceRouter",
            {"loop": {"max_steps": 4, "backprop": "one_step"}},
            r"Truncated\(every=1\) cannot cut the gradient under ExpertChoiceRouter",
        ),
        (
            "ExitGate",
            {"loop": {"max_steps": 4, "backprop": "truncated_last", "last_steps": 2}},
            r"LastSteps\(steps=2\) cannot leave out the first steps under ExitGate with EveryStep",
        ),
        (
            "EarlyExitClassifier",
            {"loop": {"max_steps": 4, "backprop": "truncated_last", "last_steps": 2}},
            "cannot leave out the first steps under EarlyExitClassifier with DeepSupervision",
        ),
    ],
)
def test_parts_that_cannot_work_together(
    tmp_path: Path, rule: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        built(tmp_path, rule, **changes)
    assert caught.value.what and caught.value.why and caught.value.write


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("GravesACT", {"penalty": {"value": 0}}),
        ("PonderNet", {"penalty": {"value": 0}}),
        ("UniversalTransformerACT", {"penalty": {"value": 0}}),
        ("TokenChoiceRouter", {"penalty": {"value": 0}}),
        ("ExpertChoiceRouter", {"penalty": {"value": 0}}),
        ("GravesACT", {"readout": {"kind": "FinalState"}}),
        ("FixedSteps", {"loop": {"max_steps": 4, "backprop": "truncated_last", "last_steps": 2}}),
        (
            "FixedSteps",
            {
                "halting": {"kind": "FixedSteps", "options": {"steps": 2}, "min_steps": 3},
                "loop": {"max_steps": 4, "backprop": "truncated_last"},
            },
        ),
        ("TokenChoiceRouter", {"loop": {"max_steps": 4, "backprop": "one_step"}}),
        (
            "TokenChoiceRouter",
            {"halting": {"kind": "TokenChoiceRouter", "per_sequence": True, "min_steps": 2}},
        ),
    ],
)
def test_parts_that_can(tmp_path: Path, rule: str, changes: dict[str, Any]) -> None:
    built(tmp_path, rule, **changes)


def test_what_is_refused_leaves_no_run_folder(tmp_path: Path) -> None:
    wrong = [
        "--halting.kind",
        "ConfidenceExit",
        "--cost.kind",
        "SameAnswer",
        "--output",
        str(tmp_path),
    ]
    with pytest.raises(UsageError, match="finds no same_logit"):
        main(["pointer_chase", *wrong])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_raise_slowly_a_penalty_that_presses_to_stop(name: str) -> None:
    """A penalty that bites before the task is learned teaches to stop at once."""
    config = load_recipe(name)
    cost = build_cost(config, build_rule(config))
    assert cost is None or not cost.warms_up or config.penalty.warmup > 0


@pytest.mark.parametrize("min_steps", [1, 2, 3])
def test_one_ahead_lies_outside_and_keeps_the_first_step_at_which_a_token_may_leave(
    tmp_path: Path, min_steps: int
) -> None:
    halting = {"kind": "FixedSteps", "options": {"steps": 1}, "min_steps": min_steps}
    model = built(tmp_path, "FixedSteps", halting={**halting, "one_ahead": True}).model
    rule = model.recurrence.rule
    assert isinstance(rule, OneAhead) and isinstance(rule.rule, MinSteps) == (min_steps > 2)
    steps = model(torch.zeros(1, 3, dtype=torch.int64)).trace.steps
    assert (steps == max(min_steps, 2)).all()


def test_distillation_of_an_exit_trains_the_gate_of_a_frozen_model_alone() -> None:
    config = load_recipe("bytes_distilled")
    with pytest.raises(UsageError, match="--train-only rule comes without --start-from"):
        build_model(config, build_task(config))
    model, cost = build_model(config.replace(start_from="runs/deep"), build_task(config))
    learn = [name for name, each in model.named_parameters() if each.requires_grad]
    assert learn == ["recurrence.rule.gate.weight", "recurrence.rule.gate.bias"]
    assert type(cost).__name__ == "TeacherExit" and model.recurrence.head is not None
