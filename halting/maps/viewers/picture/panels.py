"""The panels of the picture: heat maps of one sequence, and curves of the steps of the whole
map."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name
from halting.maps.viewers.colours import BLANK, colour_at
from halting.maps.viewers.picture.strip import shortened
from halting.maps.viewers.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT = "#22252a", "#6b7078"
_MOST_POINTS = 24
_MOST_DOTS = 160  # more would run into one another
_SMALLEST = 6.5  # points: below this size, tokens are named by their position


class Heat(NamedTuple):
    """A heat map: its title, and its values [L N] from 0 to 1; None where there is nothing to
    show."""

    title: str
    values: NDArray[np.floating] | None


def heats(one: PonderMap, tokens: int) -> tuple[Heat, Heat]:
    """Of a map of one sequence: the mass, and what was known at each step where targets are."""
    ran = np.arange(1, one.max_steps + 1) <= one.steps[0, :tokens, None]
    mass = np.where(ran, one.mass[0, :tokens], np.nan)
    chance = None if one.target_probability is None else one.target_probability[0, :tokens]
    known = chance is not None and bool(np.isfinite(chance).any())
    return Heat("Exit mass: when it left the loop", mass), Heat(
        "Chance of the right answer, had it stopped", chance if known else None
    )


def say_nothing(at: "Axes", title: str, says: str) -> None:
    """A panel without a picture says why."""
    set_title(at, title)
    at.text(0, 0.92, says, va="top", color=FAINT, linespacing=1.5, transform=at.transAxes)
    at.set_axis_off()


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


def draw_mean_steps(at: "Axes", ponder_map: PonderMap) -> None:
    """Mean steps over the whole map, by difficulty where it is known and by position otherwise."""
    from matplotlib.ticker import MaxNLocator

    if groups := ponder_map.steps_by_difficulty():
        x = np.array([group.difficulty for group in groups])
        mean = np.array([group.steps for group in groups])
        spread = np.array([group.spread for group in groups])
        at.set_xlabel(f"{difficulty_name(ponder_map)}, all sequences")
        title = "Steps against difficulty"
    else:
        x, mean, spread = _steps_by_position(ponder_map)
        at.set_xlabel("position, all sequences")
        title = "Mean steps by position"
    at.fill_between(x, mean - spread, mean + spread, color=colour_at(0.35), alpha=0.45, linewidth=0)
    at.plot(
        x,
        mean,
        color=colour_at(0.75),
        linewidth=2,
        marker="o",
        markersize=5,
        clip_on=False,
        zorder=3,
    )
    if (spearman := ponder_map.spearman()) is not None:
        x_place, side = (
            (0.97, "right") if spearman >= 0 else (0.03, "left")
        )  # the corner where the curve is not
        at.text(
            x_place, 0.05, f"Spearman {spearman:.2f}", ha=side, color=FAINT, transform=at.transAxes
        )
    set_title(at, title)
    at.set_ylabel("mean steps  (band: ± one deviation)")
    at.set_ylim(0, ponder_map.max_steps)
    at.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if len(x) == 1:
        at.set_xticks(x, [f"{x[0]:.4g}"])
    else:
        at.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=bool(np.all(x == np.round(x)))))
    plain_axes(at, "y")


def _steps_by_position(ponder_map: PonderMap) -> tuple[NDArray, NDArray, NDArray]:
    """Position, mean and deviation of the steps; neighbouring positions are put together where
    there are many."""
    rows, positions = np.nonzero(ponder_map.valid)
    steps = ponder_map.steps[rows, positions].astype(np.float64)
    together = -(-ponder_map.valid.shape[1] // _MOST_POINTS)
    groups = [positions // together == number for number in np.unique(positions // together)]
    return (
        np.array([positions[group].mean() for group in groups]),
        np.array([steps[group].mean() for group in groups]),
        np.array([steps[group].std() for group in groups]),
    )


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
