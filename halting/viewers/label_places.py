"""Where the names of a picture's points go: beside their own point, on no other name or mark, off lines if possible."""

from collections.abc import Sequence
from dataclasses import dataclass

_WAYS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
_FARTHER = (0.0, 1.0, 2.2, 3.4, 4.6)  # heights of a name between it and its point, beyond the least
_ALONG = 12  # places on a line that are looked at


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
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def within(self, other: "Box") -> bool:
        """Whether it lies inside the other."""
        return (
            other.left <= self.left and self.right <= other.right and other.low <= self.low and self.high <= other.high
        )

    def touches(self, mark: Named) -> bool:
        """Whether a point's mark reaches into it."""
        across = max(self.left - mark.x, mark.x - self.right, 0.0)
        up = max(self.low - mark.y, mark.y - self.high, 0.0)
        return across**2 + up**2 < mark.radius**2


Line = tuple[float, float, float, float]
"""From x, y to x, y."""


def place_names(points: Sequence[Named], marks: Sequence[Named], lines: Sequence[Line], room: Box) -> list[Box | None]:
    """The place of each point's name, the first served first: the nearest one that is free.

    Args:
        points: those that are named.
        marks: all points whose marks stay clear, named or not.
        lines: that names keep off where they can.
        room: that names stay in.

    Returns:
        For each point its name's box; None where nothing is free within four heights of it.
    """
    seen = [
        Box(x, y, x, y)
        for x1, y1, x2, y2 in lines
        for x, y in (_between(x1, y1, x2, y2, step / _ALONG) for step in range(_ALONG + 1))
    ]
    taken: list[Box] = []
    places: list[Box | None] = []

    def is_free(box: Box) -> bool:
        return not any(map(box.meets, taken)) and not any(map(box.touches, marks))

    for point in points:
        tried = ((far, _beside(point, across, up, far * point.height)) for far in _FARTHER for across, up in _WAYS)
        free = [(far, box) for far, box in tried if box.within(room) and is_free(box)]
        ranked = [(sum(map(box.meets, seen)) > 0, far, number) for number, (far, box) in enumerate(free)]
        best = min(ranked, key=lambda each: (each[1] + 1.5 * each[0], each[2]), default=None)
        place = None if best is None else free[best[2]][1]
        places.append(place)
        if place is not None:
            taken.append(place)
    return places


def _beside(point: Named, across: int, up: int, far: float) -> Box:
    """A name's box in a direction, its nearest edge or corner `far` beyond the mark."""
    beyond = (0.7 if across and up else 1.0) * (point.radius + far) + 1
    left = point.x + (beyond if across > 0 else -beyond - point.width if across < 0 else -point.width / 2)
    low = point.y + (beyond - 1 if up > 0 else 1 - beyond - point.height if up < 0 else -point.height / 2)
    return Box(left, low, left + point.width, low + point.height)


def _between(x1: float, y1: float, x2: float, y2: float, share: float) -> tuple[float, float]:
    return x1 + share * (x2 - x1), y1 + share * (y2 - y1)
