"""Where the names of a picture's points go: beside their own point, on no other name or mark, off
lines if possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

_WAYS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
_FARTHER = (0.0, 1.0, 2.2, 3.4, 4.6)  # heights of a name between it and its point, beyond the least


@dataclass(frozen=True)
class Named:
    """A point and the room that its name takes, in any one unit; y goes up.

    Args:
        x, y: the point.
        radius: of its mark.
        width, height: of the name.
    """

    x: float
    y: float
    radius: float
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: "Box") -> bool:
        """Whether they share an area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.low < other.high
            and other.low < self.high
        )

    def within(self, other: "Box") -> bool:
        """Whether it lies inside the other."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.low <= self.low
            and self.high <= other.high
        )

    def distance(self, point: Named) -> float:
        """From a point's middle; 0 within."""
        across = max(self.left - point.x, point.x - self.right, 0.0)
        return hypot(across, max(self.low - point.y, point.y - self.high, 0.0))

    def is_crossed_by(self, line: "Line") -> bool:
        """Whether a part of a line lies in it (Liang and Barsky 1984)."""
        x1, y1, x2, y2 = line
        enters = 0.0
        leaves = 1.0
        for start, way, low, high in (
            (x1, x2 - x1, self.left, self.right),
            (y1, y2 - y1, self.low, self.high),
        ):
            if way == 0:
                if not low < start < high:
                    return False
                continue
            first, last = sorted(((low - start) / way, (high - start) / way))
            enters = max(enters, first)
            leaves = min(leaves, last)
        return enters < leaves or (x1 == x2 and y1 == y2)


Line = tuple[float, float, float, float]
"""From x, y to x, y."""


def place_names(
    points: Sequence[Named], marks: Sequence[Named], lines: Sequence[Line], room: Box
) -> list[Box | None]:
    """The place of each point's name, the first served first: the nearest one that is free.

    Args:
        points: those that are named.
        marks: all points whose marks stay clear, named or not.
        lines: that names keep off where they can.
        room: that names stay in.

    Returns:
        For each point its name's box; None where nothing is free within four heights of it.
    """
    taken: list[Box] = []
    places: list[Box | None] = []

    def is_free(box: Box) -> bool:
        return not any(map(box.meets, taken)) and all(
            box.distance(mark) >= mark.radius for mark in marks
        )

    def reads_ill(box: Box, point: Named) -> float:
        """A line through it, and another point that it would seem to belong to."""
        own = box.distance(point) - 1e-6
        return 1.5 * any(map(box.is_crossed_by, lines)) + 1.2 * any(
            box.distance(mark) < own for mark in marks
        )

    for point in points:
        tried = (
            (far, _beside(point, across, up, far * point.height))
            for far in _FARTHER
            for across, up in _WAYS
        )
        free = [(far, box) for far, box in tried if box.within(room) and is_free(box)]
        place = min(
            free, key=lambda each: each[0] + reads_ill(each[1], point), default=(0.0, None)
        )[1]
        places.append(place)
        if place is not None:
            taken.append(place)
    return places


def _beside(point: Named, across: int, up: int, far: float) -> Box:
    """A name's box in a direction, its nearest edge or corner `far` beyond the mark."""
    beyond = (0.7 if across and up else 1.0) * (point.radius + far) + 1
    left = point.x + (
        beyond if across > 0 else -beyond - point.width if across < 0 else -point.width / 2
    )
    low = point.y + (
        beyond - 1 if up > 0 else 1 - beyond - point.height if up < 0 else -point.height / 2
    )
    return Box(left, low, left + point.width, low + point.height)
