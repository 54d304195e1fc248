"""The trap of the halting bias: who starts shallow stays there. So each rule starts deep, unless
its paper does not."""

import pytest
import torch

from act import Block, Recurrence
from halting import (
    CorrectnessHalt,
    DistilledExit,
    EarlyExitClassifier,
    ExitGate,
    ExpertChoiceRouter,
    GravesACT,
    HaltingRule,
    LookaheadDepth,
    LoopTrace,
    PonderNet,
    QHalt,
    StepsPlusRemainder,
    StickBreaking,
    TokenChoiceRouter,
    UniversalTransformerACT,
)

DIM, LIMIT = 8, 30


def at_the_start(rule: HaltingRule, max_steps: int = LIMIT) -> LoopTrace:
    """A run of a loop with an untrained rule."""
    torch.manual_seed(0)
    loop = Recurrence(Block(DIM, 2, injection="concat"), rule, max_steps=max_steps)
    return loop(torch.randn(4, 10, DIM))[1]


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: GravesACT(DIM), 4),
        (lambda: PonderNet(DIM), 4),
        (lambda: StickBreaking(DIM), 10),
        (lambda: ExitGate(DIM), LIMIT),
        (lambda: QHalt(DIM), LIMIT),
        (lambda: CorrectnessHalt(DIM), LIMIT),
        (lambda: EarlyExitClassifier(DIM), LIMIT),
        (lambda: LookaheadDepth(DIM).eval(), LIMIT),
        (lambda: DistilledExit(DIM, "convergence").eval(), LIMIT),
        (lambda: ExpertChoiceRouter(DIM, LIMIT), LIMIT),
        (lambda: TokenChoiceRouter(DIM, LIMIT, warmup=1), LIMIT),
    ],
)
def test_an_untrained_rule_starts_deep(make, steps: int) -> None:
    assert at_the_start(make()).steps.float().mean() >= steps


def test_the_one_that_does_not_is_as_published() -> None:
    assert (at_the_start(UniversalTransformerACT(DIM)).steps == 2).all()
    assert (at_the_start(UniversalTransformerACT(DIM, bias_init=-3.0)).steps == 21).all()


@pytest.mark.parametrize(
    ("bias", "steps", "cost", "slope"),
    [
        (-3.0, 21, 21.05, -0.90),
        (-2.0, 9, 9.05, -0.84),
        (-1.0, 4, 4.19, -0.59),
        (0.0, 2, 2.5, -0.25),
        (1.0, 2, 2.27, -0.20),
        (5.0, 1, 2.0, 0.0),
    ],
)
def test_the_table_of_starts(bias: float, steps: int, cost: float, slope: float) -> None:
    """The numbers of docs/halting_rules.md. At a bias of 5 no gradient says that another step would
    have helped."""
    rule = GravesACT(DIM, bias_init=bias)
    trace = at_the_start(rule)
    mean = StepsPlusRemainder()(trace).mean()
    (gradient,) = torch.autograd.grad(mean, rule.gate.bias)
    assert (trace.steps == steps).all()
    assert mean.item() == pytest.approx(cost, abs=0.006)
    assert gradient.item() == pytest.approx(slope, abs=0.006)
