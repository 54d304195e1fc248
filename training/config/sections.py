"""The sections of a run's config: loop, parts, optimizer, penalty. (`model_part` has the model.)"""

import json
from typing import Any, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from halting.errors import UsageError
from training.config.importing import absolute
from training.config.record import Record
from training.ponder_penalty import read_target


class LoopConfig(Record):
    """How the block is looped."""

    group = "loop"
    max_steps: int = Field(10, ge=1)
    """N, the step limit: a token that has not halted leaves there"""
    path: Literal["auto", "packed", "dense"] = "auto"
    """packed computes active tokens only; dense, the definition, computes all with the same
    results; auto packs unless the batch is too small for it to pay"""
    attention: Literal["padded", "ragged"] = "padded"
    """how packed tokens attend: over a padded rectangle, or without padding by kernels that GPUs
    alone have"""
    compiled: bool = False
    """train through torch.compile what works on each token alone: some seconds at the start, faster
    steps after it"""
    backprop: Literal["full", "truncated", "one_step", "truncated_last", "checkpointed"] = "full"
    """how gradients go back through the steps"""
    truncate_every: int = Field(4, ge=1)
    """steps between two cuts of the gradient, for truncated backprop"""
    last_steps: int = Field(8, ge=1)
    """steps, counted from the last, that the gradient goes back through, for truncated_last
    backprop"""
    train_depth: Literal["fixed", "uniform", "lognormal_poisson"] = "fixed"
    """the step limit of an update: max_steps, or drawn anew for each update"""
    mean_depth: int | None = Field(None, ge=1)
    """where draws of lognormal_poisson are centred; None: half of max_steps, which cuts off what
    lies above"""
    depth_sigma: float = Field(0.5, ge=0, le=3)
    """how widely they spread, for lognormal_poisson: standard deviation of the logarithm"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mean_depth is not None and self.mean_depth > self.max_steps:
            raise UsageError(
                f"--loop.mean-depth {self.mean_depth} lies above --loop.max-steps "
                f"{self.max_steps}.",
                "Draws beyond max_steps are cut off there, so most would be cut off.",
                f"Write --loop.max-steps {2 * self.mean_depth}, or a smaller --loop.mean-depth.",
            )
        return self


class Part(Record):
    """A part that can be exchanged: its class and its options. The class checks the options when
    the config is made."""

    kind: str
    """an exported name such as GravesACT, module:Class or path/to/file.py:Class"""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """arguments of the class; those left out keep the class's defaults"""

    @field_validator("kind")
    @classmethod
    def _findable(cls, kind: str) -> str:
        return absolute(kind)

    @field_validator("options", mode="before")
    @classmethod
    def _plain(cls, options: Any) -> Any:
        try:  # tuples become lists here, so that a config equals itself read back
            return json.loads(json.dumps(options, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"The options {options!r} cannot be written as JSON: {error}.",
                "A run folder keeps them in config.json, so that the run can be started again.",
                "Write finite numbers, texts, booleans, None, and lists or dicts of these.",
            ) from None


class HaltingPart(Part):
    """Who leaves the loop when."""

    group = "halting"
    min_steps: int = Field(1, ge=1)
    """no token leaves before this step"""
    per_sequence: bool = False
    """the tokens of a sequence leave together"""
    one_ahead: bool = False
    """the decision after a step is made from the state before it, so a token takes one step more
    and a scheduler need not wait for the device"""

    def fewest_steps(self, max_steps: int) -> int:
        """The step before which no token leaves, under a step limit."""
        return min(max(self.min_steps, 2 if self.one_ahead else 1), max_steps)


class OptimizerConfig(Part):
    """The optimizer, and what the run hands to it."""

    group = "optimizer"
    kind: str = "AdamW"
    """an exported name such as Muon, module:Class or path/to/file.py:Class"""
    learning_rate: float = Field(3e-3, gt=0)
    """the peak"""
    weight_decay: float = Field(0.01, ge=0)
    """decay of the weight matrices; norms, biases, embeddings and the halting unit have none"""
    decay_embeddings: bool = False
    """embeddings decay as other matrices do"""
    clip: float = Field(1.0, gt=0)
    """the largest norm of the whole gradient"""


class PenaltyConfig(Record):
    """The ponder penalty: what one unit of ponder cost weighs in the loss."""

    group = "penalty"
    value: float | None = Field(None, ge=0)
    """the coefficient; 0 trains without a cost of thinking; None: what the cost weighs unless told
    otherwise"""
    warmup: int = Field(0, ge=0)
    """updates over which it rises linearly from 0; with a target, the update at which it is steered
    at the latest"""
    target_steps: str | None = None
    """the mean ponder to hold, in steps (4) or as a share of max_steps (40%): a controller adjusts
    the penalty, starting from value"""
    ramp: tuple[float, float] | None = None
    """after the warm-up the coefficient rises from the one to the other, and one run traces
    accuracy against compute"""

    @field_validator("target_steps", mode="before")
    @classmethod
    def _target(cls, given: Any) -> str | None:
        return None if given is None else read_target(given)
