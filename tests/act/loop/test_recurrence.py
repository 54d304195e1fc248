"""The loop: compute follows the halting, limits, and what it refuses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from act import Block, Checkpointed, FunctionalCache, PlainBlock, Recurrence, Slots
from act.layers.step_signal import sinusoidal_step_signal
from act.loop.recorder import TraceRecorder
from act.testing import FixedNoise
from halting import (
    EveryStep,
    FinalState,
    FixedSteps,
    GravesACT,
    HaltingRule,
    MaxSteps,
    PerSequence,
    UsageError,
)
from halting.step import Memory, StepDecision, StepView

DIM, LIMIT = 8, 6
VALID = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]], dtype=torch.bool)


def act_loop(path: str = "packed", **options: bool) -> Recurrence:
    block = Block(DIM, 2, num_kv_heads=1, num_layers=2, injection="concat", **options)  # pyright: ignore[reportArgumentType]
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    return Recurrence(block, rule, max_steps=LIMIT, path=path)  # pyright: ignore[reportArgumentType]


def rows_through_linear_layers(
    loop: Recurrence, x: Tensor, valid: Tensor | None
) -> tuple[list[int], Tensor]:
    """How many rows each linear layer of the block was given in a run, and the executed steps of
    its tokens."""
    linears = [module for module in loop.block.modules() if isinstance(module, nn.Linear)]
    rows = [0] * len(linears)

    def hook_of(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            rows[number] += given[0].numel() // given[0].shape[-1]

        return count

    hooks = [
        module.register_forward_pre_hook(hook_of(number)) for number, module in enumerate(linears)
    ]
    _, trace = loop(x, valid)
    for hook in hooks:
        hook.remove()
    return rows, trace.steps


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
def test_rows_computed_are_the_executed_steps(
    valid: Tensor | None, training: bool, causal: bool
) -> None:
    x = torch.randn(3, 5, DIM)
    with torch.set_grad_enabled(training):
        rows, steps = rows_through_linear_layers(act_loop(causal=causal), x, valid)
    assert len(rows) == 9 and len(steps[steps > 0].unique()) > 2
    assert rows == [int(steps.sum())] * 9


def test_the_dense_path_computes_everything() -> None:
    rows, steps = rows_through_linear_layers(act_loop("dense"), torch.randn(3, 5, DIM), VALID)
    assert rows == [int(steps.max()) * VALID.numel()] * len(rows)
    assert rows[0] > int(steps.sum())


def test_the_loop_ends_when_the_last_token_leaves() -> None:
    loop = Recurrence(Block(DIM, 2), FixedSteps(2), max_steps=LIMIT)
    _, trace = loop(torch.randn(2, 3, DIM))
    assert trace.num_steps == 2 and (trace.steps == 2).all()
    _, trace = loop(torch.randn(2, 3, DIM), max_steps=1)
    assert (trace.steps == 1).all() and (trace.mass == 1).all()


def test_another_limit_for_one_call() -> None:
    loop = act_loop()
    x = torch.randn(3, 5, DIM)
    longer, shorter = loop(x, max_steps=3 * LIMIT)[1], loop(x, max_steps=2)[1]
    assert longer.num_steps > LIMIT and shorter.num_steps == 2
    assert torch.equal(longer.steps.clamp(max=LIMIT), loop(x)[1].steps)


@pytest.mark.parametrize("path", ["packed", "dense"])
def test_ranks_that_keep_each_other_company(path: str) -> None:
    """A rank without tokens left takes further steps when its group does; nothing of its result
    changes."""
    loop, x = act_loop(path), torch.randn(3, 5, DIM, requires_grad=True)
    loop.rule = MaxSteps(loop.rule, 3)
    output, trace = loop(x, VALID)
    asked: list[int] = []

    def keep_going(active: int) -> bool:
        asked.append(active)
        return True

    loop.keep_going = keep_going
    again, longer = loop(x, VALID)
    assert asked[0] == int(VALID.sum()) and asked[3:] == [0, 0, 0] and longer.num_steps == LIMIT
    assert torch.equal(again, output) and torch.equal(longer.steps, trace.steps)
    assert torch.equal(longer.mass[..., :3], trace.mass) and (longer.mass[..., 3:] == 0).all()
    wanted = [x, *loop.parameters()]
    alone, together = (
        torch.autograd.grad(o.sum() + t.mass[..., 0].sum(), wanted)
        for o, t in ((output, trace), (again, longer))
    )
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=True))


@pytest.mark.parametrize("path", ["packed", "dense"])
def test_a_loop_that_is_ended_with_tokens_left(path: str) -> None:
    """One token leaves at step 1, then `keep_going` says no: the one exit does not cover the
    batch."""
    rule = GravesACT(2, bias_init=0.0)
    with torch.no_grad():
        rule.gate.weight.copy_(torch.tensor([[100.0, 0.0]]))
    loop = Recurrence(PlainBlock(nn.Identity()), rule, max_steps=4)
    if path == "packed":
        loop = Recurrence(Block(2, 1, rotary=False, num_layers=0), rule, max_steps=4)
    loop.keep_going = lambda active: False
    output, trace = loop(torch.tensor([[[10.0, 1.0], [-10.0, 1.0]]]))
    assert trace.steps.tolist() == [[1, 1]] and trace.num_steps == 1
    assert output[0].tolist() == [[10.0, 1.0], [0.0, 0.0]]
    assert trace.mass[0, 0].item() == 1 and trace.mass[0, 1].item() < 1e-6


def test_the_output_of_one_exit_of_all_is_not_copied() -> None:
    ledger = TraceRecorder(Slots.of(torch.ones(2, 3, dtype=torch.bool)), torch.float32)
    states = torch.randn(6, DIM)
    ledger.leave(torch.arange(6), states)
    assert ledger.output(torch.zeros(2, 3, DIM)).data_ptr() == states.data_ptr()


@pytest.mark.parametrize("injection", ["concat", "add", "none"])
def test_autocast_does_not_narrow_the_stream_of_states(injection: str) -> None:
    block = Block(DIM, 2, injection=injection, step_signal="sinusoidal")  # pyright: ignore[reportArgumentType]
    slots = Slots.of(torch.ones(2, 3, dtype=torch.bool))
    x = torch.randn(6, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16, "autocast is off: nothing was tried"
        entering = block.enter(x, x, slots)
        made, _ = block(entering, slots, FunctionalCache(None))
        output, trace = Recurrence(block, GravesACT(DIM), max_steps=3)(x.view(2, 3, DIM))
    assert entering.dtype == made.dtype == output.dtype == trace.mass.dtype == torch.float32


def test_the_mean_of_the_states_had_it_stopped_at_its_last_step_is_the_output() -> None:
    loop = act_loop()
    output, trace = loop(torch.randn(3, 5, DIM), VALID, record_lens=True)
    assert trace.lens is not None and trace.states is None
    lens = trace.lens.unpack(trace.lens.values, 3, 5, trace.num_steps)
    for row, position in VALID.nonzero().tolist():
        last = lens[row, position, trace.steps[row, position] - 1]
        assert torch.allclose(last, output[row, position], atol=1e-6)


def test_states_are_kept_for_readouts_that_train_every_step() -> None:
    block = Block(DIM, 2)
    loop = Recurrence(block, MaxSteps(GravesACT(DIM), 2), EveryStep(), max_steps=LIMIT)
    output, trace = loop(torch.randn(3, 5, DIM), VALID)
    assert trace.states is not None and len(trace.states.values) == int(trace.steps.sum())
    assert torch.equal(trace.states.values[trace.states.step == 1], output[VALID])
    with torch.no_grad():
        assert loop(torch.randn(3, 5, DIM), VALID)[1].states is None


def test_what_the_rule_is_shown() -> None:
    seen: list[StepView] = []

    class Watch(HaltingRule):
        default_readout = FinalState
        reads_logits = True

        def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
            seen.append(view)
            assert (
                view.logits().shape == (len(view.state), 11)
                and view.uniform().shape == view.remaining.shape
            )
            halt = view.position < view.step
            return StepDecision(
                mass=0.25 * torch.ones_like(view.remaining), halt=halt, score=view.remaining
            ), None

    loop = Recurrence(Block(DIM, 2), Watch(), max_steps=4)
    loop.head, loop.draw = lambda state: state.new_zeros(len(state), 11), FixedNoise()
    _, trace = loop(torch.randn(3, 5, DIM), VALID)
    assert trace.steps.tolist() == [[1, 2, 3, 4, 4], [1, 2, 0, 0, 0], [1, 0, 3, 4, 0]]
    assert [len(view.state) for view in seen] == [10, 7, 5, 3]
    assert seen[1].row.tolist() == [0, 0, 0, 0, 1, 2, 2] and seen[1].position.tolist() == [
        1,
        2,
        3,
        4,
        1,
        2,
        3,
    ]
    assert [view.step.unique().tolist() for view in seen] == [[1], [2], [3], [4]]
    assert [view.remaining.unique().tolist() for view in seen] == [[1.0], [0.75], [0.5], [0.25]]
    assert torch.equal(seen[1].entering, seen[0].state[[1, 2, 3, 4, 6, 8, 9]])


@pytest.mark.parametrize("max_steps", [0, -1])
def test_less_than_one_step_is_refused(max_steps: int) -> None:
    with pytest.raises(UsageError, match=f"max_steps is {max_steps}"):
        Recurrence(Block(DIM, 2), FixedSteps(), max_steps=max_steps)
    with pytest.raises(UsageError, match=f"max_steps is {max_steps}"):
        Recurrence(Block(DIM, 2), FixedSteps(), max_steps=3)(
            torch.randn(1, 2, DIM), max_steps=max_steps
        )


def test_a_rule_that_looks_ahead_is_refused_in_a_causal_block() -> None:
    with pytest.raises(UsageError, match="PerSequence cannot decide in a causal model"):
        Recurrence(Block(DIM, 2, causal=True), PerSequence(GravesACT(DIM)), max_steps=3)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (2, 4)], ids=str)
@pytest.mark.parametrize("backprop", [None, Checkpointed()])
def test_a_batch_without_a_token(shape: tuple[int, int], backprop: Checkpointed | None) -> None:
    loop = act_loop()
    loop.backprop = backprop or loop.backprop
    x = torch.randn(*shape, DIM, requires_grad=True)
    output, trace = loop(x, torch.zeros(shape, dtype=torch.bool))
    assert output.shape == x.shape and trace.steps.shape == shape and trace.remainder.shape == shape
    for tensor in (output, trace.mass, trace.score):
        for gradient in torch.autograd.grad(
            tensor.sum(), [x, *loop.parameters()], retain_graph=True
        ):
            assert (gradient == 0).all()


def test_fixed_noise_depends_on_the_token_and_the_step_alone() -> None:
    slots = Slots.of(torch.ones(3, 5, dtype=torch.bool))
    noise, some = FixedNoise()(slots), torch.tensor([1, 6, 12])
    assert torch.equal(FixedNoise()(slots.keep(some)), noise[some])
    assert torch.equal(FixedNoise((2,))(Slots.of(torch.ones(1, 5, dtype=torch.bool))), noise[10:])
    assert len(noise.unique()) == 15 and ((noise >= 0) & (noise < 1)).all()
    assert not torch.equal(FixedNoise()(slots.next_step()), noise)


def test_the_step_signal_goes_beyond_the_steps_trained_with() -> None:
    """A learned embedding with N rows would forbid them. This one has no rows, and each step has
    its own signal."""
    loop = Recurrence(
        Block(DIM, 2, injection="add", step_signal="sinusoidal"), FixedSteps(), max_steps=4
    ).eval()
    x = torch.randn(2, 3, DIM)
    with torch.no_grad():
        output, trace = loop(x, max_steps=200)
        assert output.isfinite().all() and (trace.steps == 200).all()
    signals = sinusoidal_step_signal(torch.arange(1, 201), DIM, torch.float64)
    nearest = torch.cdist(signals, signals).fill_diagonal_(torch.inf).min()
    assert nearest > 0.01, f"two steps look alike: {nearest}"


def test_a_batch_too_small_for_packing_to_pay_goes_the_dense_path_by_itself() -> None:
    """In training alone; results are the same either way (law 3)."""
    loop = act_loop("auto")
    small, large = torch.randn(3, 5, DIM), torch.randn(64, 5, DIM)
    for x, training, packed in (
        (small, True, False),
        (small, False, True),
        (large, True, True),
        (large, False, True),
    ):
        with torch.set_grad_enabled(training):
            rows, steps = rows_through_linear_layers(loop, x, None)
            assert loop.packs(x.shape[0] * x.shape[1]) == packed
        assert rows[0] == (int(steps.sum()) if packed else int(steps.max()) * steps.numel())
    assert (
        Recurrence(PlainBlock(nn.Identity()), GravesACT(DIM), max_steps=2, path="auto").packs(
            10_000
        )
        is False
    )
    assert act_loop("packed").packs(1) and not act_loop("dense").packs(10_000)
