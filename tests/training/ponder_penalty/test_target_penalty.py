"""Runs that hold a target: what is measured, what is kept, what is said, what is refused."""

import json
import shutil
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from small_runs import small, train_only

from halting import PonderNet, StepsPlusRemainder, UsageError
from training.build import build_all, make_penalty
from training.checkpoints import checkpoint
from training.evaluation.evaluate import evaluate
from training.runs import metrics
from training.runs.loaded import load_run
from training.runs.report import target_told
from training.start import train
from training.train import main

TARGET = {
    "updates": 200,
    "batch_size": 16,
    "eval_every": 100,
    "save_every": 100,
    "threads": 1,
    "penalty": {"value": 0.01, "target_steps": 2.5},
    "optimizer": {"learning_rate": 1e-2},
    "schedule": {"kind": "WarmupCosine", "options": {"warmup": 10}},
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Shapes of calls are checked by tests of fewer updates; here it would take twice the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def held(quick, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    assert train(small(output, name="whole", **TARGET)) == 0
    return output / "whole"


def test_a_run_holds_its_target_and_says_so(held):
    lines = metrics.read_metrics(held, "train")
    late = [line["mean_ponder"] for line in lines[150:]]
    assert np.mean(late) == pytest.approx(2.5, rel=0.05)
    assert {line["penalty"] for line in lines[:10]} == {0.0} and lines[-1]["penalty"] > 0
    summary = json.loads((held / "summary.json").read_text())
    budget = summary["budget"]
    looks = [line["mean_ponder"] for line in metrics.read_metrics(held, "look")]
    assert len(looks) == 41  # at each fiftieth from a fifth of the run on
    assert budget["in_training"] == pytest.approx(np.mean(late))
    assert budget["held"] == pytest.approx(np.mean(looks[-13:])) and budget["says"] is None
    assert budget["unseen"] == pytest.approx(summary["mean_ponder"] / 2.5 - 1)
    told = target_told(budget)
    assert told in (held / "report.md").read_text().lower() and "2.5 steps; 2." in told
    assert "on unseen examples with the weights of update" in told and "in training" in told


def test_the_model_that_is_kept_lies_within_the_target(held):
    """On examples of which none was looked at, and by the weights of the update that it names."""
    budget = json.loads((held / "summary.json").read_text())["budget"]
    run = load_run(held)
    tally = evaluate(run, run.task, "test", 4096, 256, start=10_000)
    assert tally.figures()["mean_ponder"] == pytest.approx(2.5, rel=0.03)
    kept = load_run(f"{held}@{budget['kept']['update']}")
    for name, value in kept.model.state_dict().items():
        assert value.equal(run.model.state_dict()[name])


def test_where_no_checkpoint_holds_it_the_exit_does(tmp_path):
    """PonderNet without the time to come to its target."""
    short = {**TARGET, "updates": 60, "eval_every": 60, "save_every": 60, "eval_examples": 64}
    halting = {"kind": "PonderNet", "options": {}}
    config = small(tmp_path, name="run", **{**short, "halting": halting})
    assert train(config) == 0
    budget = json.loads((tmp_path / "run" / "summary.json").read_text())["budget"]
    run = load_run(tmp_path / "run")
    rule = run.model.recurrence.rule
    assert isinstance(rule, PonderNet) and budget["kept"]["options"] == {"q": rule.q} != {"q": 0.5}
    figures = evaluate(run, run.task, "test", 4096, 256, start=10_000).figures()
    trained = load_run(tmp_path / "run@60")
    assert trained.config == config and trained.model.recurrence.rule.q == 0.5
    before = evaluate(trained, run.task, "test", 4096, 256, start=10_000).figures()
    assert abs(figures["mean_ponder"] / 2.5 - 1) < abs(before["mean_ponder"] / 2.5 - 1)
    assert figures["mean_ponder"] == pytest.approx(2.5, rel=0.05)


def test_what_is_steered_is_what_evaluation_shows(held):
    """For ACT that is executed steps."""
    assert [line["mean_ponder"] for line in metrics.read_metrics(held, "train")] == [
        pytest.approx(line["mean_steps"]) for line in metrics.read_metrics(held, "train")
    ]
    run = load_run(held)
    batch = run.task.batch("test", 0, 16)
    run.model.train()
    trained = run.forward(batch).trace
    run.model.eval()
    assert run.model.recurrence.rule.exit_step(trained).equal(
        run.forward(batch).trace.steps.float()
    )


def test_ponder_net_is_measured_at_the_quantile_it_leaves_by():
    config = small(
        Path("runs"),
        halting={"kind": "PonderNet", "options": {"q": 0.7}},
        penalty={"target_steps": 2},
    )
    model = build_all(config).model
    rule = model.recurrence.rule
    assert isinstance(rule, PonderNet)
    batch = build_all(config).task.batch("train", 0, 16)
    traced = model.train()(batch.tokens, batch.valid).trace
    left = model.eval()(batch.tokens, batch.valid).trace
    rule.train()
    assert rule.exit_step(traced).equal(left.steps.float())
    rule.sample = True
    assert rule.exit_step(traced).equal(traced.expected_steps)


def test_a_resumed_run_holds_it_bit_for_bit(held, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(held, cut)
    shutil.rmtree(
        checkpoint.found(cut / "checkpoints")[-1]
    )  # as if it had died before its end was saved
    (cut / "summary.json").unlink()
    kept = json.loads((held / "summary.json").read_text())["budget"]["kept"]["update"]
    assert checkpoint.found(cut / "checkpoints")[-1].name == f"update-{kept:06d}"
    assert main(["--resume", str(cut)]) == 0
    for name in ("loss", "mean_ponder", "penalty"):
        whole, resumed = (
            [line[name] for line in metrics.read_metrics(folder, "train")] for folder in (held, cut)
        )
        assert whole == resumed
    summaries = [
        json.loads((folder / "summary.json").read_text())["budget"] for folder in (held, cut)
    ]
    assert summaries[0] == summaries[1]


def test_the_measured_mean_is_that_of_the_global_batch(tmp_path):
    """Micro-batches of an update share one mean, over tokens and not over micro-batches; and the
    controller acts on it once an update."""
    penalty = {"target_steps": 2.0, "warmup": 1}
    for accumulation in (1, 4):
        config = small(
            tmp_path,
            name=f"by{accumulation}",
            accumulation=accumulation,
            updates=14,
            eval_every=14,
            penalty=penalty,
        )
        assert train_only(config) == 0
    one, four = (metrics.read_metrics(tmp_path / f"by{number}", "train") for number in (1, 4))
    for name in ("mean_ponder", "penalty"):
        np.testing.assert_allclose(
            [line[name] for line in one], [line[name] for line in four], rtol=1e-4
        )
    assert one[-1]["penalty"] > 0


def test_a_target_out_of_reach_is_said_on_the_screen_and_in_the_report(tmp_path, capsys):
    changes = {"halting": {"kind": "GravesACT", "options": {"bias_init": 0.0}}, "eval_every": 20}
    penalty = {"value": 1e-7, "target_steps": "100%", "warmup": 10}
    assert train(small(tmp_path, name="far", updates=120, penalty=penalty, **changes)) == 0
    said = "the target of 4 steps is out of gain: with penalty"
    assert f"warning: {said}" in capsys.readouterr().out
    report = (tmp_path / "far" / "report.md").read_text()
    assert said in report  # among the warnings
    kept = json.loads((tmp_path / "far" / "summary.json").read_text())["budget"]
    assert kept["says"].startswith("the target of 4 steps") and kept["says"] in report


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"halting": {"kind": "ExitGate"}}, "UniformPrior prefers no depth"),
        ({"halting": {"kind": "TokenChoiceRouter"}}, "comes with the cost LoadBalance"),
        ({"halting": {"kind": "QHalt"}}, "comes with the cost QLearning"),
        ({"halting": {"kind": "FixedSteps"}}, "FixedSteps, which has no ponder cost"),
        ({"halting": {"kind": "ConvergenceExit"}}, "ConvergenceExit, which has no ponder cost"),
        ({"loop": {"max_steps": 4, "train_depth": "uniform"}}, "--loop.train-depth uniform"),
        ({"loop": {"max_steps": 2}}, "above --loop.max-steps 2"),
        ({"halting": {"kind": "GravesACT", "min_steps": 4}}, "--halting.min-steps is 4"),
    ],
)
def test_where_nothing_moves_the_depth_a_target_is_refused(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says) as error:
        build_all(small(tmp_path, **{"penalty": {"target_steps": 3}, **changes}))
    assert error.value.why and error.value.write


@pytest.mark.parametrize(
    ("rule", "cost"),
    [
        ("UniversalTransformerACT", None),
        ("StickBreaking", None),
        ("PonderNet", None),
        ("ExitGate", {"kind": "ExpectedSteps"}),
    ],
)
def test_every_rule_with_a_cost_in_steps_or_a_prior_with_a_mean_takes_one(tmp_path, rule, cost):
    config = small(
        tmp_path,
        halting={"kind": rule},
        cost=cost,
        penalty={"target_steps": "60%"},
        updates=12,
        eval_every=12,
    )
    assert train(config.model_copy(update={"name": "run"})) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["budget"][
        "target_steps"
    ] == pytest.approx(2.4)


def test_a_ramp_rises_through_the_run_and_needs_a_cost_in_steps(tmp_path):
    penalty = {"ramp": [0.001, 0.1], "warmup": 4}
    config = small(tmp_path, penalty=penalty)
    made = make_penalty(config, build_all(config).cost)
    weights = [made.coefficient(update) for update in range(config.updates)]
    assert (
        weights[0] == 0 and weights[4] == pytest.approx(0.001) and weights[-1] == pytest.approx(0.1)
    )
    with pytest.raises(UsageError, match="counted in steps"):
        build_all(small(tmp_path, halting={"kind": "PonderNet"}, penalty=penalty))


def test_the_flag_takes_both_forms(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given, shown in (("3", "steered to 3 steps"), ("40%", "steered to 4 steps")):
        assert main(["pointer_chase", "--penalty.target-steps", given, "--dry-run"]) == 0
        assert shown in capsys.readouterr().out
    with pytest.raises(UsageError, match="number of steps, or a share"):
        main(["pointer_chase", "--penalty.target-steps", "four"])
    assert StepsPlusRemainder.steered_by is None
