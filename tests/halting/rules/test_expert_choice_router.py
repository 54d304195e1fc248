"""Expert-choice routing: against plain loops over tokens, finite differences, and the traps."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from act import Block, Checkpointed, PlainBlock, Recurrence
from halting import (
    FinalState,
    FixedSteps,
    GravesACT,
    LoopTrace,
    MaxSteps,
    MinSteps,
    PerSequence,
    StepView,
    UsageError,
)
from halting.costs.top_k_target import TopKTarget
from halting.rules.expert_choice_router import ExpertChoiceRouter

DIM, LIMIT = 6, 4
VALID = torch.tensor([[1] * 10, [0, 1, 1, 0, 1, 1, 1, 1, 0, 0], [1] + [0] * 9], dtype=torch.bool)
TOKENS = (10, 6, 1)


def router(max_steps: int = LIMIT, **options: str | float | int) -> ExpertChoiceRouter:
    rule = ExpertChoiceRouter(DIM, max_steps, **{"warmup": 0, **options})  # pyright: ignore[reportArgumentType]
    nn.init.normal_(rule.router.weight)
    nn.init.normal_(rule.router.bias)
    return rule


def loop_of(rule: ExpertChoiceRouter, **options: Checkpointed) -> Recurrence:
    return Recurrence(Block(DIM, 2, rotary=False), rule, max_steps=LIMIT, **options).double()  # pyright: ignore[reportArgumentType]


def reading(
    *logits: float, row: list[int] | None = None, position: list[int] | None = None, step: int = 1
) -> StepView:
    """Tokens whose state is the logit that a `plain` router reads."""
    state = torch.tensor(logits).unsqueeze(-1)
    count = len(logits)
    return StepView(
        step=torch.full((count,), step),
        max_steps=9,
        entering=state,
        state=state,
        remaining=torch.ones(count),
        row=torch.tensor(row or [0] * count),
        position=torch.arange(count) if position is None else torch.tensor(position),
        logits=lambda: state,
        uniform=lambda: torch.zeros(count),
    )


def plain(max_steps: int, **options: str | float | int) -> ExpertChoiceRouter:
    rule = ExpertChoiceRouter(1, max_steps, **{"warmup": 0, **options})  # pyright: ignore[reportArgumentType]
    nn.init.ones_(rule.router.weight)
    return rule


def who_stays(
    rule: ExpertChoiceRouter, view: StepView, tokens: list[int] | None = None
) -> list[bool]:
    memory, _ = rule.begin(view)
    memory = memory if tokens is None else {"tokens": torch.tensor(tokens)}
    return (~rule.decide(view, memory)[0].halt).tolist()


def states_of(loop: Recurrence, x: Tensor, valid: Tensor) -> tuple[LoopTrace, Tensor]:
    """The trace, and the state after each step [B L N D]."""
    _, trace = loop(x, valid, record_lens=True)
    assert trace.lens is not None
    return trace, trace.lens.unpack(trace.lens.values, *valid.shape, trace.num_steps)


def says(rule: ExpertChoiceRouter, state: list[float], step: int) -> float:
    weight, bias = rule.router.weight[step - 1].tolist(), rule.router.bias[step - 1].item()
    return sum(w * s for w, s in zip(weight, state, strict=True)) + bias


def by_hand(
    rule: ExpertChoiceRouter, states: Tensor, valid: Tensor
) -> tuple[list[list[int]], list[list[float]]]:
    """Steps and cost of every token, with lists; the state of a token that has left stays as it
    is."""
    all_steps, all_costs = [], []
    for row in range(len(valid)):
        tokens = [p for p in range(valid.shape[1]) if valid[row, p]]
        steps, costs = [0] * valid.shape[1], [0.0] * valid.shape[1]
        active = tokens
        for step in range(1, LIMIT + 1):
            for p in active:
                steps[p] = step
            if step == LIMIT:
                break
            logit = {p: says(rule, states[row, p, step - 1].tolist(), step + 1) for p in active}
            keep = max(1, len(tokens) * (LIMIT - step) // LIMIT)
            chosen = sorted(active, key=lambda p: (-logit[p], p))[:keep]
            for p in active:
                target = 1.0 if p in chosen else 0.0
                probability = 1 / (1 + math.exp(-logit[p]))
                entropy = -(
                    target * math.log(probability) + (1 - target) * math.log(1 - probability)
                )
                costs[p] += (0.001 * entropy + 0.001 * logit[p] ** 2) * len(tokens) / len(active)
            active = [p for p in active if p in chosen]
        all_steps.append(steps)
        all_costs.append(costs)
    return all_steps, all_costs


def test_it_is_the_plain_loop_over_tokens() -> None:
    rule = router()
    trace, states = states_of(loop_of(rule), torch.randn(3, 10, DIM, dtype=torch.float64), VALID)
    steps, costs = by_hand(rule, states, VALID)
    assert trace.steps.tolist() == steps
    torch.testing.assert_close(TopKTarget()(trace), torch.tensor(costs, dtype=torch.float64))


def test_the_fraction_is_of_the_whole_sequence_not_of_who_is_left() -> None:
    """⌊T·(3, 2, 1)/4⌋; fractions of fractions would leave 10, 7, 3, 0. A sequence never runs empty
    before the limit."""
    _, trace = loop_of(router())(torch.randn(3, 10, DIM, dtype=torch.float64), VALID)
    counts = [trace.ran[row].sum(0).tolist() for row in range(3)]
    assert counts == [[10, 7, 5, 2], [6, 4, 3, 1], [1, 1, 1, 1]]


def test_who_was_not_chosen_cannot_come_back() -> None:
    """A ranking of all tokens at each step would bring some of them back."""
    rule = router()
    trace, states = states_of(loop_of(rule), torch.randn(3, 10, DIM, dtype=torch.float64), VALID)
    ran = trace.ran[0]
    frozen = [states[0, p, min(1, int(trace.steps[0, p]) - 1)].tolist() for p in range(10)]
    best = sorted(range(10), key=lambda p: -says(rule, frozen[p], 3))[:5]
    assert not all(ran[p, 1] for p in best), "the seed shows nothing"
    assert (ran[:, 1:] <= ran[:, :-1]).all() and ran[:, 2].sum() == 5


def test_it_ranks_within_each_sequence_whatever_the_order_of_tokens() -> None:
    view = reading(
        1.0, 9.0, 2.0, 8.0, 3.0, 7.0, row=[4, 1, 4, 1, 4, 1], position=[0, 0, 3, 3, 1, 1]
    )
    assert who_stays(plain(2, capacity="1,0.67"), view) == [False, True, True, True, True, False]
    assert who_stays(plain(2, capacity="1,0.4"), view) == [False, True, False, False, True, False]


def test_the_first_of_equals_is_chosen() -> None:
    assert who_stays(plain(2), reading(5.0, 5.0, 5.0, 5.0)) == [True, True, False, False]
    assert who_stays(plain(2), reading(5.0, 5.0, 5.0, 5.0, position=[3, 1, 0, 2])) == [
        False,
        True,
        True,
        False,
    ]


def test_scores_that_saturate_still_rank() -> None:
    """σ(60) and σ(90) are both 1 in float32; the logits differ."""
    assert torch.sigmoid(torch.tensor(60.0)) == torch.sigmoid(torch.tensor(90.0)) == 1
    assert who_stays(plain(2), reading(60.0, 90.0)) == [False, True]


def test_fractions_are_taken_exactly() -> None:
    """0.29 · 100 is 28.999999999999996."""
    assert (
        sum(who_stays(plain(2, capacity="1,0.29"), reading(*(0.1 * n for n in range(100))))) == 29
    )


def test_beyond_its_depth_the_last_router_and_fraction_hold() -> None:
    rule = router(max_steps=2, capacity="1,0.5")
    _, trace = loop_of(rule)(torch.randn(3, 10, DIM, dtype=torch.float64), VALID)
    assert trace.ran[0].sum(0).tolist() == [10, 5, 5, 5]


class Increment(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_the_gain_multiplies_the_update(alpha: float) -> None:
    """Of a block that adds 1, a step adds alpha·σ(z), z read before the step by the router of that
    step."""
    rule = router(alpha=alpha)
    loop = Recurrence(PlainBlock(Increment(), positionwise=True), rule, max_steps=LIMIT).double()
    x = torch.randn(3, 10, DIM, dtype=torch.float64)
    trace, states = states_of(loop, x, VALID)
    before = torch.cat((x.unsqueeze(2), states[:, :, :-1]), dim=2)
    for row, p, n in trace.ran.nonzero().tolist():
        gain = alpha / (1 + math.exp(-says(rule, before[row, p, n].tolist(), n + 1)))
        assert (states - before)[row, p, n].tolist() == pytest.approx([gain] * DIM)


def gradients_checked(loop: Recurrence, total: Callable[[], Tensor]) -> list[Tensor]:
    """The gradients of a number at the router's parameters, after a comparison with finite
    differences."""
    wanted = list(loop.rule.parameters())
    found = torch.autograd.grad(total(), wanted)
    small = 1e-6
    for parameter, gradient in zip(wanted, found, strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(len(flat)):
            moved = []
            for move in (small, -2 * small):
                flat[place] += move
                moved.append(total().item())
            flat[place] += small
            assert numbers[place].item() == pytest.approx(
                (moved[0] - moved[1]) / (2 * small), rel=1e-5, abs=1e-7
            )
    return list(found)


def test_the_gradient_of_the_cost_alone_is_that_of_finite_differences() -> None:
    loop, x = loop_of(router()), torch.randn(3, 10, DIM, dtype=torch.float64)
    steps = loop(x, VALID)[1].steps

    def total() -> Tensor:
        trace = loop(x, VALID)[1]
        assert torch.equal(trace.steps, steps), "another choice: no derivative there"
        return 1000 * TopKTarget()(trace).sum()

    gradients_checked(loop, total)


def test_the_task_reaches_every_router_through_the_gain() -> None:
    """A loss of the output alone, no cost: a gain without gradient would leave the routers
    untrained."""
    loop, x = loop_of(router()), torch.randn(3, 10, DIM, dtype=torch.float64)
    for gradient in gradients_checked(loop, lambda: loop(x, VALID)[0].square().sum()):
        assert (gradient != 0).all()


def test_the_mean_cost_is_the_published_one() -> None:
    """Sequences of one length: Σ over steps of the mean cross entropy and the mean z² of those that
    were asked."""
    rule = router()
    trace, states = states_of(
        loop_of(rule), torch.randn(5, 8, DIM, dtype=torch.float64), torch.ones(5, 8).bool()
    )
    expected = torch.zeros((), dtype=torch.float64)
    for n in range(1, LIMIT):
        asked, goes_on = trace.steps >= n, trace.steps > n
        logit = states[:, :, n - 1][asked] @ rule.router.weight[n] + rule.router.bias[n]
        expected += 0.3 * F.binary_cross_entropy_with_logits(logit, goes_on[asked].double())
        expected += 0.7 * logit.unsqueeze(-1).logsumexp(-1).square().mean()
    torch.testing.assert_close(TopKTarget(0.3, 0.7)(trace).mean(), expected)


def test_a_sequence_costs_the_same_whoever_is_beside() -> None:
    loop, x = loop_of(router()), torch.randn(3, 10, DIM, dtype=torch.float64)
    together = TopKTarget()(loop(x, VALID)[1])
    for row in range(3):
        alone = TopKTarget()(loop(x[row : row + 1], VALID[row : row + 1])[1])
        torch.testing.assert_close(alone, together[row : row + 1])
    assert (together[~VALID] == 0).all() and (together[VALID] > 0).all()


def test_the_warm_up_is_a_half_cosine_from_everybody() -> None:
    rule = plain(2, capacity="1,0.5", warmup=10)
    view = reading(*(0.1 * n for n in range(100)))
    counts = []
    for _ in range(13):
        counts.append(sum(who_stays(rule, view)))
        rule.end_update()
    assert counts == [
        math.floor(50 + 25 * (1 + math.cos(math.pi * min(n, 10) / 10)) + 1e-9) for n in range(13)
    ]
    assert counts[0] == 100 and counts[5] == 75 and counts[-3:] == [50, 50, 50]
    assert sum(who_stays(plain(2, capacity="1,0.5", warmup=10).eval(), view)) == 50


def test_the_warm_up_goes_on_after_a_checkpoint() -> None:
    """Kept as a plain number it would start again on resume: everybody would be computed once
    more."""
    rule, view = plain(2, capacity="1,0.5", warmup=10), reading(*(0.1 * n for n in range(100)))
    for _ in range(10):
        rule.end_update()
    resumed = plain(2, capacity="1,0.5", warmup=10)
    resumed.load_state_dict(rule.state_dict())
    assert resumed.updates == 10
    assert sum(who_stays(resumed, view)) == sum(who_stays(rule, view)) == 50
    assert sum(who_stays(plain(2, capacity="1,0.5", warmup=10), view)) == 100


def test_the_count_of_updates_survives_a_narrow_dtype() -> None:
    rule = plain(2, warmup=1000)
    rule.updates.fill_(701)
    assert rule.bfloat16().updates == 701


def test_an_update_is_counted_once_whatever_the_forward_passes() -> None:
    rule = router(warmup=7)
    loop, x = loop_of(rule, backprop=Checkpointed()), torch.randn(3, 10, DIM, dtype=torch.float64)
    for _ in range(3):
        loop(x, VALID)[0].sum().backward()  # computes every step a second time
    assert rule.updates == 0
    MinSteps(
        PerSequence(GravesACT(DIM)), 2
    ).end_update()  # most rules keep nothing, in wrappers too
    MaxSteps(rule, 3).end_update()
    assert rule.updates == 1


def test_by_threshold_each_token_decides_alone_in_evaluation() -> None:
    rule, view = plain(2, capacity="1,0.5", evaluation="threshold"), reading(0.3, -0.1, 0.2, 0.1)
    assert who_stays(rule, view) == [True, False, True, False]
    rule.eval()
    decision, _ = rule.decide(view, rule.begin(view)[0])
    assert (~decision.halt).tolist() == [True, False, True, True]
    assert decision.aux["choice"].tolist() == [1, -1, 1, -1], "the target is the top k all the same"


def test_what_it_names() -> None:
    rule = ExpertChoiceRouter(DIM, LIMIT)
    assert rule.default_readout is FinalState and rule.default_cost is TopKTarget
    assert not rule.causal and not rule.spreads_mass and not TopKTarget.needs_spread_mass
    assert TopKTarget().default_penalty == 1.0 and rule.fractions == (1, 0.75, 0.5, 0.25)


def test_at_the_start_tokens_already_differ() -> None:
    """With weights of zero all would tie, and position alone would choose."""
    trace = Recurrence(Block(DIM, 2, rotary=False), ExpertChoiceRouter(DIM, 3), max_steps=3)(
        torch.randn(1, 50, DIM)
    )[1]
    assert len(trace.score[0, :, 0].unique()) > 40


@pytest.mark.parametrize(
    "capacity", ["", "0.5", "1,0.5,0.6", "1,0", "1,-0.5", "1,nan", "1;0.5", "2,1"]
)
def test_fractions_that_are_none_are_refused(capacity: str) -> None:
    with pytest.raises(UsageError, match="capacity is"):
        ExpertChoiceRouter(DIM, LIMIT, capacity=capacity)


def test_other_refusals() -> None:
    with pytest.raises(UsageError, match="alpha is 0"):
        ExpertChoiceRouter(DIM, LIMIT, alpha=0.0)
    with pytest.raises(UsageError, match="warmup is -1"):
        ExpertChoiceRouter(DIM, LIMIT, warmup=-1)
    _, trace = Recurrence(Block(DIM, 2, rotary=False), FixedSteps(2), max_steps=3)(
        torch.randn(1, 2, DIM)
    )
    with pytest.raises(UsageError, match="TopKTarget finds no choice_logit and no choice"):
        TopKTarget()(trace)
