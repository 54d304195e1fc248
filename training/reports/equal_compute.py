"""Exits compared at equal compute, with bootstrap intervals over sequences, and what that comes to
in one sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from training.reports.curves import Curve, Point

CONFIDENCE = 0.95
_RESAMPLES = 1000
_LESS = 0.95  # of the learned rule's compute: less is worth a sentence
Verdict = Literal["worth it", "not worth it", "no difference shown"]


@dataclass(frozen=True)
class IntervalEstimate:
    """A figure and its interval.

    Args:
        value, low, high: in the figure's own unit.
    """

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """ "0.981 [0.975, 0.987]", each number in the given form."""
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True)
class EqualComputeComparison:
    """The learned rule and another kind of exit at equal compute.

    Args:
        name: of the other.
        usable: whether it could take the learned rule's place.
        compute: FLOPs, or measured microseconds, a token, the same for both: what the learned rule
            takes as it was trained, or where the other cannot be had so cheaply, the least that it
            can be had for.
        accuracy: of the other there, interpolated between its neighbouring settings (which a coin
            for each sequence would give), or that of a cheaper setting where it is better.
        learned: accuracy of the learned rule there, likewise.
        gain: learned − other, accuracies; the interval is wider, so that those of all comparisons
            hold together.
        costlier: whether that compute is more than the learned rule takes as it was trained.
    """

    name: str
    usable: bool
    compute: float
    accuracy: IntervalEstimate
    learned: IntervalEstimate
    gain: IntervalEstimate
    costlier: bool = False


@dataclass(frozen=True)
class Sums:
    """The points of a curve as arrays, a column a point, cheapest first.

    Args:
        right: [S K] right answers of each sequence.
        flops: [S K].
        asked, tokens: [S].
        micros: [K] measured microseconds a token, where they are what counts as compute; None for
            FLOPs.
    """

    right: Float[np.ndarray, "S K"]
    flops: Float[np.ndarray, "S K"]
    has_target: Float[np.ndarray, " S"]
    tokens: Float[np.ndarray, " S"]
    micros: Float[np.ndarray, " K"] | None = None

    @classmethod
    def of(
        cls,
        points: Sequence[Point],
        has_target: Float[np.ndarray, " S"],
        tokens: Float[np.ndarray, " S"],
        micros: Sequence[float] | None = None,
    ) -> "Sums":
        """Of some points."""
        right, flops = (
            np.stack([getattr(point, name) for point in points], 1) for name in ("right", "flops")
        )
        return cls(right, flops, has_target, tokens, None if micros is None else np.array(micros))

    def accuracy_at(self, compute: float, rows: np.ndarray | slice = slice(None)) -> float:
        """On some sequences, between the two points that compute less and more; that of the
        costliest beyond it."""
        return float(
            np.interp(
                compute,
                self.computes(rows),
                self.right[rows].sum(0) / max(1.0, self.has_target[rows].sum()),
            )
        )

    def best_at(self, compute: float) -> "Sums":
        """What is to be taken where so much may be computed: all points, to go between two of them;
        or a cheaper one alone, where it is right more often."""
        cheaper = np.flatnonzero(self.computes() <= compute)
        if not cheaper.size:
            return self
        best = cheaper[self.right[:, cheaper].sum(0).argmax()]
        alone = self.only(int(best))
        return alone if alone.accuracy_at(compute) > self.accuracy_at(compute) else self

    def only(self, column: int) -> "Sums":
        """One of the points."""
        one = slice(column, column + 1)
        micros = None if self.micros is None else self.micros[one]
        return Sums(self.right[:, one], self.flops[:, one], self.has_target, self.tokens, micros)

    def computes(self, rows: np.ndarray | slice = slice(None)) -> Float[np.ndarray, " K"]:
        """FLOPs, or microseconds, a token of each point, on some sequences; never less than a
        cheaper point."""
        own = (
            self.flops[rows].sum(0) / self.tokens[rows].sum()
            if self.micros is None
            else self.micros
        )
        return np.maximum.accumulate(own)


def interval(
    sums: Sums, compute: float, confidence: float = CONFIDENCE, less: Sums | None = None
) -> IntervalEstimate:
    """The accuracy at some compute (of `sums`, or less that of another on the same sequences), with
    its percentile interval over resampled sequences (Efron 1979)."""
    from scipy import stats  # here, because it is slow to import

    def statistic(rows: np.ndarray) -> float:
        return sums.accuracy_at(compute, rows) - (less.accuracy_at(compute, rows) if less else 0.0)

    every = np.arange(len(sums.has_target))
    found = stats.bootstrap(
        (every,),
        statistic,
        vectorized=False,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return IntervalEstimate(statistic(every), float(found.low), float(found.high))


def compare(
    learned: Curve,
    trained: Point,
    others: Sequence[Curve],
    has_target: Float[np.ndarray, " S"],
    tokens: Float[np.ndarray, " S"],
    micros: Callable[[Point], float] | None = None,
) -> list[EqualComputeComparison]:
    """The learned rule against each other kind of exit.

    Args:
        learned: its curve.
        trained: the point of it that was trained.
        others: their curves.
        asked, tokens: [S] of each sequence, what is asked and how many tokens it has.
        micros: measured microseconds a token of a point, for a comparison at equal time; None for
            one at equal FLOPs.
    """

    def of(points: Sequence[Point]) -> Sums:
        return Sums.of(
            points,
            has_target,
            tokens,
            None if micros is None else [micros(point) for point in points],
        )

    own = of(learned.points)
    at_home = of([trained])
    usable = max(1, sum(curve.usable for curve in others))
    found = []
    for curve in others:
        sums = of(curve.points)
        at_least = float(at_home.computes()[0])
        compute = max(at_least, float(sums.computes()[0]))
        mine = max(at_home, own.best_at(compute), key=lambda one: one.accuracy_at(compute))
        mine = at_home if compute == at_least else mine
        theirs = sums.best_at(compute)
        together = 1 - (1 - CONFIDENCE) / usable if curve.usable else CONFIDENCE
        found.append(
            EqualComputeComparison(
                curve.name,
                curve.usable,
                compute,
                interval(theirs, compute),
                interval(mine, compute),
                interval(mine, compute, together, less=theirs),
                compute > at_least,
            )
        )
    return found


def verdict(
    comparisons: Sequence[EqualComputeComparison],
) -> tuple[Verdict, EqualComputeComparison]:
    """Whether learned halting was worth it, and the comparison that says so: it was if it beats
    everything that could take its place, it was not if anything beats it; else no difference was
    shown."""
    usable = [each for each in comparisons if each.usable]
    assert usable, "there is always the fixed depth"
    closest = min(usable, key=lambda each: each.gain.value)
    if all(each.gain.low > 0 for each in usable):
        return "worth it", closest
    beaten = [each for each in usable if each.gain.high < 0]
    if beaten:
        return "not worth it", min(beaten, key=lambda each: each.gain.value)
    return "no difference shown", closest


def sentence(
    at_flops: tuple[Verdict, EqualComputeComparison],
    at_time: tuple[Verdict, EqualComputeComparison],
) -> str:
    """Both verdicts in one sentence in plain words."""
    said, by = at_flops
    if said == "worth it":
        text = (
            f"Learned halting was worth it here: at equal compute it is right {_share(by.learned)} "
            f"of the time, {_points(by.gain)} more than the best of the others, "
            f"{by.name}{_begins(by)}"
        )
    elif said == "not worth it":
        text = (
            f"Learned halting was not worth it here: at equal compute {by.name}{_begins(by)} is "
            f"right {_share(by.accuracy)} of the time, {_points(_turned(by.gain))} more than the "
            "learned rule"
        )
    else:
        alike = by.gain.low == by.gain.high == 0
        text = (
            "Learned halting was not shown to be worth it here: at equal compute "
            f"{by.name}{_begins(by)}, which needs no gate, is right {_share(by.accuracy)} of the "
            f"time and the learned rule {'as well' if alike else _share(by.learned)}"
        )
        text += "" if alike else f", a difference of {_points(by.gain)} that may be chance"
    measured, of = at_time
    if measured == said:
        return f"{text}; measured time on this machine says the same."
    if measured == "worth it":
        return (
            f"{text}; in equal measured time on this machine it is the best, by {_points(of.gain)}."
        )
    if measured == "not worth it":
        return (
            f"{text}; but in equal measured time on this machine {of.name} is right "
            f"{_share(of.accuracy)} of the time, {_points(_turned(of.gain))} more than the learned "
            "rule."
        )
    return f"{text}; in equal measured time on this machine no difference from {of.name} was shown."


def as_right_for_less(trained: Point, others: Sequence[Curve]) -> str:
    """A sentence, with a space before it, on the cheapest setting of what could take the learned
    rule's place that is no less often right; empty where that saves less than a twentieth."""
    enough = trained.right.sum()
    own = float(trained.flops.sum())
    able = [
        (float(point.flops.sum()) / own, curve, point)
        for curve in others
        if curve.usable
        for point in curve.points
        if point.right.sum() >= enough
    ]
    share, curve, point = min(able, key=lambda each: each[0], default=(1.0, None, None))
    if curve is None or point is None or share > _LESS:
        return ""
    name = curve.name[0].upper() + curve.name[1:]
    return f" {name} ({point.name}) is no less often right with {share:.0%} of its compute."


def _begins(by: EqualComputeComparison) -> str:
    return " (at the least that it can be had for)" if by.costlier else ""


def _share(accuracy: IntervalEstimate) -> str:
    return f"{100 * accuracy.value:.2f} %"


def _turned(gain: IntervalEstimate) -> IntervalEstimate:
    return IntervalEstimate(-gain.value, -gain.high, -gain.low)


def _points(gain: IntervalEstimate) -> str:
    return f"{100 * gain.value:.2f} points [{100 * gain.low:.2f}, {100 * gain.high:.2f}]"
