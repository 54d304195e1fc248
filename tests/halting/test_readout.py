"""How the states of a token's steps become its output."""

import pytest
import torch
from torch import Tensor

from halting import EveryStep, FinalState, Readout, WeightedMean

STATES = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MASS = torch.tensor([[0.2, 0.5], [0.3, 0.1], [0.5, 0.4]], dtype=torch.float64)


def read(readout: Readout, steps: int = 3) -> tuple[Tensor | None, Tensor]:
    """The accumulator after some steps, and the last state."""
    total = readout.begin(STATES[0])
    for state, mass in zip(STATES[:steps], MASS[:steps], strict=True):
        total = readout.add(total, state, mass)
    return total, STATES[steps - 1]


@pytest.mark.parametrize("readout", [FinalState(), EveryStep()], ids=lambda r: type(r).__name__)
def test_the_final_state_is_the_last_one(readout: Readout) -> None:
    assert torch.equal(readout.finish(*read(readout)), STATES[-1])
    assert torch.equal(readout.if_stopped(read(readout, 1)[0], STATES[1], MASS[1]), STATES[1])


def test_the_weighted_mean_weighs_by_mass() -> None:
    expected = sum(MASS[n].unsqueeze(-1) * STATES[n] for n in range(3))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(WeightedMean().finish(*read(WeightedMean())), expected)


def test_had_it_stopped_puts_all_that_is_left_on_that_step() -> None:
    total, _ = read(WeightedMean(), 1)
    remaining = 1 - MASS[0]
    expected = MASS[0].unsqueeze(-1) * STATES[0] + remaining.unsqueeze(-1) * STATES[1]
    torch.testing.assert_close(WeightedMean().if_stopped(total, STATES[1], remaining), expected)
    torch.testing.assert_close(
        WeightedMean().if_stopped(total, STATES[0], remaining)[0], STATES[0, 0]
    )


def test_the_weighted_mean_of_narrow_states_is_summed_wide() -> None:
    """1 + 256·2⁻⁹ in bfloat16 steps of 2⁻⁷ would stay at 1."""
    readout, state = WeightedMean(), torch.ones(1, 1, dtype=torch.bfloat16)
    total = readout.add(readout.begin(state), state, torch.ones(1))
    for _ in range(256):
        total = readout.add(total, state, torch.tensor([2.0**-9]))
    assert total is not None and total.dtype == torch.float32
    output = readout.finish(total, state)
    assert output.dtype == torch.bfloat16 and output.item() == 1.5


def test_what_a_readout_says_of_itself() -> None:
    assert EveryStep.keeps_states and not FinalState.keeps_states and not WeightedMean.keeps_states
    assert WeightedMean.weighs_by == EveryStep.weighs_by == ("mass",) and not FinalState.weighs_by
