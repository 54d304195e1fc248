"""What many calibrations come to: how many break the risk, what is left of the saving, what
carelessness would do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.harness.report import Figure
from benchmarks.harness.rows import Row
from training.exits.learn_then_test import (
    fixed_sequence,
    hoeffding_bentkus,
    last_that_holds,
    most_losses,
)

KEPT = 0.7
GRID = 0.95
_ERRORS = 2  # standard errors of the test set


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        risk, confidence: that are promised.
        draws: calibrations.
        sequences: of each.
        test: sequences on which the risk of a threshold is taken.
        pilot: training examples on which the thresholds around the risk are found.
    """

    risk: float = 0.05
    confidence: float = 0.95
    draws: int = 200
    sequences: int = 1000
    test: int = 100_000
    pilot: int = 20_000

    @property
    def level(self) -> float:
        """δ: the share of calibrations that may break the risk."""
        return round(1 - self.confidence, 12)


@dataclass(frozen=True)
class Choices:
    """What each of D calibrations takes, the cheapest setting that any order comes to; full depth
    where none holds.

    Args:
        names: [D] of the setting; None at full depth.
        risk, error, saving: [D] of it, on the test set; all 0 at full depth.
    """

    names: list[str | None]
    risk: np.ndarray
    error: np.ndarray
    saving: np.ndarray


def about_orders(
    spec: str, close: Sequence[Sequence[Row]], own: Sequence[Sequence[Row]], plan: Plan
) -> list[Figure]:
    """The figures of an exit.

    A break is counted wherever the risk of what is taken may lie beyond the allowed one: where it
    is less than two standard errors of the test set below it. A careless choice's only where it
    surely does.

    Args:
        spec: of the exit.
        close: rows of orders with many settings around the allowed risk.
        own: of those that `ponder calibrate` tries.
        plan: what is measured.
    """
    allowed = most_breaks(plan.draws, plan.level)
    figures = []
    best_of = [
        float(choices([*orders], known(orders, plan), last_before_a_failure).saving[0])
        for orders in (close, own)
    ]
    best = max(best_of)
    target = f"≤ {allowed:.4f} ({plan.level:g} and sampling error)"
    promised = f"share of {plan.draws} that break {plan.risk:g}"
    for name, orders in (("around the risk", close), ("as calibrate tries", own)):
        found = choices(orders, tested(orders, plan), last_before_a_failure)
        broken = float(
            (found.risk + _ERRORS * found.error > plan.risk)[found.saving > 0].sum() / plan.draws
        )
        kept = float(found.saving.mean() / best) if best > 0 else math.nan
        figures += [
            Figure(f"{spec}, {name}: {promised}", broken, target, broken <= allowed),
            Figure(
                f"{spec}, {name}: share of the best saving that is kept",
                kept,
                f"≥ {KEPT}",
                kept >= KEPT,
            ),
        ]
    wild = choices(close, guessed(close, plan), last_of_all)
    careless = float((wild.risk - _ERRORS * wild.error > plan.risk).mean())
    grid = best_of[1] / best if best > 0 else math.nan
    return [
        *figures,
        Figure(
            f"{spec}, around the risk: share that surely breaks it where the mean loss alone "
            "decides",
            careless,
            f"> {allowed:.4f}, or the case is too easy",
            careless > allowed,
        ),
        Figure(
            f"{spec}: best of what calibrate tries, share of the best saving",
            grid,
            f"≥ {GRID}",
            grid >= GRID,
        ),
        Figure(f"{spec}: saving of the best threshold, share of FLOPs", best, "> 0", best > 0),
    ]


def taken(orders: Sequence[Sequence[Row]], plan: Plan) -> list[str | None]:
    """What each calibration takes."""
    return choices(orders, tested(orders, plan), last_before_a_failure).names


def tested(orders: Sequence[Sequence[Row]], plan: Plan) -> list[np.ndarray]:
    """Of each order [settings, D] whether a setting holds, at the order's share of the level."""
    level = plan.level / len(orders)
    return [
        np.array([p_values(np.array(row["losses"]), plan) for row in rows]) <= level
        for rows in orders
    ]


def guessed(orders: Sequence[Sequence[Row]], plan: Plan) -> list[np.ndarray]:
    """Likewise, where the mean loss lies below the risk."""
    return [np.array([row["losses"] for row in rows]) <= plan.risk for rows in orders]


def known(orders: Sequence[Sequence[Row]], plan: Plan) -> list[np.ndarray]:
    """Likewise [settings, 1], where the test set says so."""
    return [np.array([[row["risk"] <= plan.risk] for row in rows]) for rows in orders]


def p_values(losses: np.ndarray, plan: Plan) -> np.ndarray:
    """Of the mean losses of each calibration."""
    return np.array([hoeffding_bentkus(loss, plan.sequences, plan.risk) for loss in losses])


def choices(
    orders: Sequence[Sequence[Row]],
    holds: Sequence[np.ndarray],
    last: Callable[[np.ndarray], np.ndarray],
) -> Choices:
    """What is taken.

    Args:
        orders: rows, a setting each.
        holds: of each order [settings, D].
        last: which setting is taken of an order.
    """
    number = holds[0].shape[1]
    found = Choices([None] * number, *(np.zeros(number) for _ in range(3)))
    for rows, held in zip(orders, holds, strict=True):
        for draw, place in enumerate(last(held)):
            row = rows[place]
            if place >= 0 and 1 - row["cost"] > found.saving[draw]:
                found.names[draw] = row["setting"]
                found.risk[draw], found.error[draw], found.saving[draw] = (
                    row["risk"],
                    row["error"],
                    1 - row["cost"],
                )
    return found


def last_before_a_failure(holds: np.ndarray) -> np.ndarray:
    """[D] the last setting before the first that does not hold; −1 for none.

    Args:
        holds: [settings, D].
    """
    return np.cumprod(holds, axis=0).sum(0) - 1


def last_of_all(holds: np.ndarray) -> np.ndarray:
    """[D] the last setting that holds, whatever those before it do; −1 for none."""
    return np.where(holds.any(0), len(holds) - 1 - holds[::-1].argmax(0), -1)


def most_breaks(draws: int, level: float) -> float:
    """The share of draws that a chance of `level` each exceeds in one of a thousand benchmarks."""
    from scipy import stats

    return float(stats.binom.ppf(0.999, draws, level)) / draws


def in_closed_form(draws: int) -> list[Figure]:
    """The procedure on settings whose losses are 0 or 1 and independent, where all chances are
    binomial sums."""
    from scipy import stats

    risks = (0.001, 0.008, 0.02, 0.03)
    count = 1000
    allowed = 0.02
    level = 0.05
    most = most_losses(count, allowed, level)
    holds = stats.binom.cdf(most, count, risks)
    reached = np.cumprod(holds)
    breaks = float(
        reached[2]
    )  # the first setting at the limit of what is allowed holds, and all before it
    generator = np.random.default_rng(0)
    taken = np.zeros(len(risks) + 1)
    for _ in range(draws):
        tested = fixed_sequence(
            range(len(risks)),
            lambda one: (generator.random(count) < risks[one]).astype(float),
            allowed,
            level,
        )
        last = last_that_holds(tested)
        taken[len(risks) if last is None else last.setting] += 1
    exact = np.array([*(reached * (1 - np.append(holds[1:], 0.0))), 1 - holds[0]])
    off = np.abs(taken / draws - exact) / np.sqrt(
        np.maximum(exact * (1 - exact), 1 / draws) / draws
    )
    return [
        Figure(
            "closed form: exact chance to break the risk", breaks, f"≤ {level}", breaks <= level
        ),
        Figure(
            f"closed form: largest deviation over {draws:,} draws, standard errors",
            float(off.max()),
            "≤ 4",
            bool(off.max() <= 4),
        ),
    ]
