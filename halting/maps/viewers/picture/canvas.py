"""The sheet that pictures are drawn on: one width, one style, lengths in inches."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halting.maps.viewers.picture.panels import FAINT, INK

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 12.0
MARGIN = 0.75
ROOM = WIDTH - 2 * MARGIN
_OTHER_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Emoji",
)
_STYLE = {
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # token texts hold dollar signs
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c4c7cb",
    "axes.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}


@dataclass(frozen=True)
class Canvas:
    """A figure on which things are placed in inches from its upper left corner.

    Args:
        figure: of matplotlib.
        height: inches.
    """

    figure: "Figure"
    height: float

    def axes(self, left: float, top: float, width: float, tall: float) -> "Axes":
        """A place to draw in."""
        place = (left / WIDTH, 1 - (top + tall) / self.height, width / WIDTH, tall / self.height)
        return self.figure.add_axes(place)

    def write(self, left: float, middle: float, text: str, **style: Any) -> float:
        """A line of text; gives where it ends, in inches from the left."""
        written = self.figure.text(
            left / WIDTH, 1 - middle / self.height, text, va="center", **style
        )
        return written.get_window_extent().x1 / self.figure.dpi

    def write_heading(self, title: str, known: list[str]) -> None:
        """The title of the sheet, and under it what it is of."""
        line = "  ·  ".join(known)
        self.write(MARGIN, 0.45, title, size=17, weight="bold")
        self.write(MARGIN, 0.78, line, size=min(10, 1250 / max(len(line), 1)), color=FAINT)


def paint(path: str | Path, draw: Callable[["Figure"], None]) -> None:
    """Writes what `draw` draws on an empty figure as a PNG, and makes the folder where it is
    missing."""
    from matplotlib import font_manager, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # DejaVu comes with matplotlib, so the picture looks the same everywhere; the others draw what
    # it has no glyph for.
    installed = set(font_manager.get_font_names())
    fonts = {"font.family": ["DejaVu Sans", *(name for name in _OTHER_FONTS if name in installed)]}
    # pyplot is left alone: it would keep the figure alive, and change the backend of a notebook
    # that draws a map.
    with style.context(["default", {**_STYLE, **fonts}]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font"
        )  # such a text is drawn as a box
        figure = Figure(dpi=160, facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(
            path, format="png", pil_kwargs={"compress_level": 2}
        )  # thrice as fast, hardly larger
