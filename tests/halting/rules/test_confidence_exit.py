"""ConfidenceExit against plain numbers."""

import math
from inspect import unwrap

import pytest
import torch
from torch import Tensor

from halting.errors import UsageError
from halting.rules.confidence_exit import ConfidenceExit
from halting.step import StepDecision, StepView


def decide(rule: ConfidenceExit, logits: Tensor, step: int = 1) -> StepDecision:
    count = len(logits)
    state = torch.zeros(count, 2)
    view = StepView(
        step=torch.full((count,), step),
        max_steps=9,
        entering=state,
        state=state,
        remaining=torch.ones(count),
        row=torch.zeros(count, dtype=torch.int64),
        position=torch.arange(count),
        logits=lambda: logits,
        uniform=lambda: torch.zeros(count),
    )
    return rule.decide(view, rule.begin(view)[0])[0]


def by_hand(measure: str, logits: list[float]) -> float:
    total = sum(math.exp(x) for x in logits)
    p = sorted((math.exp(x) / total for x in logits), reverse=True)
    if measure == "entropy":
        return -sum(x * math.log(x) for x in p)
    return p[0] if measure == "max" else p[0] - p[1]


@pytest.mark.parametrize(("measure", "threshold"), [("max", 0.6), ("gap", 0.4), ("entropy", 0.9)])
def test_scores_and_exits_are_those_of_a_token_by_token_computation(measure, threshold):
    logits = 2 * torch.randn(40, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    decision = decide(ConfidenceExit(measure, threshold), logits)
    expected = [by_hand(measure, token) for token in logits.tolist()]
    torch.testing.assert_close(
        decision.score, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    sure = [x <= threshold if measure == "entropy" else x >= threshold for x in expected]
    assert decision.halt.tolist() == sure and 5 < sum(sure) < 35
    assert (decision.mass == 0).all()


def test_the_three_measures_are_three_rules():
    """Two likely answers: neither is far ahead, and yet little is left open."""
    logits = torch.tensor([[0.5, 0.45, 0.05], [0.5, 0.25, 0.25]], dtype=torch.float64).log()
    assert decide(ConfidenceExit("max", 0.5 - 1e-9), logits).halt.tolist() == [True, True]
    assert decide(ConfidenceExit("gap", 0.2), logits).halt.tolist() == [False, True]
    assert decide(ConfidenceExit("entropy", 0.9), logits).halt.tolist() == [True, False]


def test_a_token_that_is_sure_leaves_at_step_1():
    logits = torch.tensor([[9.0, 0.0], [0.1, 0.0]])
    for measure in ("max", "gap", "entropy"):
        assert decide(ConfidenceExit(measure), logits).halt.tolist() == [True, False]


def test_the_defaults_are_one_threshold_for_two_answers():
    sure, unsure = torch.tensor([[0.91, 0.09]]).log(), torch.tensor([[0.89, 0.11]]).log()
    for measure in ("max", "gap", "entropy"):
        assert (
            decide(ConfidenceExit(measure), sure).halt.all()
            and not decide(ConfidenceExit(measure), unsure).halt.any()
        )


def test_a_decaying_threshold_is_strict_early_and_at_most_1():
    """clip(0.9·c + 0.1·exp(−τ·t/L), 0, 1) at τ = 4, L = 8, c = 0.6 and 1, position by position."""
    for c in (0.6, 1.0):
        wanted = [min(1.0, max(0.0, 0.9 * c + 0.1 * math.exp(-4 * t / 8))) for t in range(9)]
        for shift, leaves in ((-1e-6, False), (1e-6, True)):
            p = torch.tensor([min(x + shift, 1.0) for x in wanted], dtype=torch.float64)
            logits = torch.stack((p, 1 - p), dim=-1).log()
            decision = decide(ConfidenceExit("max", c, decay=4.0, decay_length=8), logits)
            assert decision.halt.tolist() == [leaves] * 9, (c, shift)


def test_without_decay_position_does_not_matter():
    logits = torch.tensor([0.85, 0.15]).log().expand(6, 2)
    assert decide(ConfidenceExit("max", 0.84), logits).halt.all()
    assert not decide(ConfidenceExit("max", 0.86), logits).halt.any()


def test_bfloat16_logits_are_widened():
    logits = torch.tensor([[3.0, 1.0, -1.0]]).bfloat16()
    decision = decide(ConfidenceExit(), logits)
    assert decision.score.dtype == torch.float32
    assert decision.score.item() == pytest.approx(by_hand("max", logits[0].tolist()), rel=1e-6)


def test_no_gradient_passes_through_it():
    assert not decide(ConfidenceExit(), torch.randn(3, 4, requires_grad=True)).score.requires_grad


def test_impossible_answers_are_no_trouble():
    logits = torch.tensor([[0.0, 1.0, -math.inf]])
    for measure in ("max", "gap", "entropy"):
        assert decide(ConfidenceExit(measure), logits).score.isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"measure": "margin"}, "no measure margin.*max, gap, entropy"),
        ({"threshold": 0.0}, "max 0.0.*0.9"),
        ({"threshold": 1.5}, "max 1.5"),
        ({"measure": "gap", "threshold": math.nan}, "gap nan"),
        ({"measure": "entropy", "threshold": -0.1}, "entropy -0.1.*nats"),
        ({"measure": "entropy", "threshold": math.inf}, "entropy inf"),
        ({"measure": "entropy", "decay": 4.0, "decay_length": 9}, "decay=4.0.*laxer"),
        ({"decay": -1.0, "decay_length": 9}, "decay is -1.0"),
        ({"decay": 4.0}, "decay_length=None"),
        ({"decay": 4.0, "decay_length": 0}, "decay_length=0"),
    ],
)
def test_what_it_refuses(options, words):
    build = unwrap(
        ConfidenceExit.__init__
    )  # without the type checks of the tests, which would speak first
    with pytest.raises(UsageError, match=words):
        build(ConfidenceExit.__new__(ConfidenceExit), **options)
