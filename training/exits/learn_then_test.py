"""Learn-then-Test: a choice among settings whose risk is bounded with a stated confidence, whatever
the data are.

Angelopoulos, Bates, Candès, Jordan and Lei 2021, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control" (arXiv 2110.01052); for early exits, CALM (Schuster et al. 2022,
arXiv 2207.07061, section 4).

Each setting j has losses in [0, 1] on n units that are drawn independently from one distribution,
and the risk R_j is their expectation. H_j says that R_j > α. A p-value for H_j that is valid at any
n comes from a concentration bound. The settings are put in an order that does not depend on these
losses, from the safest to the cheapest, and tested one after the other at the level δ; the first
that is not rejected ends it. Rejecting any true H_j then has a chance of at most δ (for the first
true one in the order has to be rejected), so of whichever rejected setting is taken, P(R ≤ α) ≥ 1 −
δ.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float

T = TypeVar("T")
_ROUNDING = 1e-9  # of a sum of losses: a sum that is whole is not to count as the next whole number


@dataclass(frozen=True)
class Tested(Generic[T]):
    """A setting that was tested.

    Args:
        setting: what it is.
        risk: its mean loss on the n units.
        p_value: of the hypothesis that its risk lies above the one that is allowed.
        holds: whether that was rejected.
    """

    setting: T
    risk: float
    p_value: float
    holds: bool


def hoeffding_bentkus(mean: float, count: int, allowed: float) -> float:
    """The p-value of "the expected loss lies above α", from the mean of n independent losses in [0,
    1]:

        p = min(exp(−n·h(min(mean, α), α)), e·P(Binomial(n, α) ≤ ⌈n·mean⌉))
        h(a, b) = a·log(a/b) + (1 − a)·log((1 − a)/(1 − b))

    (Angelopoulos et al. 2021, proposition on the Hoeffding–Bentkus p-value: Hoeffding's bound in
    its form by relative entropy, and that of Bentkus 2004, whichever is smaller. Bates et al. 2021,
    arXiv 2101.02703.)

    Args:
        mean: the mean loss, in [0, 1].
        count: n ≥ 1.
        allowed: α, in (0, 1).
    """
    from scipy import stats  # here, because it is slow to import

    hoeffding = math.exp(-count * _relative_entropy(min(mean, allowed), allowed))
    bentkus = math.e * float(stats.binom.cdf(math.ceil(count * mean - _ROUNDING), count, allowed))
    return min(1.0, hoeffding, bentkus)


def fixed_sequence(
    settings: Iterable[T],
    losses: Callable[[T], Float[np.ndarray, " n"]],
    allowed: float,
    level: float,
) -> list[Tested[T]]:
    """The settings that were tested, in their order, up to the first that does not hold; those
    behind it are not computed at all.

    Args:
        settings: from the safest to the cheapest, in an order that does not depend on the losses.
        losses: of each unit under a setting, in [0, 1], the same units for each setting.
        allowed: α, the risk that is allowed, in (0, 1).
        level: δ, the chance that a setting that holds has a larger risk, in (0, 1).
    """
    tested = []
    for setting in settings:
        found = losses(setting)
        assert found.size and found.min() >= 0 and found.max() <= 1, "a loss has to lie in [0, 1]"
        mean = float(found.mean(dtype=np.float64))
        p_value = hoeffding_bentkus(mean, found.size, allowed)
        tested.append(Tested(setting, mean, p_value, p_value <= level))
        if not tested[-1].holds:
            break
    return tested


def last_that_holds(tested: Sequence[Tested[T]]) -> Tested[T] | None:
    """The cheapest setting that holds; None where none does."""
    return next((each for each in reversed(tested) if each.holds), None)


def fewest_units(allowed: float, level: float) -> int:
    """The smallest n at which anything can hold: without any loss the p-value is (1 − α)^n."""
    return math.ceil(math.log(level) / math.log1p(-allowed) - _ROUNDING)


def most_losses(count: int, allowed: float, level: float) -> int:
    """Of n losses that are 0 or 1, the most that may be 1 for a setting to hold; −1 where even none
    is too many. So a setting with losses of chance r holds with chance P(Binomial(n, r) ≤ this),
    exactly."""
    most = -1
    while most < count and hoeffding_bentkus((most + 1) / count, count, allowed) <= level:
        most += 1
    return most


def _relative_entropy(a: float, b: float) -> float:
    """Of two chances, in nats, with 0·log 0 = 0."""
    first = a * math.log(a / b) if a > 0 else 0.0
    second = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return first + second
