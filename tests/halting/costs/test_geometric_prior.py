"""The divergence from a truncated geometric distribution, against sums written out, and what public
ports get wrong."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from halting import LoopTrace, UsageError
from halting.costs.geometric_prior import GeometricPrior

DTYPE = torch.float64


def trace_of(*masses: list[float], requires_grad: bool = False) -> LoopTrace:
    """One sequence of tokens with these exit distributions; an empty one is padding."""
    num_steps = max(map(len, masses))
    laid_out = [[*mass, *[0.0] * (num_steps - len(mass))] for mass in masses]
    mass = torch.tensor([laid_out], dtype=DTYPE, requires_grad=requires_grad)
    steps = torch.tensor([[len(mass) for mass in masses]])
    return LoopTrace(mass, torch.zeros_like(mass), steps, steps > 0, {})


def prior(prior_steps: float, num_steps: int) -> list[float]:
    """The geometric distribution truncated at `num_steps` and renormalised, by dividing by its own
    sum."""
    stop = 1 / prior_steps
    weights = [stop * (1 - stop) ** n for n in range(num_steps)]
    return [weight / sum(weights) for weight in weights]


def divergence(p: list[float], g: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, g, strict=True) if a > 0)


def random_distributions(count: int) -> list[list[float]]:
    lengths = torch.randint(1, 9, (count,)).tolist()
    return [torch.rand(length, dtype=DTYPE).softmax(0).tolist() for length in lengths]


@pytest.mark.parametrize("prior_steps", [1.2, 2.0, 5.0, 40.0, 1e6])
def test_it_is_the_exhaustive_sum_token_by_token(prior_steps: float) -> None:
    masses = [*random_distributions(20), [0.0, 0.0, 0.7, 0.0, 0.3], []]
    cost = GeometricPrior(prior_steps)(trace_of(*masses))
    expected = [divergence(mass, prior(prior_steps, len(mass))) for mass in masses]
    assert cost.shape == (1, 22) and cost[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert cost[0, -1] == 0 and min(expected) > -1e-12


def reversed_divergence(p: list[float], g: list[float], whole: list[float]) -> float:
    return divergence(g, p)


def not_renormalised(p: list[float], g: list[float], whole: list[float]) -> float:
    return divergence(p, whole[: len(p)])


@pytest.mark.parametrize("port", [reversed_divergence, not_renormalised])
def test_what_public_ports_compute_is_another_number(port: Callable[..., float]) -> None:
    """KL(g ‖ p), and KL(p ‖ g) with the geometric distribution as it is before it is cut."""
    p, g, whole = [0.75, 0.2, 0.04, 0.01], prior(5.0, 4), [0.2 * 0.8**n for n in range(60)]
    cost = GeometricPrior(5.0)(trace_of(p)).item()
    assert cost == pytest.approx(divergence(p, g)) and abs(cost - port(p, g, whole)) > 0.05


def test_the_prior_itself_is_free_and_anything_else_is_not() -> None:
    masses = [prior(3.0, n) for n in range(1, 8)]
    assert GeometricPrior(3.0)(trace_of(*masses)).abs().max() < 1e-12
    others = [mass for mass in random_distributions(30) if len(mass) > 1]
    assert (GeometricPrior(3.0)(trace_of(*others)) > 1e-4).all()


def test_a_long_prior_is_the_uniform_one() -> None:
    masses = random_distributions(20)
    expected = [math.log(len(mass)) + sum(p * math.log(p) for p in mass) for mass in masses]
    assert GeometricPrior(1e9)(trace_of(*masses))[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_token_s_cost_does_not_depend_on_who_thinks_longer_beside_it() -> None:
    mass, deeper = [0.4, 0.6], [0.1] * 10
    alone = GeometricPrior()(trace_of(mass)).item()
    assert GeometricPrior()(trace_of(mass, deeper))[0, 0].item() == pytest.approx(alone)


def test_the_truncation_of_the_prior_moves_the_value_and_no_gradient() -> None:
    """Truncated at the token's own steps, at a common limit or not at all: log g_n moves by a
    constant."""
    p = [0.5, 0.3, 0.15, 0.05]
    trace = trace_of(p, requires_grad=True)
    value = GeometricPrior(5.0)(trace).sum()
    (found,) = torch.autograd.grad(value, trace.mass)
    gradients = [found[0, 0]]
    for limit in (4, 10, 500):
        mass = torch.tensor(p, dtype=DTYPE, requires_grad=True)
        other = (mass * (mass.log() - torch.tensor(prior(5.0, limit)[:4], dtype=DTYPE).log())).sum()
        gradients.append(torch.autograd.grad(other, mass)[0])
        assert (abs(other.item() - value.item()) > 0.1) is (limit > 4)
    free = [gradient - gradient.mean() for gradient in gradients]  # along Σ p_n = 1
    assert all(torch.allclose(gradient, free[0]) for gradient in free)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mass_of_zero_and_next_to_zero_is_finite(dtype: torch.dtype) -> None:
    mass = torch.tensor(
        [[[1.0, 0.0, 0.0], [1.0 - 1e-30, 1e-30, 0.0], [0.0, 0.0, 1.0]]], dtype=dtype
    )
    mass.requires_grad_()
    steps = torch.tensor([[3, 3, 3]])
    cost = GeometricPrior()(LoopTrace(mass, torch.zeros_like(mass), steps, steps > 0, {}))
    (found,) = torch.autograd.grad(cost.sum(), mass)
    assert (
        cost.dtype == dtype
        and cost.isfinite().all()
        and found.isfinite().all()
        and (cost > 0).all()
    )


def test_a_token_that_leaves_at_step_1_costs_nothing() -> None:
    """And pulls on nothing: its mass is the constant 1. A collapsed run looks cheap; read steps
    beside the cost."""
    costs = GeometricPrior(5.0)(trace_of([1.0], [0.949, 0.051]))[0]
    assert costs[0].abs() < 1e-12 and costs[1] > 0.3


@pytest.mark.parametrize("prior_steps", [1.0, 0.5, -3.0, math.inf, math.nan])
def test_a_prior_that_cannot_be_is_refused(prior_steps: float) -> None:
    with pytest.raises(UsageError, match=f"prior_steps is {prior_steps}"):
        GeometricPrior(prior_steps)


def test_what_it_says_of_itself() -> None:
    assert GeometricPrior.unit == "nats" and GeometricPrior.default_penalty == 0.01
    assert GeometricPrior.needs_spread_mass and not GeometricPrior.needs_outcomes
    assert GeometricPrior().prior_steps == 5.0
    found: Tensor = GeometricPrior()(trace_of([], []))
    assert found.tolist() == [[0.0, 0.0]]
