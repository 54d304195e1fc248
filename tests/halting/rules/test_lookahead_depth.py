"""Depth by looking ahead: who leaves when, and what the gate reads."""

import math

import pytest
import torch

from act import Block, Recurrence
from act.testing.probes import decide_alone
from halting import (
    DeepSupervision,
    LookaheadDepth,
    MinSteps,
    NextStepHelps,
    OneAhead,
    UsageError,
)
from halting.rule import HaltingRule

DIM, LIMIT, TOKENS = 4, 5, 30


def rule(training: bool, threshold: float = 0.5) -> LookaheadDepth:
    torch.manual_seed(0)
    made = LookaheadDepth(DIM, bias_init=0.0, threshold=threshold)
    torch.nn.init.normal_(made.gate.weight)
    return made.double().train(training)


def steps_of(made: HaltingRule, states: torch.Tensor) -> list[int]:
    mass, steps = decide_alone(made, states, torch.zeros(len(states), states.shape[1], 3))
    assert (mass.sum(0) == 1).all()
    return steps.tolist()


def states() -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(LIMIT + 1, TOKENS, DIM, generator=draw, dtype=torch.float64)


def chance(made: LookaheadDepth, state: torch.Tensor) -> float:
    """σ(w·s / √(mean s² + 1e-6) + b)."""
    size = math.sqrt(sum(number**2 for number in state.tolist()) / DIM + 1e-6)
    weighed = zip(made.gate.weight[0].tolist(), state.tolist(), strict=True)
    return 1 / (1 + math.exp(-sum(w * s for w, s in weighed) / size - made.gate.bias.item()))


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_in_evaluation_a_token_goes_on_while_one_more_step_is_thought_to_help(
    threshold: float,
) -> None:
    made = rule(False, threshold)
    wanted = [
        next(
            (n for n in range(1, LIMIT + 1) if chance(made, states()[n, token]) < threshold), LIMIT
        )
        for token in range(TOKENS)
    ]
    with torch.no_grad():
        assert steps_of(made, states()) == wanted and len(set(wanted)) > 2


def test_in_training_all_run_to_the_limit_as_the_label_needs_the_next_steps_loss() -> None:
    assert set(steps_of(rule(True), states())) == {LIMIT}
    assert rule(True).fixed_depth(7) == 7 and rule(False).fixed_depth(7) is None


def test_an_untrained_gate_goes_on() -> None:
    assert set(steps_of(LookaheadDepth(DIM).double().eval(), states())) == {LIMIT}


def test_a_state_s_size_does_not_matter() -> None:
    with torch.no_grad():
        assert steps_of(rule(False), 100 * states()) == steps_of(rule(False), states())


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, math.nan])
def test_a_threshold_that_is_no_chance_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=f"threshold is {threshold}"):
        LookaheadDepth(DIM, threshold=threshold)


@pytest.mark.parametrize("wrap", [lambda r: r, OneAhead, lambda r: OneAhead(MinSteps(r, 2))])
def test_the_ponder_of_training_is_where_evaluation_leaves(wrap) -> None:
    made = wrap(rule(True, 0.4))
    torch.manual_seed(2)
    loop = Recurrence(Block(DIM, 2, injection="concat"), made, max_steps=LIMIT).double()
    x = torch.randn(1, 40, DIM, dtype=torch.float64)
    # Each token alone, so that who has left changes nothing for others.
    alone = x.view(40, 1, DIM)
    _, full = loop.train()(alone)
    meant = made.ponder(full)
    with torch.no_grad():
        _, left = loop.eval()(alone)
    assert (full.steps == LIMIT).all()
    assert torch.equal(meant, left.steps.double()) and len(meant.unique()) > 2


def test_what_it_says_of_itself() -> None:
    made = LookaheadDepth(DIM)
    assert made.causal and not made.spreads_mass and not made.reads_logits
    assert made.default_readout is DeepSupervision and made.default_cost is NextStepHelps
    assert not NextStepHelps.warms_up and NextStepHelps.steered_by is None, "no cost of thinking"
