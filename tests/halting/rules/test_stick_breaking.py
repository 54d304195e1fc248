"""Stick-breaking halting against plain sums over one token at a time, and what trains its gate."""

import math

import pytest
import torch
from torch import Tensor, nn

from act import Block, Recurrence
from act.testing import assert_close
from halting import ExpectedSteps, FinalState, StepView, UsageError, WeightedMean
from halting.rules.stick_breaking import StickBreaking

DIM = 6
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)


def view(state: Tensor, remaining: list[float] | None = None) -> StepView:
    count = len(state)
    held = torch.ones(count) if remaining is None else torch.tensor(remaining)
    index = torch.arange(count)
    return StepView(
        torch.ones_like(index),
        9,
        state,
        state,
        held,
        0 * index,
        index,
        lambda: state,
        lambda: torch.zeros(count),
    )


def loop_of(threshold: float, std: float = 0.8, max_steps: int = 6) -> Recurrence:
    rule = StickBreaking(DIM, threshold)
    for parameter in rule.parameters():
        nn.init.normal_(parameter, std=std)
    return Recurrence(
        Block(DIM, 2, rotary=False, injection="add"), rule, max_steps=max_steps
    ).double()


def states_of(loop: Recurrence, x: Tensor) -> list[list[list[list[float]]]]:
    """By sequence, position and step, the states [D] that the tokens passed through."""
    bare = Recurrence(loop.block, loop.rule, FinalState(), max_steps=loop.max_steps)
    _, trace = bare(x, VALID, record_lens=True)
    assert trace.lens is not None
    return trace.lens.unpack(trace.lens.values, *VALID.shape, trace.num_steps).tolist()


def hazard_by_hand(rule: StickBreaking, state: list[float]) -> float:
    """e^{l₁} / (e^{l₀} + e^{l₁}) of the two logits, with plain numbers."""
    hidden = []
    for row, shift in zip(rule.hidden.weight.tolist(), rule.hidden.bias.tolist(), strict=True):
        a = sum(w * s for w, s in zip(row, state, strict=True)) + shift
        hidden.append(0.5 * a * (1 + math.erf(a / math.sqrt(2))))
    going, halting = (
        sum(w * h for w, h in zip(row, hidden, strict=True)) for row in rule.last.tolist()
    )
    return math.exp(halting) / (math.exp(going) + math.exp(halting))


@pytest.mark.parametrize("threshold", [0.999, 0.9, 0.6])
def test_mass_output_and_cost_are_those_of_the_paper(threshold: float) -> None:
    """p_n = λ_n Π_{m<n} (1 − λ_m); the output is (1 − Σ_{m<n} p_m)·s_n + Σ_{m<n} p_m·s_m at the
    last step n."""
    torch.manual_seed(2)
    loop, x = loop_of(threshold), torch.randn(2, 4, DIM, dtype=torch.float64)
    rule = loop.rule
    assert isinstance(rule, StickBreaking)
    output, trace = loop(x, VALID)
    states, cost, ponder = states_of(loop, x), ExpectedSteps()(trace), rule.ponder(trace)
    for row, position in VALID.nonzero().tolist():
        passed = states[row][position]
        hazards = [hazard_by_hand(rule, state) for state in passed]
        broken = [
            hazard * math.prod(1 - h for h in hazards[:n]) for n, hazard in enumerate(hazards)
        ]
        spent = [sum(broken[: n + 1]) for n in range(len(broken))]
        steps = next((n for n, total in enumerate(spent, 1) if total >= threshold), loop.max_steps)
        left = 1 - sum(broken[: steps - 1])
        mixed = [
            left * passed[steps - 1][d] + sum(broken[m] * passed[m][d] for m in range(steps - 1))
            for d in range(DIM)
        ]
        depth = steps * left + sum((m + 1) * broken[m] for m in range(steps - 1))
        assert trace.steps[row, position] == steps
        assert trace.mass[row, position].tolist()[:steps] == pytest.approx(
            [*broken[: steps - 1], left], abs=1e-12
        )
        assert trace.score[row, position].tolist()[:steps] == pytest.approx(
            hazards[:steps], abs=1e-12
        )
        assert output[row, position].tolist() == pytest.approx(mixed, abs=1e-12)
        assert cost[row, position].item() == pytest.approx(depth) == ponder[row, position].item()
    assert len(trace.steps[VALID].unique()) > 1 and (ponder[~VALID] == 0).all()


def test_it_starts_at_one_half_and_thinks_for_ten_steps_whatever_the_state() -> None:
    """½^10 < 0.001: computed ten times, though the mean exit is about 2. The gradient reaches every
    step."""
    rule = StickBreaking(DIM)
    decision, _ = rule.decide(view(100 * torch.randn(5, DIM)), None)
    assert decision.mass.tolist() == [0.5] * 5 and not decision.halt.any()
    _, trace = Recurrence(Block(DIM, 2, rotary=False), rule, max_steps=20)(torch.randn(2, 3, DIM))
    assert (trace.steps == 10).all()
    assert trace.mass[0, 0].tolist() == [0.5**n for n in range(1, 10)] + [0.5**9]
    assert rule.ponder(trace)[0, 0].item() == pytest.approx(2 - 0.5**9)


def test_pieces_are_broken_off_what_is_left() -> None:
    """Not off the whole stick, as ACT does: λ = ½ after ½ leaves a quarter."""
    decision, _ = StickBreaking(DIM).decide(view(torch.randn(3, DIM), [0.5, 0.25, 0.0015]), None)
    assert decision.mass.tolist() == pytest.approx([0.25, 0.125, 0.00075])
    assert decision.halt.tolist() == [False, False, True] and decision.score.tolist() == [0.5] * 3


def test_its_last_layer_learns_at_once_and_the_first_one_after_it() -> None:
    """A last layer of zeros keeps gradient from the layer before it, for one update only."""
    loop, x = loop_of(0.999, std=0.3), torch.randn(2, 4, DIM, dtype=torch.float64)
    rule = loop.rule
    assert isinstance(rule, StickBreaking)
    nn.init.zeros_(rule.last)
    of_last, of_hidden = torch.autograd.grad(
        ExpectedSteps()(loop(x)[1]).sum(), [rule.last, rule.hidden.weight]
    )
    assert (of_last != 0).any() and (of_hidden == 0).all()
    with torch.no_grad():
        rule.last.sub_(0.1 * of_last)
    (of_hidden,) = torch.autograd.grad(ExpectedSteps()(loop(x)[1]).sum(), rule.hidden.weight)
    assert (of_hidden != 0).any()


def test_the_gradient_of_its_cost_alone_is_that_of_finite_differences() -> None:
    loop, x = loop_of(0.999), torch.randn(2, 4, DIM, dtype=torch.float64)

    def total() -> tuple[Tensor, Tensor]:
        _, trace = loop(x, VALID)
        return ExpectedSteps()(trace).sum(), trace.steps

    value, steps = total()
    wanted = list(loop.rule.parameters())
    small = 1e-6
    for parameter, gradient in zip(wanted, torch.autograd.grad(value, wanted), strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(0, len(flat), 5):
            differences = []
            for move in (small, -2 * small):
                flat[place] += move
                moved, moved_steps = total()
                assert torch.equal(moved_steps, steps)
                differences.append(moved.item())
            flat[place] += small
            expected = (differences[0] - differences[1]) / (2 * small)
            assert numbers[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_gate_is_computed_wide() -> None:
    """From states and weights in bfloat16 as exactly as float32 can; computed in bfloat16 it is off
    by a percent."""
    rule = StickBreaking(DIM)
    for parameter in rule.parameters():
        nn.init.normal_(parameter)
    rule, state = rule.bfloat16(), torch.randn(50, DIM).bfloat16()
    decision, _ = rule.decide(view(state), None)
    assert decision.mass.dtype == torch.float32
    exact = torch.tensor([hazard_by_hand(rule, each) for each in state.tolist()])
    assert_close(decision.score, exact, "hazard")


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01])
def test_a_threshold_that_nobody_or_everybody_meets_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=f"threshold is {threshold}"):
        StickBreaking(DIM, threshold)


def test_what_it_says_of_itself() -> None:
    assert StickBreaking.causal and StickBreaking.spreads_mass
    assert (
        StickBreaking.default_readout is WeightedMean
        and StickBreaking.default_cost is ExpectedSteps
    )
