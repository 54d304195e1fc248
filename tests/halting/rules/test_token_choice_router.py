"""Token-choice routing: against plain loops over tokens, finite differences, and the traps."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from act import Block, PlainBlock, Recurrence, StepwiseCache
from halting import FinalState, GravesACT, MinSteps, UsageError
from halting.costs.load_balance import LoadBalance
from halting.rules.token_choice_router import TokenChoiceRouter

DIM, LIMIT = 6, 4
VALID = torch.tensor([[1] * 10, [0, 1, 1, 0, 1, 1, 1, 1, 0, 0], [1] + [0] * 9], dtype=torch.bool)


def router(max_steps: int = LIMIT, **options: str | float | int) -> TokenChoiceRouter:
    rule = TokenChoiceRouter(DIM, max_steps, **options)  # pyright: ignore[reportArgumentType]
    nn.init.normal_(rule.router.weight)
    nn.init.normal_(rule.router.bias)
    return rule


def loop_of(rule: TokenChoiceRouter, causal: bool = False) -> Recurrence:
    return Recurrence(Block(DIM, 2, rotary=False, causal=causal), rule, max_steps=LIMIT).double()


def batch() -> Tensor:
    return torch.randn(3, 10, DIM, dtype=torch.float64)


def scores_of(rule: TokenChoiceRouter, state: list[float]) -> tuple[list[float], list[float]]:
    """The scores and the logits of one token, with lists."""
    logits = [
        sum(w * s for w, s in zip(weight, state, strict=True)) + bias
        for weight, bias in zip(rule.router.weight.tolist(), rule.router.bias.tolist(), strict=True)
    ]
    if rule.scores == "sigmoid":
        return [rule.alpha / (1 + math.exp(-z)) for z in logits], logits
    whole = sum(math.exp(z) for z in logits)
    return [rule.alpha * math.exp(z) / whole for z in logits], logits


class Increment(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize("moves", [(0, 0, 0, 0), (40, -70, 0, 15)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"scores": "sigmoid", "alpha": 0.1}, {"alpha": 0.7}], ids=str
)
def test_depth_gain_and_cost_of_each_token(
    options: dict[str, str | float], moves: tuple[int, ...]
) -> None:
    """Of a block that adds 1: every step but the last adds 1, the last adds the chosen depth's
    score, bias left out."""
    rule = router(**options)
    rule.moves.copy_(torch.tensor(moves))
    loop, x = (
        Recurrence(PlainBlock(Increment(), positionwise=True), rule, max_steps=LIMIT).double(),
        batch(),
    )
    output, trace = loop(x, VALID)
    told = [(row, p, *scores_of(rule, x[row, p].tolist())) for row, p in VALID.nonzero().tolist()]
    depths = {}
    for row, p, scores, _ in told:
        biased = [score + 0.001 * move for score, move in zip(scores, moves, strict=True)]
        depths[row, p] = depth = biased.index(max(biased)) + 1
        assert trace.steps[row, p] == depth
        assert (output - x)[row, p].tolist() == pytest.approx([depth - 1 + scores[depth - 1]] * DIM)
    assert len(set(depths.values())) > 1
    fraction = [sum(depth == n + 1 for depth in depths.values()) / len(told) for n in range(LIMIT)]
    cost = LoadBalance(weight=0.3, z_weight=0.05)(trace)
    for row, p, scores, logits in told:
        balance = LIMIT * sum(f * g for f, g in zip(fraction, scores, strict=True))
        z = math.log(sum(math.exp(logit) for logit in logits)) ** 2
        assert cost[row, p].item() == pytest.approx(0.3 * balance + 0.05 * z)
    mean = [sum(scores[n] for _, _, scores, _ in told) / len(told) for n in range(LIMIT)]
    published = LIMIT * sum(p * f for p, f in zip(mean, fraction, strict=True))
    assert LoadBalance(1.0, 0.0)(trace)[VALID].mean().item() == pytest.approx(published)
    assert (cost[~VALID] == 0).all()


def test_an_even_load_costs_least() -> None:
    """All on one depth with certainty costs N, an even load 1, times the weight."""
    rule, x = router(), torch.zeros(1, 8, DIM, dtype=torch.float64)
    x[0, :, :LIMIT] = 50 * torch.eye(LIMIT).repeat(2, 1)
    with torch.no_grad():
        rule.router.weight.copy_(torch.eye(DIM)[:LIMIT])
        rule.router.bias.zero_()
    loop = loop_of(rule)
    even, uneven = (
        LoadBalance(0.1, 0.0)(loop(each)[1]).mean().item()
        for each in (x, x[:, :1].expand(1, 8, DIM))
    )
    assert even == pytest.approx(0.1) and uneven == pytest.approx(0.4)


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


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_the_gradient_of_the_cost_alone_is_that_of_finite_differences(scores: str) -> None:
    loop, x = loop_of(router(scores=scores)), batch()
    steps = loop(x, VALID)[1].steps
    assert len(steps.unique()) > 2

    def total() -> Tensor:
        trace = loop(x, VALID)[1]
        assert torch.equal(trace.steps, steps), "another choice: no derivative there"
        return LoadBalance()(trace).sum()

    gradients_checked(loop, total)


def test_the_task_reaches_the_router_through_the_gain() -> None:
    """A loss of the output alone, no cost: a gain without gradient would leave the router
    untrained."""
    loop, x = loop_of(router()), batch()
    for gradient in gradients_checked(loop, lambda: loop(x, VALID)[0].square().sum()):
        assert (gradient != 0).all()


def loads(rule: TokenChoiceRouter, x: Tensor) -> list[int]:
    """How many tokens one training pass sends to each depth."""
    steps = loop_of(rule)(x, VALID)[1].steps[VALID]
    return [int((steps == n + 1).sum()) for n in range(LIMIT)]


def trained_once(rule: TokenChoiceRouter, x: Tensor) -> list[int]:
    """The same, as an update of its own."""
    sent = loads(rule, x)
    rule.end_update()
    return sent


def test_the_bias_moves_towards_balance_after_each_update() -> None:
    rule, x = router(balance="bias", bias_rate=0.05), batch()
    expected = [0] * LIMIT
    for _ in range(5):
        sent = loads(rule, x)
        rule.end_update()
        mean = sum(sent) / LIMIT
        expected = [
            n + (load < mean) - (load > mean) for n, load in zip(expected, sent, strict=True)
        ]
        assert rule.moves.tolist() == expected
    rule.eval()
    loads(rule, x)
    assert rule.sent.tolist() == [0] * LIMIT, "evaluation is counted"


def test_the_bias_balances_a_router_that_prefers_one_depth() -> None:
    rule, x = router(balance="bias", bias_rate=0.005), torch.randn(3, 40, DIM, dtype=torch.float64)
    with torch.no_grad():
        rule.router.bias[2] += 2.0
    loop = Recurrence(PlainBlock(Increment(), positionwise=True), rule, max_steps=LIMIT).double()
    counts = []
    for _ in range(200):
        counts.append(torch.bincount(loop(x)[1].steps.flatten(), minlength=LIMIT + 1)[1:])
        rule.end_update()
    assert counts[0].max() - counts[0].min() > 50
    assert counts[-1].max() - counts[-1].min() <= 6


def test_the_bias_follows_the_load_of_all_micro_batches_and_ranks() -> None:
    rule = router(balance="bias")
    sent = [loads(rule, batch()) for _ in range(3)]
    asked: list[list[int]] = []

    def over_ranks(mine: Tensor) -> Tensor:
        asked.append(mine.tolist())
        return mine + mine.new_tensor([0, 0, 900, 0])

    MinSteps(rule, 1).end_update(over_ranks)
    assert asked == [[sum(each) for each in zip(*sent, strict=True)]]
    assert rule.moves.tolist() == [1, 1, -1, 1] and rule.sent.tolist() == [0] * LIMIT


def test_by_loss_the_bias_rests() -> None:
    rule = router()
    loads(rule, batch())
    rule.end_update()
    assert rule.moves.tolist() == [0] * LIMIT


def test_warming_up_everybody_goes_all_the_way() -> None:
    rule, x = router(warmup=2, balance="bias"), batch()
    seen = [trained_once(rule, x) for _ in range(3)]
    assert seen[0] == seen[1] == [0, 0, 0, int(VALID.sum())] and seen[2] != seen[0]
    assert rule.moves.abs().sum() > 0
    rule = router(warmup=2, balance="bias")
    trained_once(rule, x)
    assert rule.moves.tolist() == [0] * LIMIT, "the bias moves while nobody is routed"
    assert loads(rule.eval(), x) != seen[0], "evaluation warms up"


def test_warm_up_and_bias_go_on_after_a_checkpoint() -> None:
    """Kept as plain numbers they would start again on resume."""
    rule, x = router(warmup=2, balance="bias"), batch()
    for _ in range(4):
        trained_once(rule, x)
    resumed = TokenChoiceRouter(DIM, LIMIT, warmup=2, balance="bias").double()
    resumed.load_state_dict(rule.state_dict())
    assert (
        resumed.updates == 4
        and torch.equal(resumed.moves, rule.moves)
        and rule.moves.abs().sum() > 0
    )
    assert loads(resumed, x) == loads(rule, x) != [0, 0, 0, int(VALID.sum())]


def test_the_bias_survives_a_narrow_dtype() -> None:
    """A bias of 0.6 kept in bfloat16 could not be moved by 0.001."""
    assert torch.tensor(0.6).bfloat16() + 0.001 == torch.tensor(0.6).bfloat16()
    rule = router(balance="bias").bfloat16()
    rule.moves.copy_(torch.tensor([600, 601, -600, 0]))
    assert rule.float().moves.tolist() == [600, 601, -600, 0]


def test_on_a_wrapper_s_extra_steps_the_gain_stays() -> None:
    rule = router()
    loop = Recurrence(
        PlainBlock(Increment(), positionwise=True), MinSteps(rule, 3), max_steps=LIMIT
    ).double()
    x = batch()
    output, trace = loop(x, VALID)
    shallow = 0
    for row, p in VALID.nonzero().tolist():
        scores, _ = scores_of(rule, x[row, p].tolist())
        depth = scores.index(max(scores)) + 1
        shallow += depth < 3
        taken = max(depth, 3)
        assert trace.steps[row, p] == taken
        assert (output - x)[row, p, 0].item() == pytest.approx(
            depth - 1 + (taken - depth + 1) * scores[depth - 1]
        )
    assert shallow


@torch.no_grad()
def test_decoding_equals_the_parallel_pass() -> None:
    loop, x = loop_of(router(), causal=True).eval(), batch()
    output, trace = loop(x)
    cache = StepwiseCache(torch.zeros(3, 10, dtype=torch.bool), 3, 10, LIMIT)
    assert cache.visible is not None
    for place in range(10):
        cache.visible[:, place] = True
        one, told = loop(x[:, place : place + 1], cache=cache, positions=torch.full((3, 1), place))
        assert torch.equal(told.steps, trace.steps[:, place : place + 1])
        torch.testing.assert_close(one, output[:, place : place + 1])


def test_what_it_names() -> None:
    rule = TokenChoiceRouter(DIM, LIMIT)
    assert rule.default_readout is FinalState and rule.default_cost is LoadBalance
    assert rule.causal and not rule.spreads_mass and not LoadBalance.needs_spread_mass
    assert LoadBalance().default_penalty == 1.0
    assert TokenChoiceRouter(DIM, LIMIT, balance="bias").default_cost is None


def test_at_the_start_tokens_already_go_to_different_depths() -> None:
    """With weights of zero all scores would tie, and all tokens would leave after step 1."""
    trace = Recurrence(Block(DIM, 2, rotary=False), TokenChoiceRouter(DIM, LIMIT), max_steps=LIMIT)(
        torch.randn(1, 200, DIM)
    )[1]
    assert torch.bincount(trace.steps[0], minlength=LIMIT + 1)[1:].min() > 10


def test_refusals() -> None:
    with pytest.raises(UsageError, match="alpha is -1"):
        TokenChoiceRouter(DIM, LIMIT, alpha=-1.0)
    with pytest.raises(UsageError, match="bias_rate is 0"):
        TokenChoiceRouter(DIM, LIMIT, bias_rate=0.0)
    with pytest.raises(UsageError, match="warmup is -3"):
        TokenChoiceRouter(DIM, LIMIT, warmup=-3)
    _, trace = Recurrence(Block(DIM, 2, rotary=False), GravesACT(DIM), max_steps=3)(
        torch.randn(1, 2, DIM)
    )
    with pytest.raises(UsageError, match="LoadBalance finds no depth and no depth_scores"):
        LoadBalance()(trace)
