"""How many steps an update may take: the limit itself, or a number drawn for it."""

import math
from statistics import NormalDist

from training.config.run_config import RunConfig
from training.tasks.draws import Draws

_FIRST = (
    2**61
)  # beyond every example that is read, so that no depth shares its draws with an example


def training_depth(config: RunConfig, update: int) -> int:
    """The step limit of the update after `update` of them: a pure function of the run's seed and
    that number, so that all ranks and micro-batches agree without a word, and a resumed run draws
    the same.

    "uniform" is uniform over min_steps .. max_steps. "lognormal_poisson" is Huginn's (Geiping et
    al. 2025),

        τ ~ N(log r̄ − σ²/2, σ),   r ~ Poisson(e^τ) + 1,

    of mean r̄ + 1 with a heavy tail, here cut at min_steps and max_steps (with σ = 0.5 and
    max_steps = 2·r̄, 5 % of the draws lie above; with 3·r̄, under 1 %). The paper cuts nothing,
    which leaves memory without a bound.

    Args:
        config: the run.
        update: counted from 0.
    """
    loop = config.loop
    least = config.halting.min_steps
    if loop.train_depth == "fixed":
        return loop.max_steps
    draws = Draws(config.seed, "train", _FIRST + update, 1)
    if loop.train_depth == "uniform":
        return least + int(draws.integers(loop.max_steps - least + 1, 1)[0, 0])
    normal, chance = (_uniform(int(bits)) for bits in draws.bits(2)[0])
    mean = loop.mean_depth or max(1, loop.max_steps // 2)
    rate = mean * math.exp(
        loop.depth_sigma * NormalDist().inv_cdf(normal) - loop.depth_sigma**2 / 2
    )
    return max(least, 1 + _poisson(rate, chance, loop.max_steps - 1))


def _uniform(bits: int) -> float:
    """64 random bits as a number strictly between 0 and 1."""
    return ((bits >> 12) + 0.5) / 2**52


def _poisson(rate: float, chance: float, most: int) -> int:
    """The smallest k with P(Poisson(rate) ≤ k) > chance, but at most `most`."""
    below = 0.0
    for count in range(most):
        below += math.exp(count * math.log(rate) - rate - math.lgamma(count + 1))
        if chance < below:
            return count
    return most
