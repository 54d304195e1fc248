"""Amounts as people read them: 1.23M, 4.56 GB, 1,120 ms, 2,000 sequences."""


def counted(number: int, noun: str) -> str:
    """A number and its noun, which gets an s where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def short_number(value: float) -> str:
    """1234567 → 1.23M."""
    return "".join(_scaled(value))


def in_bytes(value: float) -> str:
    """1234567 → 1.23 MB; decimal units."""
    number, prefix = _scaled(value)
    return f"{number} {prefix}B"


def three_digits(value: float) -> str:
    """1120.3 → 1,120; 26.82 → 26.8: three digits, but no digit before the point is lost."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def in_ms(seconds: float) -> str:
    """1.1203 → 1,120; without the unit, which a column's head may say."""
    return three_digits(1e3 * seconds)


def in_seconds(seconds: float) -> str:
    """0.2 → 0.2 s; 8.2 → 8 s; 138 → 2:18 min; 3700 → 1:01:40 h."""
    if 0.0 < seconds < 1.0:
        return f"{seconds:.2g} s"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def _scaled(value: float) -> tuple[str, str]:
    """Three digits and the decimal prefix that they are of."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # what three digits round up to 1000 is one of the next prefix
            return f"{value / size:.3g}", prefix
    return f"{value:.3g}", ""
