"""ConvergenceExit against plain numbers."""

import math
from inspect import unwrap

import pytest
import torch
from torch import Tensor

from act import Block, Recurrence
from halting.errors import UsageError
from halting.rules.convergence_exit import ConvergenceExit
from halting.step import Memory, StepView

PUBLISHED = {"state": 0.03, "entropy": 1e-3, "kl": 5e-4, "argmax": 5, "cosine": 1e-3}


def view(state: Tensor, logits: Tensor | None, step: int) -> StepView:
    count = len(state)

    def read(aux: object = None) -> Tensor:
        assert logits is not None, "this criterion has no business with logits"
        return logits

    return StepView(
        step=torch.full((count,), step),
        max_steps=99,
        entering=state,
        state=state,
        remaining=torch.ones(count),
        row=torch.zeros(count, dtype=torch.int64),
        position=torch.arange(count),
        logits=read,
        uniform=lambda: torch.zeros(count),
    )


def watch(
    rule: ConvergenceExit, states: Tensor, logits: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores and halts [N A] along given states [N+1 A D], the first before step 1, and logits [N A
    V]."""
    memory: Memory = rule.begin(view(states[0], None, 1))[0]
    scores, halts = [], []
    for step in range(1, len(states)):
        decision, memory = rule.decide(
            view(states[step], None if logits is None else logits[step - 1], step), memory
        )
        assert (decision.mass == 0).all()
        scores.append(decision.score)
        halts.append(decision.halt)
    return torch.stack(scores), torch.stack(halts)


def chances(logits: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in logits)
    return [math.exp(x) / total for x in logits]


def entropy_of(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p)


def divergence(p: list[float], q: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def by_hand(criterion: str, states: list[list[float]], logits: list[list[float]]) -> list[float]:
    """The scores of one token's steps, one number at a time; states include the one before step
    1."""
    scores: list[float] = []
    for n in range(1, len(states)):
        if criterion in ("state", "cosine"):
            now, before = states[n], states[n - 1]
            size = math.sqrt(sum(x * x for x in now))
            if criterion == "state":
                scores.append(
                    math.sqrt(sum((x - y) ** 2 for x, y in zip(now, before, strict=True))) / size
                )
            else:
                other = math.sqrt(sum(x * x for x in before))
                scores.append(
                    1 - sum(x * y for x, y in zip(now, before, strict=True)) / size / other
                )
            continue
        now = chances(logits[n - 1])
        before = chances(logits[n - 2]) if n > 1 else [1 / len(now)] * len(now)
        if criterion == "entropy":
            scores.append(abs(entropy_of(now) - entropy_of(before)))
        elif criterion == "kl":
            scores.append(divergence(before, now))
        else:
            same = n > 1 and now.index(max(now)) == before.index(max(before))
            scores.append(scores[-1] + 1 if same else 0)
    return scores


def wander(steps: int = 7, tokens: int = 5) -> tuple[Tensor, Tensor]:
    """States [N+1 A D] and logits [N A V] that move less and less."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(steps + 1, tokens, 6, generator=generator, dtype=torch.float64)
    logits = torch.randn(steps, tokens, 4, generator=generator, dtype=torch.float64)
    fade = 0.4 ** torch.arange(steps + 1, dtype=torch.float64).view(-1, 1, 1)
    return (states * fade).cumsum(0), (logits * fade[1:]).cumsum(0)


@pytest.mark.parametrize("criterion", PUBLISHED)
def test_scores_and_exits_are_those_of_a_token_by_token_computation(criterion):
    states, logits = wander()
    threshold = {"argmax": 2}.get(criterion, 0.05)
    rule = ConvergenceExit(criterion, threshold)
    scores, halts = watch(rule, states, logits if rule.reads_logits else None)
    for token in range(states.shape[1]):
        expected = by_hand(criterion, states[:, token].tolist(), logits[:, token].tolist())
        torch.testing.assert_close(
            scores[:, token], torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
        )
        leaves = [
            n > 0 and (x >= threshold if criterion == "argmax" else x < threshold)
            for n, x in enumerate(expected)
        ]
        assert halts[:, token].tolist() == leaves
    assert halts.any() and not halts.all()


def test_thresholds_are_the_published_ones_and_only_predictions_need_logits():
    for criterion, threshold in PUBLISHED.items():
        rule = ConvergenceExit(criterion)  # pyright: ignore[reportArgumentType]
        assert rule.threshold == threshold
        assert rule.reads_logits == (criterion in ("entropy", "kl", "argmax"))
    assert not ConvergenceExit.reads_logits


def test_the_divergence_is_of_the_earlier_prediction_from_the_later():
    """The two directions differ: 0.0201 and 0.0184 nats here."""
    logits = torch.tensor([[0.0, 0.0], [0.4, 0.0]], dtype=torch.float64).unsqueeze(1)
    states = torch.zeros(3, 1, 1, dtype=torch.float64)
    forward = divergence(chances([0.0, 0.0]), chances([0.4, 0.0]))
    backward = divergence(chances([0.4, 0.0]), chances([0.0, 0.0]))
    assert forward > 1.01 * backward
    between = (forward + backward) / 2
    scores, halts = watch(ConvergenceExit("kl", between), states, logits)
    assert scores[1].item() == pytest.approx(forward, rel=1e-9) and not halts[1].any()


@pytest.mark.parametrize("criterion", PUBLISHED)
def test_nobody_leaves_at_step_1_whatever_it_looks_like(criterion):
    """A first step that changes nothing, and a first prediction that is uniform: there is no step
    before it."""
    states, logits = torch.ones(9, 2, 3), torch.zeros(8, 2, 4)
    _, halts = watch(ConvergenceExit(criterion), states, logits)
    first = {"argmax": 6}.get(criterion, 2)
    assert halts.tolist() == [[n >= first] * 2 for n in range(1, 9)]


def test_a_prediction_that_changes_starts_to_be_counted_anew():
    answers = [1, 1, 1, 0, 0, 0, 0]
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 2).float().unsqueeze(1)
    scores, halts = watch(ConvergenceExit("argmax", 3), torch.zeros(8, 1, 1), logits)
    assert scores.flatten().tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert halts.flatten().tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("criterion", ["state", "cosine"])
def test_a_change_is_measured_against_the_size_of_the_state(criterion):
    states, _ = wander()
    rule = ConvergenceExit(criterion, 0.05)
    small, large = watch(rule, states), watch(rule, 1000 * states)
    torch.testing.assert_close(small[0], large[0])
    assert torch.equal(small[1], large[1])


@pytest.mark.parametrize("criterion", PUBLISHED)
def test_scores_are_numbers_for_states_of_zero_and_impossible_answers(criterion):
    logits = torch.tensor([0.0, 1.0, -math.inf]).expand(3, 2, 3)
    scores, halts = watch(ConvergenceExit(criterion), torch.zeros(4, 2, 5), logits)
    later = scores[1:]
    assert later.isfinite().all() and (later >= 0).all()
    assert halts[1:].all() or criterion in ("argmax", "cosine")


def test_bfloat16_is_widened_before_it_is_compared():
    """A change of 1/256 of a state near 1, rounded to nothing if it were computed in bfloat16 from
    its square sums."""
    states = torch.ones(3, 1, 64).bfloat16()
    states[2, 0, 0] += 2**-7
    scores, _ = watch(ConvergenceExit("state"), states)
    assert scores.dtype == torch.float32
    assert scores[1].item() == pytest.approx(
        by_hand("state", states[:, 0].tolist(), [])[1], rel=1e-5
    )


def test_no_graph_is_kept_from_step_to_step():
    torch.manual_seed(0)
    loop = Recurrence(Block(8, 2), ConvergenceExit("kl", 1e-9), max_steps=3)
    head = torch.randn(5, 8)
    loop.head = lambda state: state @ head.T
    _, trace = loop(torch.randn(2, 3, 8))
    assert (trace.steps == 3).all()
    found = torch.autograd.grad(trace.score.sum(), list(loop.parameters()), allow_unused=True)
    assert all(gradient is not None and (gradient == 0).all() for gradient in found)
    rule = ConvergenceExit("state")
    memory, _ = rule.begin(view(torch.ones(2, 3, requires_grad=True), None, 1))
    _, memory = rule.decide(view(torch.ones(2, 3, requires_grad=True), None, 1), memory)
    assert isinstance(memory, Tensor) and not memory.requires_grad


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "entrop"}, "no criterion entrop.*state, entropy, kl"),
        ({"threshold": 0.0}, "state 0.0.*0.03"),
        ({"threshold": -1.0}, "state -1.0"),
        ({"criterion": "kl", "threshold": math.nan}, "kl nan.*0.0005"),
        ({"criterion": "kl", "threshold": math.inf}, "kl inf"),
        ({"criterion": "argmax", "threshold": 2.5}, "argmax 2.5.*whole number"),
        ({"criterion": "argmax", "threshold": 0}, "argmax 0"),
    ],
)
def test_what_it_refuses(options, words):
    build = unwrap(
        ConvergenceExit.__init__
    )  # without the type checks of the tests, which would speak first
    with pytest.raises(UsageError, match=words):
        build(ConvergenceExit.__new__(ConvergenceExit), **options)
