"""The plot of efficiency against ranks, as docs/stragglers.md shows it."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.stragglers.simulated import Efficiency
from halting.maps.viewers.colours import WRONG, colour_at

_LEFT = 0.07
_GAP = 0.055
_INK, _FAINT = "#1f2328", "#6a7077"
_LOOKS = {
    "truth": ("true counts", colour_at(1.0), "o"),
    "ponder": ("the last map", colour_at(0.62), "s"),
    "difficulty": ("difficulty", colour_at(0.42), "^"),
    "length": ("length", colour_at(0.28), "D"),
    "order": ("naive: as they come", WRONG, "X"),
}
_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#c4c7cb",
    "axes.linewidth": 0.8,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
}


def save_stragglers_picture(found: Sequence[Efficiency], path: Path) -> None:
    """Writes a PNG with a panel a recipe; all of one micro-batch."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    recipes = list(dict.fromkeys(each.recipe for each in found))
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(12, 4.9), dpi=160, facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(
            _LEFT,
            0.945,
            "What ranks lose by waiting for the slowest",
            size=17,
            weight="bold",
            va="center",
        )
        micro_batch = found[0].micro_batch
        about = (
            f"simulated from recorded step counts  ·  {micro_batch} sequences a rank and update  · "
            " dealt by …"
        )
        figure.text(_LEFT, 0.875, about, size=10, color=_FAINT, va="center")
        room = (0.985 - _LEFT + _GAP) / len(recipes)
        for number, recipe in enumerate(recipes):
            axes = figure.add_axes((_LEFT + number * room, 0.125, room - _GAP, 0.62))
            mine = [each for each in found if each.recipe == recipe]
            for way, (name, colour, marker) in _LOOKS.items():
                line = [each for each in mine if each.way == way]
                if line:
                    axes.plot(
                        [each.ranks for each in line],
                        [100 * each.efficiency for each in line],
                        color=colour,
                        marker=marker,
                        markersize=5,
                        linewidth=1.8,
                        label=name,
                    )
            ranks = sorted({each.ranks for each in found})
            axes.set_xscale("log", base=2)
            axes.set_xticks(ranks, [f"{each:,}" for each in ranks])
            axes.minorticks_off()
            axes.set_ylim(min(100 * each.efficiency for each in found) - 4, 102)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
            axes.grid(axis="y", color="#e6e8ea", linewidth=0.8)
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            title = f"{recipe}: token-steps of a sequence spread by {100 * mine[0].spread:.0f} %"
            axes.set_title(title, loc="left", size=11, weight="bold", pad=10)
            axes.set_xlabel("ranks")
            if number == 0:
                axes.set_ylabel("efficiency: mean ÷ slowest rank")
                axes.legend(loc="lower left", frameon=False, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
