"""CALM's early-exit classifier and the cost that trains it, against their equations token by
token."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from act import Block, Recurrence
from act.testing.probes import FixedNoise, decide_alone, view_alone
from halting import (
    DeepSupervision,
    EarlyExitClassifier,
    GravesACT,
    HaltingRule,
    LoopTrace,
    MinSteps,
    PerSequence,
    SameAnswer,
    StepOutcomes,
    UsageError,
)

DIM, LIMIT = 8, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def trained(training: bool, **options: float) -> EarlyExitClassifier:
    """A rule with some weights."""
    torch.manual_seed(0)
    rule = EarlyExitClassifier(DIM, **options)  # pyright: ignore[reportArgumentType]
    torch.nn.init.normal_(rule.gate.weight)
    return rule.double().train(training)


def case(logits: Tensor, answers: Tensor, steps: list[int]) -> tuple[LoopTrace, StepOutcomes]:
    """Tokens [L N] of one sequence, of which there is no target."""
    count = torch.tensor([steps])
    ran = torch.arange(logits.shape[-1]) < count.unsqueeze(-1)
    mass = torch.where(ran, 1.0, 0.0).to(logits.dtype)
    trace = LoopTrace(mass, mass, count, count > 0, {"same_logit": logits.unsqueeze(0)})
    nothing = torch.zeros_like(trace.valid)
    return trace, StepOutcomes(mass, torch.where(ran, answers, 0), torch.zeros_like(ran), nothing)


def test_in_training_nobody_leaves_before_the_limit() -> None:
    states = torch.randn(LIMIT + 1, 9, DIM, dtype=torch.float64)
    mass, steps = decide_alone(trained(True), states, torch.zeros(LIMIT + 1, 9, 3))
    assert (steps == LIMIT).all() and (mass[-1] == 1).all()


@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_in_evaluation_a_token_leaves_once_the_chance_is_large_enough(threshold: float) -> None:
    rule = trained(False, threshold=threshold)
    states = torch.randn(
        LIMIT + 1, 40, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    mass, steps = decide_alone(rule, states, torch.zeros(LIMIT + 1, 40, 3))
    weight, bias = rule.gate.weight[0].tolist(), rule.gate.bias.item()
    for token in range(40):
        chances = [
            sigmoid(
                sum(w * s for w, s in zip(weight, states[n, token].tolist(), strict=True)) + bias
            )
            for n in range(1, LIMIT + 1)
        ]
        wanted = next((n for n, chance in enumerate(chances, 1) if chance >= threshold), LIMIT)
        assert steps[token] == wanted and mass[wanted - 1, token] == 1
    assert len(steps.unique()) > 2 or threshold == 1.0


def test_a_decaying_threshold_is_stricter_early() -> None:
    rule = EarlyExitClassifier(2, threshold=0.5, decay=4.0, decay_length=8).eval()
    logit = math.log(0.5 / 0.5)
    torch.nn.init.constant_(rule.gate.bias, logit)
    decision, _ = rule.decide(view_alone(torch.zeros(8, 2), torch.zeros(8, 3), 1, 5), None)
    thresholds = [0.45 + 0.1 * math.exp(-4.0 * (t % 4) / 8) for t in range(8)]  # sequences of 4
    assert decision.halt.tolist() == [c <= 0.5 for c in thresholds] and 0 < decision.halt.sum() < 8


def test_the_cost_is_the_mean_cross_entropy_to_agreement_with_the_last_step() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=draw)
    answers = torch.randint(2, (6, 4), generator=draw)
    steps = [4, 4, 3, 2, 1, 0]
    cost = SameAnswer()(*case(logits, answers, steps))[0]
    for token, count in enumerate(steps):
        terms = []
        for n in range(count - 1):
            chance = sigmoid(float(logits[token, n]))
            same = answers[token, n] == answers[token, count - 1]
            terms.append(-math.log(chance if same else 1 - chance))
        assert cost[token].item() == pytest.approx(sum(terms) / max(len(terms), 1)), (
            f"token {token}"
        )


def test_a_wrong_answer_that_stays_is_as_good_as_a_right_one() -> None:
    """Confidence, not correctness: the label needs no target."""
    logits = torch.zeros(1, 3, dtype=torch.float64)
    same, changes = (
        SameAnswer()(*case(logits + 3, torch.tensor([each]), [3]))
        for each in ([2, 2, 2], [1, 2, 2])
    )
    assert same < changes


def test_a_saturated_classifier_still_learns() -> None:
    logits = torch.full((1, 3), 200.0, dtype=torch.float64, requires_grad=True)
    cost = SameAnswer()(*case(logits, torch.tensor([[0, 1, 2]]), [3])).sum()
    (found,) = torch.autograd.grad(cost, logits)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64))


def looped() -> Recurrence:
    torch.manual_seed(1)
    loop = Recurrence(Block(DIM, 2).double(), trained(True), max_steps=LIMIT).train()
    loop.draw = FixedNoise()
    return loop


def cost_of(loop: Recurrence, x: Tensor) -> Tensor:
    """The cost with answers that any change of the states leaves as they are."""
    _, trace = loop(x, VALID)
    answers = (torch.arange(trace.mass.numel()).view(trace.mass.shape) * 7 // 3) % 2
    outcomes = StepOutcomes(trace.mass, answers, torch.zeros_like(trace.ran), trace.valid)
    return SameAnswer()(trace, outcomes).sum()


def test_its_gradient_reaches_the_gate_alone_and_is_that_of_finite_differences() -> None:
    loop, x = looped(), torch.randn(2, 4, DIM, dtype=torch.float64, requires_grad=True)
    cost = cost_of(loop, x)
    gate = list(loop.rule.parameters())
    found = torch.autograd.grad(cost, gate, retain_graph=True)
    for parameter, gradient in zip(gate, found, strict=True):
        for place in range(parameter.numel()):
            with torch.no_grad():
                flat = parameter.view(-1)
                kept, values = flat[place].item(), []
                for moved in (kept + 1e-6, kept - 1e-6):
                    flat[place] = moved
                    values.append(cost_of(loop, x).item())
                flat[place] = kept
            assert gradient.view(-1)[place].item() == pytest.approx(
                (values[0] - values[1]) / 2e-6, abs=1e-7
            )
    for tensor in torch.autograd.grad(cost, [x, *loop.block.parameters()]):
        assert (tensor == 0).all(), "the classifier would move the model"


def test_ponder_is_where_it_would_have_left() -> None:
    loop = looped()
    x = torch.randn(2, 4, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, full = loop(x, VALID)
    loop.eval()
    with torch.no_grad():
        _, cut = loop(x, VALID)
    alone = full.steps == 0
    assert (loop.rule.train().ponder(full)[alone] == 0).all()
    assert torch.equal(loop.rule.ponder(cut), cut.steps.double())
    with torch.no_grad():
        _, held = Recurrence(loop.block, MinSteps(loop.rule, 3), max_steps=LIMIT).eval()(x, VALID)
    assert torch.equal(loop.rule.ponder(held), held.steps.double()), (
        "held back by a wrapper, it thinks on"
    )
    loop.rule.train()
    first = [
        next((n for n in range(1, LIMIT + 1) if full.score[row, place, n - 1] >= 0.9), LIMIT)
        for row in range(2)
        for place in range(4)
        if VALID[row, place]
    ]
    assert loop.rule.ponder(full)[VALID].tolist() == first and len(set(first)) > 1


@pytest.mark.parametrize(
    "wrap",
    [lambda rule: MinSteps(rule, 3), PerSequence, lambda rule: MinSteps(PerSequence(rule), 3)],
)
def test_the_ponder_of_training_follows_what_wrappers_restrict(
    wrap: Callable[[HaltingRule], HaltingRule],
) -> None:
    """Training runs on to the limit, so the depth that it reports has to be where evaluation would
    leave."""
    inner = looped()
    rule = wrap(inner.rule)
    x = torch.randn(2, 4, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, full = Recurrence(inner.block, rule, max_steps=LIMIT)(x, VALID)
    assert (full.steps[VALID] == LIMIT).all()
    sure = (full.score >= 0.9) | ~VALID.unsqueeze(-1)
    if rule.by_sequence:
        sure = sure.all(1, keepdim=True).expand_as(sure)
    if isinstance(rule, MinSteps):
        sure = sure & (torch.arange(1, LIMIT + 1) >= 3)
    sure = sure | (torch.arange(1, LIMIT + 1) == LIMIT)
    expected = torch.where(VALID, sure.double().argmax(-1) + 1.0, 0.0).double()
    assert torch.equal(rule.ponder(full), expected)
    assert not torch.equal(expected, looped().rule.ponder(inner(x, VALID)[1])), (
        "the wrapper restricts nothing here"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.1}, "threshold is 1.1"),
        ({"decay": -1.0, "decay_length": 4}, "cannot rise"),
        ({"decay": 4.0}, "decay_length"),
    ],
)
def test_what_it_refuses(options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EarlyExitClassifier(DIM, **options)  # pyright: ignore[reportArgumentType]


def test_another_rules_trace_is_refused() -> None:
    trace, outcomes = case(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.int64), [2])
    with pytest.raises(UsageError, match="same_logit"):
        SameAnswer()(trace._replace(aux={}), outcomes)


def test_what_it_says_of_itself() -> None:
    rule = EarlyExitClassifier(DIM)
    assert rule.causal and not rule.spreads_mass and not rule.reads_logits
    assert rule.default_readout is DeepSupervision and rule.default_cost is SameAnswer
    assert rule.train().fixed_depth(7) == 7 and rule.eval().fixed_depth(7) is None
    assert SameAnswer.unit == "nats" and SameAnswer.default_penalty == 1 and not SameAnswer.warms_up
    assert GravesACT(DIM).fixed_depth(7) is None
