"""The heat maps of the picture, and the style of its panels."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.colours import BLANK, colour_at
from halting.maps.viewers.picture.strip import shortened
from halting.maps.viewers.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT = "#22252a", "#6b7078"
_MOST_DOTS = 160  # more would run into one another
_SMALLEST = 6.5  # points: below this size, tokens are named by their position


class Heat(NamedTuple):
    """A heat map: its title, and its values [L N] from 0 to 1."""

    title: str
    values: NDArray[np.floating]


def heats(one: PonderMap, tokens: int) -> list[Heat]:
    """Of a map of one sequence: the mass, and what was known at each step if anything was."""
    ran = np.arange(1, one.max_steps + 1) <= one.steps[0, :tokens, None]
    mass = np.where(ran, one.mass[0, :tokens], np.nan)
    found = [Heat("Exit mass: when it left the loop", mass)]
    if one.target_probability is not None:
        chance = one.target_probability[0, :tokens]
        if np.isfinite(chance).any():
            found.append(Heat("Chance to be right, had it stopped", chance))
    return found


def draw_heat(
    at: "Axes", scale: "Axes", one: PonderMap, values: NDArray[np.floating], title: str
) -> None:
    """Values [L N] from 0 to 1 as token × step, with a dot at the step where each token left, if
    there is room."""
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    tokens, max_steps = values.shape
    colours = ListedColormap([colour_at(share / 255) for share in range(256)]).with_extremes(
        bad=BLANK
    )
    image = at.imshow(
        np.ma.masked_invalid(values.T),
        cmap=colours,
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, tokens - 0.5, 0.5, max_steps + 0.5),
    )
    if tokens <= _MOST_DOTS:
        left = one.steps[0, :tokens]
        size = float(np.clip(900 / tokens, 4, 24))
        edge = 0.7 if size > 10 else 0.45
        there = np.flatnonzero(left > 0)
        at.scatter(there, left[there], s=size, c="white", edgecolors=INK, linewidths=edge, zorder=3)
    set_title(at, title)
    at.set_ylabel("step  (dot: it left)" if tokens <= _MOST_DOTS else "step")
    at.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    _name_tokens(at, [shortened(visible(text), 6) for text in one.texts[0][:tokens]])
    at.tick_params(length=0)
    for spine in at.spines.values():
        spine.set_visible(False)
    bar = at.figure.colorbar(image, cax=scale)
    bar.set_ticks([0, 0.5, 1])
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    scale.tick_params(length=0, labelsize=8.5)


def _name_tokens(at: "Axes", texts: list[str]) -> None:
    """The tokens' texts along the axis where there is room for them, and their positions
    otherwise."""
    from matplotlib.ticker import MaxNLocator

    inches = at.get_position().width * at.figure.get_size_inches()[0]  # pyright: ignore[reportAttributeAccessIssue]
    fits = 72 * 0.82 * inches / len(texts) / (0.64 * max(1, *map(len, texts)))
    if fits >= _SMALLEST:
        at.set_xticks(range(len(texts)), texts, size=min(fits, 9.5))
        at.set_xlabel("token")
    else:
        at.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        at.set_xlabel("position of the token")


def set_title(at: "Axes", title: str, size: float = 11) -> None:
    """Above the panel, to the left."""
    at.set_title(title, loc="left", size=size, weight="bold", pad=8)


def plain_axes(at: "Axes", grid: str) -> None:
    """No ticks and no frame but the line at the bottom; a pale grid across the axis named."""
    at.grid(axis=grid, color="#e4e6e8", linewidth=0.8)  # pyright: ignore[reportArgumentType]
    at.set_axisbelow(True)
    at.tick_params(length=0)
    for side in ("top", "right", "left"):
        at.spines[side].set_visible(False)
