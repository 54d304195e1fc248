"""The public Universal Transformer's halting, number for number, against its equations on one token
at a time."""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from act import Block, Recurrence
from act.testing import assert_close, naive
from act.testing.probes import gradients_of
from halting import FixedSteps, Memory, StepDecision, StepsPlusRemainder, StepView, UsageError
from halting.costs.updates_plus_remainder import UpdatesPlusRemainder
from halting.exponential_blend import ExponentialBlend
from halting.rules.universal_transformer_act import UniversalTransformerACT
from halting.wrappers.max_steps import MaxSteps
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.stop_at import StopAt

DIM, LIMIT = 6, 6
FULL = torch.ones(3, 4, dtype=torch.bool)
SETTINGS = [
    (1.0, 0.01, 0.7),
    (0.0, 0.01, 0.15),
    (-0.5, 0.01, 0.1),
    (-1.0, 0.2, 0.2),
    (-2.0, 0.0, 0.2),
]
"""Starting bias, ε, and how far the hazards of different tokens lie apart."""
HOLES = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)


def loop_of(
    bias: float = 0.0, epsilon: float = 0.01, std: float = 0.15, max_steps: int = LIMIT
) -> Recurrence:
    torch.manual_seed(1)
    rule = UniversalTransformerACT(DIM, bias, epsilon)
    nn.init.normal_(rule.gate.weight, std=std)
    block = Block(
        DIM, 2, rotary=False, injection="add", step_signal="sinusoidal", feed_forward="gelu"
    )
    return Recurrence(block, rule, max_steps=max_steps).double()


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, 4, DIM, dtype=torch.float64, generator=generator).requires_grad_()


@dataclass(frozen=True)
class Published:
    """What the equations say, of every token of a batch.

    Args:
        output: [B L D] float64, 0 on padding.
        weights: w_1, w_2, ... of each real token, by (row, position).
        updates: M.
        remainder: R.
        loss: [] 0.01·mean(M + R), over real tokens.
    """

    output: Tensor
    weights: dict[tuple[int, int], list[Tensor]]
    updates: dict[tuple[int, int], int]
    remainder: dict[tuple[int, int], Tensor]
    loss: Tensor


def published(loop: Recurrence, x: Tensor, valid: Tensor) -> Published:
    """From the equations: all positions are transformed at every step, as by a fixed number of
    them; each token reads its own weights off its hazards; a hazard is that of the state before the
    step, with input and step signal added.

    The weight of a state in the output is written in closed form, w_n·Π_{m>n} (1 − w_m).
    """
    rule, block, limit = loop.rule, loop.block, loop.max_steps
    assert isinstance(rule, UniversalTransformerACT) and isinstance(block, Block)
    after = [x] + [
        naive.run(Recurrence(block, FixedSteps(), max_steps=n), x, valid).output
        for n in range(1, limit + 1)
    ]
    half, zero = DIM // 2, torch.zeros((), dtype=torch.float64)
    rates = [10_000 ** (-i / (half - 1)) for i in range(half)]
    rows: list[list[Tensor]] = [[x.new_zeros(DIM)] * valid.shape[1] for _ in valid]
    weights, updates, remainders = {}, {}, {}
    for row, position in valid.nonzero().tolist():
        hazards = []
        for n in range(1, limit + 1):
            signal = [math.sin(n * rate) for rate in rates] + [math.cos(n * rate) for rate in rates]
            read = (
                after[n - 1][row, position]
                + x[row, position]
                + torch.tensor(signal, dtype=torch.float64)
            )
            logit = (rule.gate.weight[0] * read).sum() + rule.gate.bias[0]
            hazards.append(1 / (1 + torch.exp(-logit)))
        sums = [sum(hazards[:n], zero) for n in range(limit + 1)]
        crossing = next((n for n in range(1, limit + 1) if sums[n].item() > 1 - rule.epsilon), None)
        count = crossing or limit
        remainder = zero if crossing is None else 1 - sums[count - 1]
        used = hazards[:count] if crossing is None else [*hazards[: count - 1], remainder]
        effective = [
            w * math.prod([1 - later for later in used[n + 1 :]], start=zero + 1)
            for n, w in enumerate(used)
        ]
        rows[row][position] = sum(
            (e * after[n + 1][row, position] for n, e in enumerate(effective)),
            start=x.new_zeros(DIM),
        )
        weights[row, position], updates[row, position], remainders[row, position] = (
            used,
            count,
            remainder,
        )
    costs = [updates[token] + remainders[token] for token in updates]
    output = torch.stack([torch.stack(tokens) for tokens in rows])
    return Published(output, weights, updates, remainders, 0.01 * torch.stack(costs).mean())


@pytest.mark.parametrize("valid", [FULL, HOLES], ids=["full", "holes"])
@pytest.mark.parametrize(("bias", "epsilon", "std"), SETTINGS)
def test_it_is_the_published_one_number_for_number(
    bias: float, epsilon: float, std: float, valid: Tensor
) -> None:
    loop, x = loop_of(bias, epsilon, std), inputs()
    output, trace = loop(x, valid)
    expected = published(loop, x, valid)
    cost, ponder = UpdatesPlusRemainder()(trace), loop.rule.ponder(trace)
    for (row, position), weights in expected.weights.items():
        blended = trace.aux["blend_weight"][row, position]
        used = torch.stack(weights)
        assert_close(blended[: len(weights)], used, f"weights of {row, position}")
        assert (blended[len(weights) :] == 0).all(), "weight after the last update"
        assert ponder[row, position] == expected.updates[row, position]
        assert_close(
            trace.aux["remainder"][row, position].sum(),
            expected.remainder[row, position],
            f"remainder {row, position}",
        )
        slowest = max(count for (of, _), count in expected.updates.items() if of == row)
        assert trace.steps[row, position] == slowest, (
            "everyone runs until the slowest of its sequence has crossed"
        )
    assert_close(output, expected.output, "output")
    loss = UpdatesPlusRemainder.default_penalty * cost.sum() / valid.sum()
    assert_close(loss, expected.loss, "0.01·mean(updates + remainder)")
    wanted = {"input": x, **dict(loop.named_parameters())}
    theirs = gradients_of({"output": expected.output, "loss": expected.loss}, wanted)
    for name, gradient in gradients_of({"output": output, "loss": loss}, wanted).items():
        assert_close(gradient, theirs[name], f"gradient of {name}")


def test_those_settings_have_every_kind_of_token() -> None:
    """Of one update and of several, cut off by the limit and not, long done while others of the
    sequence go on."""
    kinds = set()
    for bias, epsilon, std in SETTINGS:
        loop = loop_of(bias, epsilon, std)
        _, trace = loop(inputs(), FULL)
        ponder, cut = loop.rule.ponder(trace), trace.aux["remainder"].sum(-1) == 0
        both = zip(ponder.flatten().tolist(), cut.flatten().tolist(), strict=True)
        kinds |= {"cut" if is_cut else "one" if count == 1 else "several" for count, is_cut in both}
        kinds |= {"waiting"} if (ponder < trace.steps).any() else set()
    assert kinds == {"cut", "one", "several", "waiting"}


class Frozen(UniversalTransformerACT):
    """As the paper says it and the code does not: a token is transformed no more once it has
    crossed."""

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, after = super().decide(view, memory)
        assert isinstance(after, Tensor)
        return replace(decision, halt=after >= 1), after


def test_halted_tokens_go_on_being_transformed_and_others_attend_to_them() -> None:
    loop, x = loop_of(), inputs()
    output, trace = loop(x, FULL)
    waiting = loop.rule.ponder(trace) < trace.steps
    assert waiting.any() and not waiting.all()
    frozen = copy.deepcopy(loop)
    frozen.rule = Frozen(DIM, 0.0).double()
    frozen.rule.load_state_dict(loop.rule.state_dict())
    other, other_trace = frozen(x, FULL)
    assert (other_trace.steps < trace.steps).any() and not torch.allclose(other, output)
    expected = published(loop, x, FULL).output
    assert_close(output, expected, "output")
    assert (other - expected).abs().max() > 1e-3, "frozen tokens would have gone unnoticed"


def test_only_the_output_of_a_halted_token_stops() -> None:
    """Cut at the step of its last update, or computed on beyond it: the same output."""
    loop, x = loop_of(), inputs()
    whole, trace = loop(x, FULL)
    ponder = loop.rule.ponder(trace)
    for limit in range(1, LIMIT + 1):
        done = ponder <= limit
        crossed = trace.aux["remainder"][..., :limit].sum(-1) > 0
        cut, _ = loop(x, FULL, max_steps=limit)
        assert_close(cut[done & crossed], whole[done & crossed], f"limit {limit}")
    late = Recurrence(loop.block, MinSteps(loop.rule, LIMIT), max_steps=LIMIT)
    output, late_trace = late(x, FULL)
    assert (late_trace.steps == LIMIT).all() and (trace.steps < LIMIT).any()
    assert_close(output, whole, "computed to the limit")
    assert torch.equal(late.rule.ponder(late_trace), ponder)


def test_the_step_limit_gives_no_remainder() -> None:
    """M = N, R = 0: a cost that no gradient moves, and weights that sum to less than one."""
    loop = loop_of(bias=-4.0, std=0.02)
    _, trace = loop(inputs(), FULL)
    assert (trace.aux["remainder"] == 0).all() and (loop.rule.ponder(trace) == LIMIT).all()
    assert (trace.aux["blend_weight"].sum(-1) < 0.5).all()
    assert_close(trace.aux["blend_weight"], trace.score, "the weight is the hazard")
    cost = UpdatesPlusRemainder()(trace)
    assert (cost == LIMIT).all()
    assert all(
        (g == 0).all() for g in torch.autograd.grad(cost.sum(), list(loop.rule.parameters()))
    )
    assert (StepsPlusRemainder()(trace) == LIMIT + 1).all(), (
        "law 1's unit of mass is all on the last step"
    )


def test_its_exit_mass_is_one_unit_where_it_leaves_whatever_the_published_weights() -> None:
    loop = loop_of()
    _, trace = loop(inputs(), HOLES)
    numbers = torch.arange(1, trace.num_steps + 1)
    one_hot = (numbers == trace.steps.unsqueeze(-1)) & HOLES.unsqueeze(-1)
    assert torch.equal(trace.mass, one_hot.double())
    assert not torch.allclose(trace.aux["blend_weight"], trace.mass)


def test_the_gate_reads_what_the_block_read() -> None:
    """Not the state after the step, as Graves' does."""
    rule = UniversalTransformerACT(2, bias_init=0.0)
    nn.init.ones_(rule.gate.weight)
    state, entering = torch.full((3, 2), 9.0), torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    decision, _ = rule.decide(view(state, entering), torch.zeros(3))
    assert decision.score.tolist() == pytest.approx([0.268941, 0.5, 0.731059], abs=1e-5)


def view(state: Tensor, entering: Tensor | None = None, row: list[int] | None = None) -> StepView:
    index = torch.arange(len(state))
    rows = 0 * index if row is None else torch.tensor(row)
    held = torch.ones(len(state))
    read = state if entering is None else entering
    return StepView(index * 0 + 1, 9, read, state, held, rows, index, lambda: state, lambda: held)


def test_as_published_everyone_crosses_at_step_2_of_an_untrained_model() -> None:
    """σ(1) = 0.731 once is not over 0.99, twice is: M = 2, R = 0.269, and a gradient on R alone."""
    loop = Recurrence(
        Block(DIM, 2, rotary=False), UniversalTransformerACT(DIM), max_steps=9
    ).double()
    _, trace = loop(inputs())
    assert (loop.rule.ponder(trace) == 2).all() and (trace.steps == 2).all()
    assert UpdatesPlusRemainder()(trace)[0, 0].item() == pytest.approx(2 + 0.2689414)
    assert trace.aux["blend_weight"][0, 0].tolist() == pytest.approx([0.7310586, 0.2689414])


def test_a_token_has_crossed_above_the_threshold_and_the_sequence_ends_at_it() -> None:
    """At exactly 1 − ε the loop ends all the same, and that token has no remainder."""
    rule = UniversalTransformerACT(1, bias_init=0.0, epsilon=0.5)
    at, over = torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.25])
    decision, after = rule.decide(view(torch.zeros(2, 1)), at)
    assert decision.halt.tolist() == [True, True] and decision.aux["remainder"].tolist() == [0, 0]
    assert isinstance(after, Tensor) and after.tolist() == [0.5, 0.5]
    decision, after = rule.decide(view(torch.zeros(2, 1)), over)
    assert decision.aux["remainder"].tolist() == [0, 0.75] and decision.aux[
        "blend_weight"
    ].tolist() == [0.5, 0.75]
    assert isinstance(after, Tensor) and after.tolist() == [0.5, 1]


def test_a_sequence_waits_for_its_slowest_and_not_for_those_of_others() -> None:
    rule = UniversalTransformerACT(1, bias_init=0.0)
    accumulated = torch.tensor([0.9, 1.0, 0.9, 0.1, 1.0])
    decision, after = rule.decide(view(torch.zeros(5, 1), row=[0, 0, 2, 2, 3]), accumulated)
    assert decision.halt.tolist() == [True, True, False, False, True]
    assert isinstance(after, Tensor) and after.tolist() == pytest.approx([1, 1, 1, 0.6, 1])
    assert decision.aux["update"].tolist() == [1, 0, 1, 1, 0]
    assert decision.aux["blend_weight"].tolist() == pytest.approx([0.1, 0, 0.1, 0.5, 0])


@pytest.mark.parametrize("wrap", [MaxSteps, StopAt])
def test_had_it_stopped_there_is_the_blend_that_a_limit_would_leave(
    wrap: type[MaxSteps] | type[StopAt],
) -> None:
    """The lens, a step limit and everyone stopped at that depth say one thing; the last lens is the
    output."""
    loop, x = loop_of(), inputs()
    output, trace = loop(x, FULL, record_lens=True)
    assert trace.lens is not None
    lens = trace.lens.unpack(trace.lens.values, *FULL.shape, trace.num_steps)
    for n in range(1, int(trace.steps.min()) + 1):
        stopped, _ = Recurrence(loop.block, wrap(loop.rule, n), max_steps=LIMIT)(x, FULL)
        assert_close(lens[:, :, n - 1], stopped, f"stopped at {n}")
        assert_close(stopped, loop(x, FULL, max_steps=n)[0], f"limit {n}")
    last = lens.gather(
        2, (trace.steps - 1).view(*FULL.shape, 1, 1).expand(*FULL.shape, 1, DIM)
    ).squeeze(2)
    assert_close(last, output, "the lens at the last step")


def test_the_count_has_no_gradient_and_the_remainder_that_of_finite_differences() -> None:
    loop, x = loop_of(bias=-0.5, std=0.1), inputs().detach()

    def total() -> tuple[Tensor, Tensor]:
        _, trace = loop(x, HOLES)
        return UpdatesPlusRemainder()(trace).sum(), trace.aux["update"]

    value, counted = total()
    wanted = list(loop.rule.parameters())
    assert all(
        (g == 0).all() for g in torch.autograd.grad(counted.sum(), wanted, retain_graph=True)
    )
    small = 1e-6
    for parameter, gradient in zip(wanted, torch.autograd.grad(value, wanted), strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(len(flat)):
            differences = []
            for move in (small, -2 * small):
                flat[place] += move
                moved, moved_counted = total()
                assert torch.equal(moved_counted, counted), "the cost jumps where the count does"
                differences.append(moved.item())
            flat[place] += small
            expected = (differences[0] - differences[1]) / (2 * small)
            assert numbers[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_penalty_is_a_mean_over_real_tokens_whatever_the_padding() -> None:
    """The public code averages over padding too: there, batching short sequences with long ones
    would make thinking cheaper or costlier for everyone."""
    loop, x = loop_of(), inputs().detach()
    wide = torch.cat((x, 9 * torch.randn(3, 5, DIM, dtype=torch.float64)), dim=1)
    valid = torch.cat((HOLES, torch.zeros(3, 5, dtype=torch.bool)), dim=1)
    cost, wider = (UpdatesPlusRemainder()(loop(*each)[1]) for each in ((x, HOLES), (wide, valid)))
    assert (wider[~valid] == 0).all() and (wider[valid] >= 1).all()
    assert_close(wider.sum() / valid.sum(), cost.sum() / HOLES.sum(), "mean over real tokens")


def test_its_cost_cannot_read_another_rule() -> None:
    _, trace = Recurrence(Block(DIM, 2, rotary=False), FixedSteps(2), max_steps=3).double()(
        inputs()
    )
    with pytest.raises(UsageError, match="finds no update and no remainder"):
        UpdatesPlusRemainder()(trace)


@pytest.mark.parametrize("epsilon", [-0.01, 1.0])
def test_an_epsilon_that_means_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match=f"epsilon is {epsilon}"):
        UniversalTransformerACT(DIM, epsilon=epsilon)


def test_what_it_says_of_itself() -> None:
    assert not UniversalTransformerACT.causal and not UniversalTransformerACT.spreads_mass
    assert UniversalTransformerACT.default_readout is ExponentialBlend
    assert (
        UniversalTransformerACT.default_cost is UpdatesPlusRemainder
        and not UpdatesPlusRemainder.needs_spread_mass
    )
    assert UpdatesPlusRemainder.default_penalty == 0.01 and UpdatesPlusRemainder.unit == "steps"
