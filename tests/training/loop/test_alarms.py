"""Warnings in plain words: each is heard when it should be, and not otherwise."""

import re
from typing import Any

import pytest
import torch
from small_runs import small, train_only

from halting import FixedSteps
from training.build import build_all
from training.config.flags import parse
from training.config.parts import ROLES
from training.engine.local import LocalEngine
from training.evaluation.evaluate import evaluate
from training.evaluation.tally import Tally
from training.loop.alarms import Alarm, Signs, alarms
from training.loop.gate_gradient import GateGradient, enough, gate_gradient, over_ranks
from training.loop.remedies import deeper_flags, remedies
from training.objectives import CrossEntropy
from training.recipes.load import load_recipe
from training.runs import metrics
from training.tasks.task import Batch


def tally_of(steps: list[int], max_steps: int = 5, difficulty: list[int] | None = None) -> Tally:
    tally = Tally(max_steps)
    tally.steps += torch.bincount(torch.tensor(steps), minlength=max_steps + 1)
    tally.sums[5] = len(steps)
    tally.sums[9] = len(steps)  # one nat of entropy each
    for step, hard in zip(steps, difficulty or [], strict=False):
        tally.joint[hard, step] += 1
        tally.ponder_joint[hard, 16 * step] += 1
        tally.sequences_joint[hard, step] += 1
    return tally


def heard(tally: Tally | list[int], **signs: Any) -> list[Alarm]:
    tally = tally if isinstance(tally, Tally) else tally_of(tally)
    known: dict[str, Any] = {
        "adaptive": True,
        "steps_of_ranks": (2.0,),
        "spreads_mass": True,
        **signs,
    }
    return alarms(Signs(tally, **known))


def said(tally: Tally | list[int], **signs: Any) -> str:
    return "\n".join(alarm.says for alarm in heard(tally, **signs))


MIXED = [1, 2, 3, 4, 5] * 40


def test_a_healthy_run_is_silent():
    gate = GateGradient(0.1, 0.2, 1.0)
    apart = tally_of(MIXED, difficulty=MIXED)
    assert (
        said(
            apart,
            gate=gate,
            steps_of_ranks=(2.0, 3.0),
            settled=True,
            penalty_share=0.9,
            task_share=0.01,
        )
        == ""
    )
    assert said(apart, gate=None, penalty_share=0.1, task_share=0.9) == ""


def test_collapse_to_one_step_is_said_with_the_flag_that_mends():
    (alarm,) = heard([1] * 199 + [2])
    assert (
        "halting collapsed" in alarm.says
        and "--halting.bias-init -3" in alarm.says
        and alarm.collapse
    )
    assert said([1] * 190 + [2] * 10) == ""


def test_collapse_to_another_single_step_is_said_once_the_run_has_settled():
    assert (
        said([3] * 200) == ""
    )  # as every run begins, with a gate that does not look at its token yet
    hard = tally_of([3] * 200)
    hard.sums[9] = 0.05 * 200
    (alarm,) = heard(hard, settled=True)
    assert (
        "halting collapsed to one depth: 100% of tokens stop at step 3" in alarm.says
        and alarm.collapse
    )


@pytest.mark.parametrize("spreads_mass", [True, False])
def test_one_depth_is_no_collapse_while_the_gate_still_learns(spreads_mass):
    (alarm,) = heard([3] * 200, settled=True, spreads_mass=spreads_mass)
    assert (
        "100% of tokens stop at step 3, whatever they are, though the gate still learns"
        in alarm.says
    )
    assert "--updates" in alarm.says and not alarm.collapse
    gone = heard(
        [3] * 200, settled=True, spreads_mass=spreads_mass, gate=GateGradient(None, 0.0, 1.0)
    )
    assert any(alarm.collapse for alarm in gone)
    (exit_only,) = heard([3] * 200, settled=True, spreads_mass=False, learned=False)
    assert "whatever they are; try" in exit_only.says and not exit_only.collapse


def test_a_run_that_never_halts_is_told_once_it_has_settled():
    assert (
        said([5] * 200) == ""
    )  # a bias of -3 begins here, and the alarm of the other end advises it
    (alarm,) = heard([5] * 200, settled=True)
    assert "nothing halts before max_steps" in alarm.says and not alarm.collapse


def test_a_fixed_depth_neither_collapses_nor_fails_to_halt():
    assert (
        said([1] * 200, adaptive=False)
        == said([5] * 200, adaptive=False)
        == said([3] * 200, adaptive=False)
        == ""
    )


def test_a_few_tokens_prove_nothing():
    assert said([1] * 20) == ""


def test_a_penalty_without_gradient_is_told():
    assert "the penalty's gradient is zero" in said(MIXED, gate=GateGradient(0.0, 0.1, 1.0))
    assert (
        said(MIXED, gate=GateGradient(None, 0.1, 1.0))
        == said(MIXED, gate=GateGradient(None, 0.0, 0.0))
        == ""
    )


def test_a_gate_that_nothing_moves_is_told():
    (alarm,) = heard(MIXED, gate=GateGradient(0.0, 1e-9, 1.0))
    assert "the gate's gradient is gone" in alarm.says and alarm.collapse
    assert over_ranks(
        [None, GateGradient(0.0, 0.0, 1.0), GateGradient(0.3, 0.1, 1.0)]
    ) == GateGradient(0.3, 0.1, 1.0)
    assert over_ranks([None]) is None


def test_mass_without_entropy_is_told():
    hard = tally_of(MIXED)
    hard.sums[9] = 0.01 * len(MIXED)
    assert "the exit mass has no entropy left (0.010 nats" in said(
        hard
    ) and "--optimizer.learning-rate" in said(hard)
    shallow = tally_of([1] * 180 + [2] * 20)
    shallow.sums[9] = 1.0
    assert "try --halting.bias-init -3 or a lower --penalty.value" in said(shallow)
    assert said(hard, spreads_mass=False) == ""


def test_steps_that_do_not_follow_the_difficulty_are_told_once_the_run_has_settled():
    unrelated = tally_of(MIXED, difficulty=[0, 1] * 100)
    against = tally_of(MIXED, difficulty=[5 - step for step in MIXED])
    assert said(unrelated) == "" and "do not follow the difficulty" in said(unrelated, settled=True)
    assert "run against the difficulty (Spearman -1.00 over tokens)" in said(against, settled=True)
    assert said(MIXED, settled=True) == ""  # where it is not known


def test_a_penalty_that_makes_up_the_loss_of_an_unlearned_task_is_told():
    assert "the penalty dominates the loss: thinking makes up 70%" in said(
        MIXED, penalty_share=0.7, task_share=0.5
    )
    assert (
        said(MIXED, penalty_share=0.7, task_share=0.1)
        == said(MIXED, penalty_share=0.4, task_share=0.5)
        == ""
    )


VALUES = {
    "--penalty.value": "0.1",
    "--penalty.warmup": "9",
    "--halting.bias-init": "-4",
    "--halting.q": "0.6",
    "--halting.threshold": "0.5",
    "--cost.prior-steps": "3",
    "--halting.min-steps": "2",
    "--loop.max-steps": "3",
    "--halting.kind": "FixedSteps",
    "--penalty.target-steps": "3",
    "--penalty.ramp": "0.1 0.2",
}


@pytest.mark.parametrize("rule", [*ROLES["halting"].names, "GravesACT target", "GravesACT ramp"])
def test_every_remedy_is_one_that_the_run_has(rule):
    rule, _, more = rule.partition(" ")
    steered = {
        "target": ["--penalty.target-steps", "2"],
        "ramp": ["--penalty.ramp", "0.01", "0.1"],
    }.get(more, [])
    given = [
        "--halting.kind",
        rule,
        *(["--halting.warmup", "0"] if rule == "TokenChoiceRouter" else []),
    ]
    given += ["--loop.max-steps", "6"]
    config = parse(load_recipe("pointer_chase"), [*given, *steered], "ponder train")
    cost = build_all(config).cost
    found = remedies(config, cost)
    told = " ".join(
        (found.deeper, found.shallower, found.lighter, found.others, deeper_flags(config, cost))
    )
    named = set(re.findall(r"--[a-z.-]+", told))
    assert named and named <= VALUES.keys()
    assert ("--penalty.value" in named) == (cost is not None and cost.warms_up and not more)
    for flag in named - {"--halting.kind"}:  # each is taken, in place of the one that was given
        kept = given[:-2] if flag == "--loop.max-steps" else given
        parse(load_recipe("pointer_chase"), [*kept, flag, *VALUES[flag].split()], "ponder train")


def test_a_rule_that_begins_deep_is_not_told_to_begin_shallower(tmp_path):
    config = small(tmp_path, halting={"kind": "CorrectnessHalt"})
    assert (
        remedies(config, None).bias == -7
        and remedies(small(tmp_path, **biased(2.0)), None).bias == -3
    )
    stuck = said([5] * 200, gate=GateGradient(0.1, 0.0, 1.0), settled=True)
    assert "start again with a higher --penalty.value or --halting.bias-init" in stuck
    (alarm,) = heard([1] * 200, learned=False)
    assert not alarm.collapse  # a rule without weights has unlearned nothing


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((400, 1), 256), ((100, 1), 100), ((64, 10), 26), ((64, 100), 8), ((4, 100), 4)],
)
def test_the_gates_gradient_is_looked_for_in_as_many_tokens_as_tell(shape, rows):
    each = torch.ones(shape, dtype=torch.long)
    assert len(enough(Batch(each, each, each.bool(), each.float())).valid) == rows


def test_ranks_that_loop_very_unequally_are_told():
    assert "differ 4.0× between ranks" in said([2, 3] * 100, steps_of_ranks=(1.0, 4.0))


def engine_of(tmp_path, **changes):
    built = build_all(small(tmp_path, **changes))
    return LocalEngine(built.model, small(tmp_path).optimizer, torch.device("cpu")), built


def biased(value: float) -> dict[str, Any]:
    return {"halting": {"kind": "GravesACT", "options": {"bias_init": value}}}


@pytest.mark.parametrize("path", ["packed", "dense"])
def test_the_gradient_is_measured_at_the_gate_and_nothing_else_is_touched(tmp_path, path):
    engine, built = engine_of(tmp_path, loop={"max_steps": 4, "path": path})
    batch = built.task.batch("train", 0, 8)
    found = gate_gradient(engine, batch, built.objective, built.cost, 0.01)
    assert (
        found is not None
        and found.cost is not None
        and found.cost > 0
        and 0 < found.gate < found.whole
    )
    assert all(parameter.grad is None for parameter in engine.model.parameters())
    output = engine.model(batch.tokens, batch.valid)
    loss = torch.nn.functional.cross_entropy(
        output.logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100
    )
    assert built.cost is not None
    (loss + 0.01 * built.cost(output.trace).sum() / batch.valid.sum()).backward()
    parameters = [
        (name, each.grad) for name, each in engine.model.named_parameters() if each.grad is not None
    ]
    norms = {name: float(gradient.double().square().sum()) for name, gradient in parameters}
    assert found.whole == pytest.approx(sum(norms.values()) ** 0.5, rel=1e-5)
    gate = sum(norm for name, norm in norms.items() if name.startswith("recurrence.rule."))
    assert found.gate == pytest.approx(gate**0.5, rel=1e-5)


@pytest.mark.parametrize("backprop", ["full", "checkpointed"])
def test_a_look_at_the_gradient_draws_nothing_that_training_draws(tmp_path, backprop):
    layer = {"block": "torch.nn:TransformerEncoderLayer", "nhead": 2, "batch_first": True}
    engine, built = engine_of(
        tmp_path, model={"width": 16, **layer}, loop={"max_steps": 4, "backprop": backprop}
    )
    engine.train()
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    assert gate_gradient(engine, built.task.batch("train", 0, 8), built.objective, built.cost, 0.01)
    assert torch.equal(torch.rand(2), expected)


def test_where_every_token_leaves_at_step_1_or_the_gate_is_saturated_its_gradient_is_gone(tmp_path):
    for bias, costs_nothing in ((9.0, True), (-30.0, False)):
        engine, built = engine_of(tmp_path, **biased(bias))
        found = gate_gradient(
            engine, built.task.batch("train", 0, 8), built.objective, built.cost, 0.01
        )
        assert found is not None and found.share is not None and found.share < 1e-6
        assert (found.cost == 0) == costs_nothing


@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_where_there_is_nothing_to_train_nothing_is_said(tmp_path, penalty):
    engine, built = engine_of(tmp_path)
    batch = built.task.batch("train", 0, 4)
    for cost, weight in ((None, penalty), (built.cost, 0.0)):
        found = gate_gradient(engine, batch, CrossEntropy(), cost, weight)
        assert found is not None and found.cost is None and found.gate > 0
    fixed, other = engine_of(tmp_path, halting={"kind": "FixedSteps"})
    assert isinstance(fixed.model.recurrence.rule, FixedSteps) and other.cost is None
    assert gate_gradient(fixed, batch, built.objective, built.cost, 0.01) is None


def test_a_gate_that_jumps_from_nothing_to_all_has_no_entropy(tmp_path):
    engine, built = engine_of(tmp_path)
    for steepness, silent in ((0.5, True), (1e4, False)):
        with torch.no_grad():
            gate = engine.model.recurrence.rule.gate
            gate.weight.copy_(torch.linspace(-1, 1, 16) * steepness)
            gate.bias.fill_(-1.0 if silent else -steepness)
        tally = evaluate(engine, built.task, "validation", 64, 16)
        told = said(tally)
        assert ("the exit mass has no entropy left" in told) != silent, (told, tally.steps)


def warnings_of(folder) -> str:
    return "\n".join(line["says"] for line in metrics.read_metrics(folder, "warning"))


def test_runs_made_to_go_wrong_say_so(tmp_path):
    """A penalty of 5 from the first update is almost all of the loss."""
    heavy = {"penalty": {"value": 5.0}, "eval_examples": 32, "updates": 5}
    assert train_only(small(tmp_path, name="heavy", **heavy)) == 0
    assert "the penalty dominates the loss: thinking makes up 8" in warnings_of(tmp_path / "heavy")
