"""The sections of a run's config whose fields are flags without the section's name: evaluation,
saving, limits and launching."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from training.config.record import Record


class EvaluationConfig(Record):
    """When the model is evaluated, on how much, and what for."""

    eval_every: int = Field(250, ge=1)
    """updates between evaluations"""
    eval_examples: int = Field(256, ge=1)
    """validation examples in each"""
    test_examples: int = Field(1024, ge=1)
    """test examples at the end"""
    map_every: int = Field(2, ge=1)
    """evaluations between ponder maps"""
    best_by: str | None = None
    """what an evaluation is judged by: accuracy, sequence_accuracy, loss or bits; the checkpoint of
    the best one is kept, and read as RUN@best. None: nothing is judged"""
    patience: int | None = Field(None, ge=1)
    """evaluations without a better one by best_by after which the run ends early; None: it trains
    to its end"""


class SavingConfig(Record):
    """When checkpoints are written, and which are kept."""

    save_every: int = Field(500, ge=1)
    """updates between checkpoints"""
    keep_last: int = Field(2, ge=1)
    """checkpoints that are kept, the newest ones"""
    keep_every: int | None = Field(None, ge=1)
    """updates between checkpoints that are kept for good; None: none is"""


class LimitsConfig(Record):
    """What ends a run before its last update."""

    max_skipped: int = Field(10, ge=1)
    """updates in a row that may be skipped, because their loss or gradient is not finite, before
    the run stops"""
    time_limit: float | None = Field(None, gt=0)
    """seconds of training after which the run finishes early; None: no limit"""
    flops_limit: float | None = Field(None, gt=0)
    """floating-point operations of training, of all ranks, after which the run finishes early;
    None: no limit"""
    stretch_to: Literal["updates", "limit"] = "updates"
    """what warm-ups and decays of learning rate and penalty stretch over: updates; or limit, which
    stretches those of all updates over time_limit or flops_limit, and trains until it is met"""


class LaunchConfig(Record):
    """Where a run computes, how its ranks meet, and what it says meanwhile."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where; auto takes a GPU if there is one"""
    threads: int | None = Field(None, ge=1)
    """CPU threads; None: one for a small model, else torch's choice or OMP_NUM_THREADS. Small
    models gain nothing from several, and lose much on a busy machine"""
    timeout: float = Field(30.0, gt=0, le=1e6)
    """minutes that a rank waits for the others before it gives up"""
    lost_after: float = Field(20.0, gt=0, le=1e6)
    """seconds without a sign of life after which a rank on another machine counts as lost"""
    log_every: int | None = Field(None, ge=1)
    """updates between lines of figures on the screen; None: a line an evaluation, and a live one
    between them on a terminal"""
    quiet: bool = False
    """only warnings, and how it ended, on the screen"""
    deepspeed_config: str | None = None
    """JSON file with ZeRO, offload and communication settings; None: one process, plain PyTorch"""


FLAT_SECTIONS: dict[str, type[Record]] = {
    "evaluation": EvaluationConfig,
    "saving": SavingConfig,
    "limits": LimitsConfig,
    "launch": LaunchConfig,
}
SECTION_OF = {field: name for name, cls in FLAT_SECTIONS.items() for field in cls.model_fields}
"""The section of each field that is a flag by its own name."""


def in_sections(given: Mapping[str, Any], held: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Values by field, with those of flat sections put into their sections. What is given by its
    own name counts over what its section holds.

    Args:
        given: values of a RunConfig by name, `eval_every` beside `penalty`.
        held: the sections to put them into, where `given` has none.
    """
    found = {name: value for name, value in given.items() if name not in SECTION_OF}
    for name, value in given.items():
        section = SECTION_OF.get(name)
        if section is None:
            continue
        holder = found.get(section, (held or {}).get(section, {}))
        if isinstance(holder, Record | Mapping):
            found[section] = {**dict(holder), name: value}
    return found
