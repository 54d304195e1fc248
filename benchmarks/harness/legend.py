"""The legend of a panel, as the pictures of benchmarks have it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def legend_below(panel: "Axes", left: float, columns: int = 1) -> None:
    """Writes what a panel's lines are below it.

    Args:
        panel: with labelled lines.
        left: where the legend begins, as a share of the panel's width.
        columns: of the legend.
    """
    panel.legend(
        loc="upper left",
        bbox_to_anchor=(left, -0.2),
        frameon=False,
        fontsize=8.5,
        ncols=columns,
        borderaxespad=0,
    )
