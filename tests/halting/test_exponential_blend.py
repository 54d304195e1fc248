"""The blend of the public Universal Transformer code, against the closed form of its weights."""

import math

import pytest
import torch
from torch import Tensor

from act import Block, Recurrence
from halting import FixedSteps, GravesACT, WeightedMean
from halting.exponential_blend import ExponentialBlend

STEPS, DIM = 4, 5
STATES = torch.randn(STEPS, 3, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.tensor(
    [[0.2, 0.7, 1.0], [0.3, 0.3, 0.0], [0.4, 0.0, 0.0], [0.1, 0.0, 0.0]], dtype=torch.float64
)


def blended(steps: int) -> Tensor:
    """The accumulator after some steps; the mass is elsewhere, as the rule of that code has it."""
    readout = ExponentialBlend()
    total = readout.begin(STATES[0])
    for state, weight in zip(STATES[:steps], WEIGHTS, strict=False):
        total = readout.add(
            total, state, torch.zeros(3, dtype=torch.float64), {"blend_weight": weight}
        )
    return total


def closed_form(weights: list[float]) -> list[float]:
    """w_n·Π_{m>n} (1 − w_m)."""
    return [w * math.prod(1 - later for later in weights[n + 1 :]) for n, w in enumerate(weights)]


def test_each_state_weighs_its_own_weight_times_what_later_ones_leave() -> None:
    output = ExponentialBlend().finish(blended(STEPS), STATES[-1])
    for token in range(3):
        effective = closed_form(WEIGHTS[:, token].tolist())
        expected = sum(e * STATES[n, token] for n, e in enumerate(effective))
        torch.testing.assert_close(output[token], expected)
        assert sum(effective) == pytest.approx(
            1 - math.prod(1 - w for w in WEIGHTS[:, token].tolist())
        )


def test_it_is_not_graves_mean() -> None:
    """Its weights do not sum to 1, though the published ones do; and later states weigh more."""
    effective = closed_form([0.2, 0.3, 0.4, 0.1])
    assert sum(effective) == pytest.approx(0.6976)
    mean = WeightedMean()
    total = mean.begin(STATES[0])
    for state, weight in zip(STATES, WEIGHTS, strict=True):
        total = mean.add(total, state, weight)
    difference = mean.finish(total, STATES[-1]) - ExponentialBlend().finish(
        blended(STEPS), STATES[-1]
    )
    assert (difference.abs().amax(-1) > 0.05).tolist() == [True, True, False], (
        "the third token took one step at 1"
    )


def test_the_output_of_a_token_stops_at_its_last_weight() -> None:
    second, fourth = (ExponentialBlend().finish(blended(steps), STATES[-1]) for steps in (2, 4))
    assert torch.equal(second[1:], fourth[1:]) and not torch.equal(second[0], fourth[0])


def test_had_it_stopped_is_the_blend_up_to_that_step() -> None:
    remaining = torch.ones(3, dtype=torch.float64)
    stopped = ExponentialBlend().if_stopped(
        blended(2), STATES[2], remaining, {"blend_weight": WEIGHTS[2]}
    )
    assert torch.equal(stopped, ExponentialBlend().finish(blended(3), STATES[2]))


def test_before_the_rule_has_spoken_a_step_is_given_what_is_left() -> None:
    """What `view.logits()` reads inside of a rule: no weight yet, and all of the token's exit mass
    still held."""
    stopped = ExponentialBlend().if_stopped(
        blended(2), STATES[2], torch.ones(3, dtype=torch.float64)
    )
    for token, left in enumerate([0.5, 0.0, 0.0]):
        before = ExponentialBlend().finish(blended(2), STATES[1])[token]
        torch.testing.assert_close(stopped[token], left * STATES[2, token] + (1 - left) * before)


def test_under_another_rule_it_blends_by_mass() -> None:
    """A hard exit then reads the state at which it left, and ACT's masses are the weights."""
    x, block = torch.randn(2, 3, 6, dtype=torch.float64), Block(6, 1).double()
    fixed = Recurrence(block, FixedSteps(3), max_steps=4)
    blend = Recurrence(block, FixedSteps(3), ExponentialBlend(), max_steps=4)
    torch.testing.assert_close(blend(x)[0], fixed(x)[0])

    rule = GravesACT(6, bias_init=-1.0).double()
    output, trace = Recurrence(block, rule, ExponentialBlend(), max_steps=9)(x)
    states = [
        Recurrence(block, FixedSteps(), max_steps=n)(x)[0] for n in range(1, trace.num_steps + 1)
    ]
    assert (trace.steps == trace.num_steps).all() and trace.num_steps == 4
    effective = closed_form(trace.mass[0, 0].tolist())
    torch.testing.assert_close(
        output, sum(e * state for e, state in zip(effective, states, strict=True))
    )


def test_narrow_states_are_blended_wide() -> None:
    """256 steps of 2⁻⁹ would stay where they are in bfloat16, once the blend is near 1."""
    readout, state = ExponentialBlend(), torch.ones(1, 1, dtype=torch.bfloat16)
    total = readout.begin(state)
    for _ in range(256):
        total = readout.add(total, state, torch.zeros(1), {"blend_weight": torch.tensor([2.0**-9])})
    assert total.dtype == torch.float32 and total[0, 0].item() == pytest.approx(
        1 - (1 - 2.0**-9) ** 256, rel=1e-5
    )
    assert readout.finish(total, state).dtype == torch.bfloat16
    assert "blend_weight" in ExponentialBlend.weighs_by and not ExponentialBlend.keeps_states
