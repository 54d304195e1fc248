"""Limits end runs, and schedules may be stretched over them."""

import shutil

import pytest
from small_runs import losses, small, stands_at, train_only

from halting.errors import UsageError
from training.build import build_all
from training.checkpoints import checkpoint
from training.checkpoints.progress import Progress
from training.loop.run_limits import RunLimits
from training.runs import metrics
from training.runs.loaded import load_run
from training.tasks.task import Batch


def test_schedules_follow_updates_or_the_share_of_the_limit_that_is_spent(tmp_path):
    by_updates = RunLimits(small(tmp_path, updates=100, time_limit=10.0))
    assert by_updates.scheduled(Progress(update=30), seconds=9.0) == 30
    assert by_updates.done(Progress(update=100)) and not by_updates.done(Progress(update=99))
    assert by_updates.fraction(Progress(update=30), 9.0) == 0.9
    stretched = RunLimits(
        small(tmp_path, updates=100, time_limit=10.0, flops_limit=1e9, stretch_to="limit")
    )
    assert stretched.scheduled(Progress(update=7, flops=2e8), seconds=4.0) == 40
    assert stretched.scheduled(Progress(update=7, flops=6e8), seconds=4.0) == pytest.approx(60)
    assert stretched.scheduled(Progress(update=7), seconds=99.0) == 100
    assert (
        not stretched.done(Progress(update=1000))
        and stretched.reached(Progress(update=1000), 9.0) is None
    )
    assert (
        stretched.reached(Progress(), 10.0) == "after 10 s"
        and stretched.reached(Progress(flops=1e9), 0.0) is not None
    )


def test_a_stretched_schedule_needs_a_limit(tmp_path):
    with pytest.raises(UsageError, match="--stretch-to limit comes without a limit"):
        small(tmp_path, stretch_to="limit")


def test_a_budget_of_operations_is_spent_whatever_an_update_costs(tmp_path, capsys):
    """The learning rate's whole decay and the penalty's whole warm-up lie within it, and a run that
    was cut in two spends it to the same update with the same losses."""
    limit, ends = 6.5e7, {}
    for depth in (2, 4):
        halting = {"kind": "FixedSteps"} if depth == 2 else {"kind": "GravesACT"}
        changes = {
            "flops_limit": limit,
            "stretch_to": "limit",
            "halting": halting,
            "loop": {"max_steps": depth},
        }
        config = small(
            tmp_path,
            name=f"deep{depth}",
            keep_last=99,
            schedule={"kind": "WarmupCosine", "options": {"warmup": 2}},
            **changes,
        )
        assert train_only(config) == 0
        folder = tmp_path / f"deep{depth}"
        spent = stands_at(folder)
        lines = metrics.read_metrics(folder, "train")
        ends[depth] = spent["update"]
        assert limit <= spent["flops"] < limit + 1.2 * spent["flops"] / spent["update"]
        rates = [line["learning_rate"] for line in lines]
        assert rates[1] < rates[2] and rates[2] > 0.9 * config.optimizer.learning_rate
        assert rates[-1] < 0.2 * config.optimizer.learning_rate
        if depth == 4:
            assert lines[-1]["penalty"] == 0.01 and lines[1]["penalty"] < 0.01
    assert ends[2] > ends[4] > 12, ends
    assert f"ended after 65M FLOPs, at update {ends[4]}\n" in capsys.readouterr().out
    whole = losses(tmp_path / "deep4")
    for kept in checkpoint.found(tmp_path / "deep4" / "checkpoints")[2:]:
        shutil.rmtree(kept)
    assert train_only(config, tmp_path / "deep4") == 0
    assert (
        "going on after update 4" in capsys.readouterr().out and losses(tmp_path / "deep4") == whole
    )


def test_operations_are_those_of_the_steps_that_tokens_took(tmp_path):
    config = small(tmp_path, name="counted", updates=3, save_every=3)
    assert train_only(config) == 0
    built = build_all(config)
    assert built.flops is not None
    counted = 0.0
    for line in metrics.read_metrics(tmp_path / "counted", "train"):
        batch: Batch = built.task.batch("train", (line["update"] - 1) * 8, 8)
        counted += int(batch.valid.sum()) * built.flops.training(line["mean_steps"])
    assert (
        stands_at(tmp_path / "counted")["flops"] == pytest.approx(counted, rel=1e-12)
        and counted > 0
    )
    assert load_run(tmp_path / "counted").config == config
