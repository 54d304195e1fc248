"""Amounts as people read them: 1.23 M, 4.56 GB, 3 ranks."""


def counted(number: int, noun: str) -> str:
    """A number and its noun, which gets an s where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(value: float) -> str:
    """1234567 → 1.23 M."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def in_bytes(value: float) -> str:
    """1234567 → 1.23 MB; decimal units."""
    return f"{shortened(value)}B" if value >= 1e3 else f"{value:.0f} B"
