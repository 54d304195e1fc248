"""The computed FLOPs that `ponder profile` tells are those that torch counts."""

import pytest
import torch
from echo_runs import FIXED, SHAPES, make
from profiled_runs import MODES, PONDER, run_of, small_run
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from act.accounting.counted import flops_by_torch
from act.accounting.executed_flops import computed_flops, mean_steps
from act.accounting.flops import count_flops
from act.slots import Slots
from halting.trace import LoopTrace
from training.exits.exit import Exit
from training.resources.workload import TimedCase, Workload, unchanged
from training.runs.loaded import Run
from training.tasks.task import Batch

ACT = {"kind": "GravesACT"}
SHORT = {"length": 9}


def ragged(run: Run, size: int) -> Batch:
    """Examples of several lengths, padded."""
    batch = run.task.batch("test", 0, size)
    lengths = 3 + torch.arange(size) * 5 % (batch.valid.shape[1] - 3)
    valid = torch.arange(batch.valid.shape[1]) < lengths[:, None]
    return Batch(batch.tokens, torch.where(valid, batch.targets, -100), valid, batch.difficulty)


def counted_of_math(work: Workload, way: TimedCase) -> tuple[LoopTrace, int]:
    """What torch counts where attention is made of plain products, all of which it knows."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        trace = work.trace(way)
    return trace, counter.get_total_flops()


def assert_counts_are_torchs(work: Workload, training: bool) -> None:
    for path in ("packed", "dense"):
        trace, counted = counted_of_math(work, TimedCase(training, path=path))
        assert computed_flops(work.run.model, trace, path == "packed", training) == counted


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_are_those_that_torch_counts_while_tokens_leave(shape):
    run = run_of(make(shape, ACT, 4, SHORT))
    with unchanged(run.model):
        work = Workload(run, ragged(run, 3))
        assert work.trace(TimedCase(True)).steps.unique().numel() > 2
        assert_counts_are_torchs(work, True)
        assert_counts_are_torchs(work, False)


def test_flops_of_rows_of_one_length():
    run = run_of(make("whole", ACT, 4, SHORT))
    with unchanged(run.model):
        work = Workload(run, run.task.batch("test", 0, 5))
        assert_counts_are_torchs(work, True)
        assert_counts_are_torchs(work, False)


def test_fused_attention_is_counted_as_its_products():
    run = run_of(make("grouped", ACT, 3, {**SHORT, "causal": True}))
    with unchanged(run.model):
        work = Workload(run, ragged(run, 3))
        for way in (
            TimedCase(False, path="packed"),
            TimedCase(True, path="packed"),
            TimedCase(True, path="dense"),
        ):
            assert flops_by_torch(lambda way=way: work.trace(way)) == counted_of_math(work, way)[1]


def test_flops_of_a_readout_that_trains_every_step():
    run = run_of(make("whole", PONDER, 4, {**SHORT, "causal": True}))
    with unchanged(run.model):
        work = Workload(run, ragged(run, 3))
        assert_counts_are_torchs(work, True)
        assert_counts_are_torchs(work, False)


def test_flops_of_checkpointed_backprop():
    run = run_of(make("whole", ACT, 4, SHORT, loop={"backprop": "checkpointed"}))
    with unchanged(run.model):
        assert_counts_are_torchs(Workload(run, ragged(run, 3)), True)


VECTORS = {
    "data": {"kind": "ParityVector", "options": {}},
    "model": {"width": 16, "block": "GRUBlock"},
}


def test_flops_of_vectors(tmp_path):
    run = small_run(tmp_path, **VECTORS)
    with unchanged(run.model):
        work = Workload(run, run.task.batch("test", 0, 4))
        assert_counts_are_torchs(work, True)
        assert_counts_are_torchs(work, False)


@pytest.mark.parametrize("changes", [{}, {"halting": FIXED}, {"halting": PONDER}, VECTORS])
def test_what_is_computed_is_what_was_executed_where_nobody_leaves_early(tmp_path, changes):
    run = small_run(tmp_path, **changes)
    with unchanged(run.model):
        work = Workload(run, run.task.batch("test", 0, 2))
        for training in MODES.values():
            trace = work.trace(TimedCase(training, Exit("fixed:3", 3)))
            flops = count_flops(run.model, trace.valid.shape[1], inference=not training)
            assert mean_steps(trace) == 3
            formula = flops.training(3) if training else flops.forward(3)
            assert computed_flops(run.model, trace, True, training) == work.tokens * formula


def test_padding_is_the_whole_difference_between_computed_and_executed(tmp_path):
    run = small_run(tmp_path, loop={"max_steps": 6, "path": "packed"})
    with unchanged(run.model):
        work = Workload(run, run.task.batch("test", 0, 8))
        trace = work.trace(TimedCase(False))
    flops = count_flops(run.model, 6, inference=True)
    padded = 0
    for step in range(trace.num_steps):
        place = trace.ran[..., step].flatten().nonzero().squeeze(-1)
        slots = Slots(place, place // 6, place % 6, torch.full_like(place, step + 1), None, 8, 6)
        padded += slots.batch * slots.layout.width - len(slots)
    assert padded > 0
    executed = work.tokens * flops.forward(mean_steps(trace))
    assert computed_flops(run.model, trace, True, False) - executed == pytest.approx(
        padded * 4 * 16 * 6, abs=1
    )
