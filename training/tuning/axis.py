"""One flag that a sweep varies: a list of values, or a range for Optuna's sampler."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from halting.errors import UsageError

if TYPE_CHECKING:  # optuna is slow to import
    from optuna import Trial

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?", re.IGNORECASE)


@dataclass(frozen=True)
class Axis:
    """A flag and its values.

    Args:
        name: the flag without its dashes, "penalty.value".
        words: its values as one types them; empty for a range.
        low, high: the ends of a range, or the least and most of values that are all numbers.
        log: a range is sampled evenly in its logarithm.
        whole: a range holds whole numbers only.
    """

    name: str
    words: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False

    @classmethod
    def read(cls, name: str, words: Sequence[str]) -> Self:
        """From the words after a flag: several values, or one range LOW..HIGH or LOW..HIGH:log.

        Raises:
            UsageError: for a range that is none, and for one among values.
        """
        ranges = [found for word in words if (found := _RANGE.fullmatch(word))]
        if odd := [word for word in words if _RANGE.match(word) and not _RANGE.fullmatch(word)]:
            raise UsageError(
                f"--{name} {odd[0]}.",
                "A range is LOW..HIGH, or LOW..HIGH:log to draw evenly in its logarithm.",
                f"Write --{name} 1e-4..1e-1:log, or values with spaces between them.",
            )
        if not ranges:
            unique = tuple(dict.fromkeys(map(plain, words)))
            numbers = [number for word in unique if (number := as_number(word)) is not None]
            if len(numbers) < len(unique):
                return cls(name, unique)
            return cls(name, unique, min(numbers), max(numbers))
        low = float(ranges[0][1])
        high = float(ranges[0][2])
        log = ranges[0][3] is not None
        if len(words) > 1 or high <= low or (log and low <= 0):
            why = (
                "A range stands alone: its values are drawn, those of a list are all tried."
                if len(words) > 1
                else (
                    "It goes from the lower end to the higher one, and above 0 where it is drawn "
                    "by its logarithm."
                )
            )
            raise UsageError(
                f"--{name} {' '.join(words)}.",
                why,
                f"Write --{name} 1e-4..1e-1:log, or values with spaces between them.",
            )
        whole = all(re.fullmatch(r"[+-]?[0-9]+", end) for end in (ranges[0][1], ranges[0][2]))
        return cls(name, (), low, high, log, whole)

    @property
    def is_range(self) -> bool:
        """Whether its values are drawn."""
        return not self.words

    @property
    def kind(self) -> str:
        """What Optuna has to know it as from the first trial to the last: it lets no parameter
        change its kind."""
        if self.is_range:
            return "range:log" if self.log else "range"
        return "names" if self.low is None else "numbers"

    def joined(self, other: "Axis") -> "Axis":
        """Both lists of values, of one kind; or the wider of two ranges."""
        words = tuple(dict.fromkeys((*self.words, *other.words)))
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Axis(self.name, words)
        low = min(self.low, other.low)
        high = max(self.high, other.high)
        return Axis(self.name, words, low, high, self.log, self.whole and other.whole)

    def suggest(self, trial: "Trial") -> str:
        """The value of this axis in a trial, as a word: the one that it was queued with, else one
        that is drawn."""
        if self.low is None or self.high is None:
            return str(trial.suggest_categorical(self.name, self.words))
        if self.is_range and self.whole and not self.log:
            return plain(str(trial.suggest_float(self.name, self.low, self.high, step=1.0)))
        drawn = trial.suggest_float(self.name, self.low, self.high, log=self.log)
        if self.is_range:
            drawn = round(drawn) if self.whole else self._short(drawn)
        return plain(str(drawn))

    def _short(self, drawn: float) -> float:
        """A drawn value in four digits, as one can read and type it."""
        assert self.low is not None and self.high is not None
        near = float(f"{drawn:.4g}")
        return near if self.low <= near <= self.high else drawn

    def value(self, word: str) -> float | str:
        """A word as Optuna keeps it."""
        number = as_number(word)
        return word if self.low is None or number is None else number

    def asdict(self) -> dict[str, Any]:
        """As the study's attributes hold it."""
        return {**asdict(self), "words": list(self.words)}

    @classmethod
    def fromdict(cls, about: dict[str, Any]) -> Self:
        """What `asdict` wrote."""
        return cls(**{**about, "words": tuple(about["words"])})


def as_number(word: str) -> float | None:
    """The number that a word is; None where it is none."""
    return float(word) if re.fullmatch(_NUMBER, word, re.IGNORECASE) else None


def plain(word: str) -> str:
    """One spelling for each number: "1e-3" and "0.0010" are "0.001", "4.0" is "4"; other words are
    as they are."""
    number = as_number(word)
    if number is None:
        return word
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)
