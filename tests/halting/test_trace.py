"""The record of a run."""

import torch

from halting import LoopTrace, PackedSteps

MASS = torch.tensor(
    [[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], dtype=torch.float64, requires_grad=True
)
TRACE = LoopTrace(
    mass=MASS,
    score=MASS.detach(),
    steps=torch.tensor([[3, 1, 0]]),
    valid=torch.tensor([[True, True, False]]),
    aux={},
)


def test_what_it_says_of_each_token() -> None:
    assert TRACE.num_steps == 3
    assert TRACE.ran.tolist() == [[[True, True, True], [True, False, False], [False, False, False]]]
    assert TRACE.remainder.tolist() == [[0.5, 1.0, 0.0]]
    torch.testing.assert_close(
        TRACE.expected_steps, torch.tensor([[2.3, 1.0, 0.0]], dtype=torch.float64)
    )


def test_remainder_and_expected_steps_carry_gradient() -> None:
    (of_remainder,) = torch.autograd.grad(TRACE.remainder.sum(), MASS)
    assert of_remainder.tolist() == [[[0, 0, 1], [1, 0, 0], [1, 0, 0]]]
    (of_steps,) = torch.autograd.grad(TRACE.expected_steps.sum(), MASS)
    assert of_steps.tolist() == [[[1, 2, 3]] * 3]


def test_a_run_of_no_steps() -> None:
    empty = torch.zeros(2, 3, 0)
    trace = LoopTrace(
        empty, empty, torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool), {}
    )
    assert trace.remainder.shape == trace.expected_steps.shape == (2, 3)


def test_unpacking_puts_every_step_in_its_place() -> None:
    packed = PackedSteps(
        torch.arange(5.0), torch.tensor([0, 2, 3, 0, 3]), torch.tensor([0, 0, 0, 1, 1])
    )
    grid = packed.unpack(packed.values, batch=2, length=2, num_steps=2, fill=-1.0)
    assert grid.tolist() == [[[0, 3], [-1, -1]], [[1, -1], [2, 4]]]
    wide = packed.unpack(torch.ones(5, 7), 2, 2, 2)
    assert wide.shape == (2, 2, 2, 7) and wide.sum() == 35
