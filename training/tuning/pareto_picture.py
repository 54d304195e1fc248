"""The Pareto front as a picture: accuracy against compute, penalties labelled, the knee starred,
collapse shaded."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from halting.errors import UsageError
from halting.maps.viewers.colours import WRONG, colour_at
from training.tuning.label_places import Box, Line, Named, place_names
from training.tuning.pareto import ParetoPoint, knee, names_with_seeds, pareto_front, stretches

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes

_INK, _FAINT, _GRID = "#22252a", "#6b7078", "#e4e6e8"
_FRONT, _BEATEN = colour_at(0.8), "#a3a8ad"
_MOST_LABELS = 24
_LABEL = 8.5  # points


def draw_pareto(
    at: "Axes",
    points: Sequence[ParetoPoint],
    compute_name: str = "executed steps a token",
    accuracy_name: str = "accuracy",
    title: str = "Accuracy against compute",
    legend_below: bool = False,
) -> None:
    """Draws the points into axes: those of the front joined, beaten ones grey, collapsed ones as
    crosses on shade.

    Args:
        at: the axes.
        points: at least one.
        compute_name, accuracy_name: what the axes say.
        title: over them.
        legend_below: the legend stands under the axes, which need room there; else where it covers
            least.
    """
    front = pareto_front(points)
    best = knee(points)
    at.plot(
        [point.compute for point in front],
        [point.accuracy for point in front],
        color=_FRONT,
        linewidth=1.6,
        zorder=2,
    )
    for point in points:
        _draw_interval(
            at, point, WRONG if point.collapsed else _FRONT if point in front else _BEATEN
        )
    kinds = {
        "on the front": [point for point in front if not point.collapsed],
        "beaten": [point for point in points if point not in front and not point.collapsed],
    }
    for (name, found), colour in zip(kinds.items(), (_FRONT, _BEATEN), strict=True):
        if found:
            x = [point.compute for point in found]
            y = [point.accuracy for point in found]
            at.scatter(
                x, y, s=34, color=colour, edgecolors="white", linewidths=0.8, zorder=3, label=name
            )
    _limits(at, points)
    if collapsed := [point for point in points if point.collapsed]:
        x = [point.compute for point in collapsed]
        y = [point.accuracy for point in collapsed]
        at.scatter(x, y, s=46, marker="x", color=WRONG, linewidths=1.8, zorder=4, label="collapsed")
        left, right = at.get_xlim()
        for begin, end in stretches(x, 0.03 * (right - left)):
            at.axvspan(begin, end, color=WRONG, alpha=0.10, linewidth=0, zorder=0)
    if best is not None:
        star = at.scatter(
            [best.compute],
            [best.accuracy],
            s=230,
            marker="*",
            color="#f0c419",
            zorder=5,
            label="knee",
        )
        star.set_edgecolor(_INK)
        star.set_linewidth(0.9)
    at.set_title(title, loc="left", size=11, weight="bold", pad=8)
    names, seeds = names_with_seeds(points)
    apart = "  ·  " if legend_below else "\n"
    at.set_xlabel(apart.join(filter(None, (compute_name, seeds))))
    at.set_ylabel(accuracy_name)
    if legend_below:
        at.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, frameon=False, fontsize=8.5
        )
    else:
        at.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none", fontsize=8.5)
    at.grid(color=_GRID, linewidth=0.8)
    at.set_axisbelow(True)
    at.tick_params(length=0)
    for side in ("top", "right", "left"):
        at.spines[side].set_visible(False)
    _label(at, points, names, front, best)


def save_pareto(
    points: Sequence[ParetoPoint],
    path: str | Path,
    compute_name: str = "executed steps a token",
    accuracy_name: str = "accuracy",
    title: str = "Accuracy against compute",
) -> None:
    """Writes the picture as a PNG.

    Raises:
        UsageError: where there is no point.
    """
    if not points:
        raise UsageError(
            "There is no point to draw.",
            "A front is drawn through what was measured.",
            "Run a trial first.",
        )
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(
        ["default", {"font.size": 9.5, "axes.edgecolor": "#c4c7cb", "font.family": ["DejaVu Sans"]}]
    ):
        figure = Figure(figsize=(8.0, 5.0), dpi=160, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        draw_pareto(
            figure.add_subplot(), points, compute_name, accuracy_name, title, legend_below=True
        )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")


def _draw_interval(at: "Axes", point: ParetoPoint, colour: str) -> None:
    if point.interval is not None:
        at.plot([point.compute] * 2, point.interval, color=colour, linewidth=1, alpha=0.7, zorder=1)
    if point.compute_interval is not None:
        at.plot(
            point.compute_interval,
            [point.accuracy] * 2,
            color=colour,
            linewidth=1,
            alpha=0.7,
            zorder=1,
        )


def _limits(at: "Axes", points: Sequence[ParetoPoint]) -> None:
    """Room around the data for stars and labels."""
    x = [value for point in points for value in (point.compute, *(point.compute_interval or ()))]
    y = [value for point in points for value in (point.accuracy, *(point.interval or ()))]
    wide = max(x) - min(x) or abs(max(x)) or 1.0
    high = max(y) - min(y) or abs(max(y)) or 1.0
    at.set_xlim(min(x) - 0.07 * wide, max(x) + 0.12 * wide)
    at.set_ylim(min(y) - 0.10 * high, max(y) + 0.12 * high)


def _label(
    at: "Axes",
    points: Sequence[ParetoPoint],
    names: Sequence[str],
    front: list[ParetoPoint],
    best: ParetoPoint | None,
) -> None:
    """Writes the names at the points, those of the front first where there are many; a name that
    stands off has a line to its point, and one for which there is no room is left out."""
    from matplotlib.textpath import TextPath

    at.figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue]  # lays the axes out
    (left, right), (low, high) = at.get_xlim(), at.get_ylim()
    box = at.get_window_extent()
    across, tall = (
        72 * side / at.figure.dpi for side in (box.width, box.height)
    )  # points of print

    def place(x: float, y: float) -> tuple[float, float]:
        return across * (x - left) / (right - left), tall * (y - low) / (high - low)

    name_of = {id(point): name for point, name in zip(points, names, strict=True)}

    def named(point: ParetoPoint) -> Named:
        radius = 9.0 if point == best else 4.5
        width = TextPath((0, 0), name_of[id(point)], size=_LABEL).get_extents().width + 2
        return Named(*place(point.compute, point.accuracy), radius, width, 1.2 * _LABEL)

    lines: list[Line] = [
        (*place(one.compute, one.accuracy), *place(other.compute, other.accuracy))
        for one, other in pairwise(front)
    ]
    for point in points:
        if point.interval is not None:
            lines.append(
                (*place(point.compute, point.interval[0]), *place(point.compute, point.interval[1]))
            )
        if point.compute_interval is not None:
            begin, end = point.compute_interval
            lines.append((*place(begin, point.accuracy), *place(end, point.accuracy)))
    first = [*([best] if best else []), *(point for point in front if point != best)]
    wanted = [*first, *(each for each in points if each not in first)][:_MOST_LABELS]
    marks = [named(point) for point in points]
    for point, spot in zip(
        wanted,
        place_names([named(each) for each in wanted], marks, lines, Box(0, 0, across, tall)),
        strict=True,
    ):
        if spot is None:
            continue
        own = named(point)
        middle = (spot.left + spot.right) / 2 - own.x, (spot.low + spot.high) / 2 - own.y
        far = (
            max(abs(middle[0]) - own.width / 2, abs(middle[1]) - own.height / 2)
            > own.radius + 0.8 * own.height
        )
        line = {
            "arrowstyle": "-",
            "color": _FAINT,
            "linewidth": 0.6,
            "shrinkA": 0,
            "shrinkB": own.radius,
        }
        at.annotate(
            name_of[id(point)],
            (point.compute, point.accuracy),
            middle,
            textcoords="offset points",
            ha="center",
            va="center",
            size=_LABEL,
            color=_INK if point in front else _FAINT,
            arrowprops=line if far else None,  # pyright: ignore[reportArgumentType]
            zorder=6,
        )
