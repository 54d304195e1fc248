"""Accuracy against compute: which settings nothing beats, and where more compute begins to buy
little."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParetoPoint:
    """One setting, measured once or under several seeds.

    Args:
        label: what tells it from the others, in a word or two ("0.01").
        accuracy: its quality, the more the better; the mean over seeds.
        compute: what it cost, the less the better; the mean over seeds.
        penalty: the ponder penalty; None where that is not what was varied.
        interval: least and most accuracy over the seeds; None for one seed.
        compute_interval: the same of compute.
        collapsed: its tokens all stop at one step, under one seed at least.
        seeds: over how many; None where nobody says.
        details: what a table or a tooltip says beside, name and value.
    """

    label: str
    accuracy: float
    compute: float
    penalty: float | None = None
    interval: tuple[float, float] | None = None
    compute_interval: tuple[float, float] | None = None
    collapsed: bool = False
    details: tuple[tuple[str, str], ...] = ()
    seeds: int | None = None


def pareto_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Those that no other beats: none is as good in one objective and better in the other. The
    cheapest first."""
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda each: (each.compute, -each.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def knee(points: Sequence[ParetoPoint]) -> ParetoPoint | None:
    """Where the front bends most: the point farthest above the straight line between its two ends,
    both objectives scaled to the front's range (the distance of Das 1999, "On characterizing the
    knee of the Pareto curve").

    Collapsed points are ends of the line, as they are models that one can have, but never the knee;
    where nothing lies above the line, the most accurate of the others is it. None where all have
    collapsed.
    """
    front = pareto_front(points)
    sound = pareto_front([point for point in points if not point.collapsed])
    if not sound:
        return None
    cheap = front[0]
    best = front[-1]
    wide = best.compute - cheap.compute
    high = best.accuracy - cheap.accuracy
    if wide <= 0 or high <= 0:
        return sound[-1]

    def above(point: ParetoPoint) -> float:
        return (point.accuracy - cheap.accuracy) / high - (point.compute - cheap.compute) / wide

    bent = max(sound, key=above)
    return bent if above(bent) > 1e-9 else sound[-1]


def names_with_seeds(points: Sequence[ParetoPoint]) -> tuple[list[str], str]:
    """What stands at each point, and what is said of all: over how many seeds they are means.

    A number that is the same everywhere is said once; where they differ, "0.01 ×3" stands at the
    point.
    """
    labels = [point.label for point in points]
    numbers = {point.seeds for point in points}
    if numbers == {None}:
        return labels, ""
    if len(numbers) == 1:
        (number,) = numbers
        return (
            labels,
            "each point: one seed" if number == 1 else f"each point: mean of {number} seeds",
        )
    told = [
        label if point.seeds is None else f"{label} ×{point.seeds}"
        for label, point in zip(labels, points, strict=True)
    ]
    return told, "×: number of seeds"


def stretches(places: Sequence[float], room: float) -> list[tuple[float, float]]:
    """The shade behind collapsed points: from `room` before to `room` after each, those that meet
    as one."""
    found: list[tuple[float, float]] = []
    for place in sorted(places):
        if found and place - room <= found[-1][1]:
            found[-1] = (found[-1][0], place + room)
        else:
            found.append((place - room, place + room))
    return found
