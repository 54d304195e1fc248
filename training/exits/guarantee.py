"""A guarantee: an exit whose loss of quality is bounded with a stated confidence, kept beside the
weights it is of."""

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from halting.errors import UsageError
from training.console.output_files import write_text
from training.exits.quality_loss import IN_WORDS, QualityLoss

DEFAULT = "guarantee"
CALIBRATED = "calibrated"
"""The exit that stands for the one of a guarantee."""


class TestedExit(BaseModel):
    """An exit that was tested, and what it lost and computed on the calibration sequences."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    __test__ = False  # no test of pytest's
    exit: str
    risk: float
    p_value: float
    holds: bool
    mean_steps: float
    flops_per_token: float
    order: int = 1
    """the number of the order of tests that it stood in, over all exits"""


class Guarantee(BaseModel):
    """With probability `confidence` over the calibration sequences, the expected loss of quality of
    a new sequence of the same kind under `exit`, against full depth, is at most `risk`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = 1
    exit: str
    """as `ponder eval --exit` takes it; fixed:N, full depth, where nothing cheaper could be shown
    to be safe"""
    found: bool
    """whether anything cheaper than full depth was"""
    risk: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    loss: QualityLoss
    """what a sequence can lose"""
    full_depth: int
    """N, the depth that it is compared with"""
    full_flops_per_token: float
    sequences: int
    """how many were tested on: those that have a target"""
    split: str
    first_example: int
    num_examples: int
    data: dict[str, Any]
    """the task and its options"""
    data_fingerprint: str
    """sha256 of the calibration sequences, what is read and asked"""
    weights_fingerprint: str
    """sha256 of the weights file"""
    among: list[str]
    """the exits that were tried; the chance of an error is divided among them"""
    tested: list[TestedExit]
    """in order, exit after exit"""
    method: str = "Learn-then-Test: Hoeffding-Bentkus p-values, fixed-sequence testing"
    date: str = Field(default_factory=lambda: date.today().isoformat())

    @property
    def chosen(self) -> TestedExit | None:
        """What was found of the exit; None at full depth."""
        return (
            next((each for each in self.tested if each.exit == self.exit), None)
            if self.found
            else None
        )

    def in_words(self) -> str:
        """What is guaranteed, in a sentence."""
        if not self.found:
            return (
                "Nothing cheaper than full depth could be shown to keep the risk below "
                f"{self.risk:g} with confidence {self.confidence:g}: all tokens take "
                f"{self.full_depth} steps."
            )
        return (
            f"With confidence {self.confidence:g}, the expected {IN_WORDS[self.loss]} "
            f"({self.full_depth} steps) is at most {self.risk:g}, for sequences drawn as those of "
            "the calibration were."
        )


def place(weights: Path, name: str = DEFAULT) -> Path:
    """The file of a guarantee, beside the weights."""
    return weights.parent / f"{name}.json"


def fingerprint(weights: Path) -> str:
    """A digest of a weights file."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(guarantee: Guarantee, weights: Path, name: str = DEFAULT) -> Path:
    """Writes it down; gives the file. Whoever calls it has refused a file that is there already."""
    path = place(weights, name)
    write_text(path, guarantee.model_dump_json(indent=2) + "\n")
    return path


def read_guarantee(weights: Path, name: str = DEFAULT) -> Guarantee | None:
    """The guarantee beside a weights file; None where there is none.

    Raises:
        UsageError: for a file that is damaged, and for one that is of other weights.
    """
    path = place(weights, name)
    if not path.is_file():
        return None
    try:
        found = Guarantee.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no guarantee: {str(error).splitlines()[0]}.",
            "It is damaged, or was written by another version.",
            "Remove it, and calibrate again: ponder calibrate RUN",
        ) from None
    if found.weights_fingerprint != fingerprint(weights):
        raise UsageError(
            f"{path} is of other weights than {weights.name} beside it.",
            "The model was trained on since; what was shown of the one says nothing about the "
            "other.",
            "Remove it, and calibrate again: ponder calibrate RUN",
        )
    return found
