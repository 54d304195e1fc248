"""What a trial may spend: seconds, updates or operations, with the recipe's whole schedule laid
over it."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from halting.errors import UsageError
from training.config.run_config import RunConfig
from training.config.warmups import with_warmups_scaled
from training.console.amounts import short_number

_FORM = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(s|updates?|flops)", re.IGNORECASE)


@dataclass(frozen=True)
class TrialBudget:
    """What each trial of a sweep may spend; a recipe's schedules are stretched or compressed over
    it, so that every trial has its whole warm-up and its whole decay.

    Args:
        amount: how much.
        unit: of training: seconds on the clock, updates, or floating-point operations by the steps
            that tokens took.
    """

    amount: float
    unit: Literal["s", "updates", "flops"]

    @classmethod
    def read(cls, text: str) -> Self:
        """From "30s", "2000updates" or "1e12flops".

        Raises:
            UsageError: for anything else, nothing, and part of an update.
        """
        found = _FORM.fullmatch(text.strip())
        amount = _number(found[1]) if found else None
        if found is None or amount is None or amount <= 0:
            raise UsageError(
                f"--trial-budget {text}.",
                "It is a number above 0 and its unit.",
                "Write --trial-budget 30s, --trial-budget 2000updates or --trial-budget 1e12flops.",
            )
        unit = found[2].lower()
        unit = "updates" if unit.startswith("update") else unit
        if unit == "updates" and amount != int(amount):
            raise UsageError(
                f"--trial-budget {text}.",
                "Updates are whole.",
                f"Write --trial-budget {max(1, round(amount))}updates.",
            )
        return cls(amount, unit)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return f"{self.amount:.10g}{self.unit}"

    def in_words(self) -> str:
        """800 updates, 30 s, 1T FLOPs."""
        if self.unit == "flops":
            return f"{short_number(self.amount)} FLOPs"
        return f"{self.amount:,.10g} {self.unit}"

    def apply(self, config: RunConfig) -> RunConfig:
        """The config of a trial: the same schedules over this budget instead of the config's own
        updates."""
        if self.unit == "s":
            return config.model_copy(
                update={"time_limit": self.amount, "flops_limit": None, "stretch_to": "limit"}
            )
        if self.unit == "flops":
            return config.model_copy(
                update={"time_limit": None, "flops_limit": self.amount, "stretch_to": "limit"}
            )
        config = with_warmups_scaled(config, self.amount / config.updates)
        return config.model_copy(
            update={
                "updates": int(self.amount),
                "time_limit": None,
                "flops_limit": None,
                "stretch_to": "updates",
            }
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
