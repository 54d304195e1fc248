"""Amounts as people read them: 1.23M, 4.56 GB, 3 ranks."""


def counted(number: int, noun: str) -> str:
    """A number and its noun, which gets an s where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short_number(value: float) -> str:
    """1234567 → 1.23M."""
    return "".join(_scaled(value))


def in_bytes(value: float) -> str:
    """1234567 → 1.23 MB; decimal units."""
    number, prefix = _scaled(value)
    return f"{number} {prefix}B"


def _scaled(value: float) -> tuple[str, str]:
    """Three digits and the decimal prefix that they are of."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # what three digits round up to 1000 is one of the next prefix
            return f"{value / size:.3g}", prefix
    return f"{value:.3g}", ""
