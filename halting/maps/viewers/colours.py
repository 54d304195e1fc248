"""One fixed colour scale for every viewer: pale for little, dark for much.

The control points follow ColorBrewer's YlGnBu (Harrower and Brewer 2003), which people with any of
the colour blindnesses can order, because its lightness falls all the way; the ends are trimmed, to
stand out from white paper and from a black screen.
"""

_CONTROL_POINTS = (
    (0xF6, 0xFB, 0xC4),
    (0xD9, 0xF0, 0xB3),
    (0xA4, 0xDB, 0xB7),
    (0x6A, 0xC5, 0xBE),
    (0x3A, 0xAC, 0xC3),
    (0x21, 0x88, 0xBB),
    (0x24, 0x61, 0xA9),
    (0x25, 0x3C, 0x97),
    (0x14, 0x25, 0x68),
)
WRONG = "#d55e00"
"""Marks wrong answers: the vermilion of Okabe and Ito's palette. Never alone: a cross or an outline
goes with it."""
BLANK = "#ededea"
"""Where nothing was run or asked."""


def colour_at(fraction: float) -> str:
    """The colour "#rrggbb" at 0 (little) to 1 (much); values outside are clipped."""
    place = min(max(fraction, 0.0), 1.0) * (len(_CONTROL_POINTS) - 1)
    index = min(int(place), len(_CONTROL_POINTS) - 2)
    low = _CONTROL_POINTS[index]
    high = _CONTROL_POINTS[index + 1]
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def step_colour(step: int, max_steps: int) -> str:
    """The colour of a token that took `step` of `max_steps` steps: the pale end is 1, the dark end
    max_steps."""
    return colour_at((step - 1) / max(max_steps - 1, 1))


def text_on(background: str) -> str:
    """Black or white, whichever reads better. The better one always reaches a contrast of √21 =
    4.58."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, background))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1, section 1.4.3)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", 0 to 1 (WCAG 2.1)."""
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
