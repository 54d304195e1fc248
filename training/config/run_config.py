"""A run: a typed, frozen record of numbers and names. Each field is a flag, and a key of the run's
config.json."""

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from halting.errors import UsageError
from training.config.best_metric import check_best_by
from training.config.flat_sections import (
    FLAT_SECTIONS,
    SECTION_OF,
    EvaluationConfig,
    LaunchConfig,
    LimitsConfig,
    SavingConfig,
    in_sections,
)
from training.config.model_part import ModelPart
from training.config.names import check_name
from training.config.parts import ROLES, check_options, resolve
from training.config.precision import Precision
from training.config.record import Record, usage_error
from training.config.sections import (
    HaltingPart,
    LoopConfig,
    OptimizerConfig,
    Part,
    PenaltyConfig,
)
from training.console.printable import check_printable
from training.console.text_file import parse_json
from training.ponder_penalty import check_penalty


class RunConfig(Record):
    """A whole run.

    The fields of `evaluation`, `saving`, `limits` and `launch` may also be given by their own
    names, as their flags are: `RunConfig(eval_every=100, …)`, `config.replace(eval_every=100)`.
    """

    recipe: str
    """where the run comes from: a recipe's name, or file.py:function"""
    name: str | None = Field(None, min_length=1)
    """the run folder's name; None: the recipe's name and a number"""
    output: str = "runs"
    """the folder that holds run folders"""
    updates: int = Field(1500, ge=1)
    """optimizer updates"""
    batch_size: int = Field(64, ge=1)
    """examples per update, over all ranks and accumulation steps"""
    accumulation: int = Field(1, ge=1)
    """backward passes per update; saves memory, changes nothing else"""
    balance_by: Literal["order", "length", "difficulty", "ponder"] = "order"
    """how the examples of an update are assigned to ranks and accumulation steps: in order, or so
    that each has about the same compute, as predicted from a sequence's length, from its tokens'
    difficulty, or from the steps that similar tokens took in the last updates (ponder)"""
    seed: int = Field(0, ge=0)
    """of the weights and the data"""
    precision: Precision = "float32"
    """what the model computes in: float32; bf16 or fp16 by autocast, the weights being float32
    (fp16 on GPUs alone, its loss scaled); or bf16_weights, under DeepSpeed. Halting arithmetic
    stays float32"""
    report_to: tuple[Literal["csv", "tensorboard", "wandb", "comet"], ...] = ()
    """monitors of DeepSpeed's that get all figures too; metrics.jsonl and TensorBoard's file are
    always written"""
    on_collapse: Literal["warn", "stop", "recover"] = "warn"
    """what is done when all tokens stop at one step: say so; stop, so that no more is spent; or go
    on from the last checkpoint before it with a third of the penalty and a lower halting bias, up
    to four times"""
    start_from: str | None = None
    """a run folder, or one of its checkpoints, whose weights are there before update 1; None: from
    scratch"""
    train_only: Literal["everything", "rule"] = "everything"
    """what learns: rule freezes all weights but the halting rule's"""
    deepspeed: dict[str, JsonValue] | None = None
    """what DeepSpeed gets of the file in launch.deepspeed_config beside the run's own values, as it
    was when the run began; None: the file is read"""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """when the model is evaluated"""
    saving: SavingConfig = Field(default_factory=SavingConfig)
    """when checkpoints are written"""
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """what ends a run early"""
    launch: LaunchConfig = Field(default_factory=LaunchConfig)
    """where it computes"""
    model: ModelPart = Field(default_factory=ModelPart)
    """the model, and the block that it loops"""
    loop: LoopConfig = Field(default_factory=LoopConfig)
    """how the block is looped"""
    halting: HaltingPart = Field(default_factory=lambda: HaltingPart(kind="GravesACT"))
    """the halting rule"""
    readout: Part | None = None
    """how the steps become an output; None: the rule's own"""
    cost: Part | None = None
    """the ponder cost; None: the rule's own"""
    data: Part
    """the task"""
    objective: Part = Field(default_factory=lambda: Part(kind="CrossEntropy"))
    """what is minimised beside the ponder cost"""
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """the optimizer"""
    schedule: Part = Field(default_factory=lambda: Part(kind="WarmupCosine"))
    """the learning rate over the run"""
    penalty: PenaltyConfig = Field(default_factory=PenaltyConfig)
    """what thinking costs"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_name(self.name)
        for flag, path in (
            ("--output", self.output),
            ("--start-from", self.start_from),
            ("--deepspeed-config", self.launch.deepspeed_config),
        ):
            if path is not None:
                check_printable(flag, path)
        if self.batch_size % self.accumulation:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be divided into --accumulation "
                f"{self.accumulation}.",
                "Each backward pass of an update takes an equal share of its examples.",
                "Write --batch-size "
                f"{-(-self.batch_size // self.accumulation) * self.accumulation}.",
            )
        if self.halting.min_steps > self.loop.max_steps:
            raise UsageError(
                f"--halting.min-steps {self.halting.min_steps} lies above --loop.max-steps "
                f"{self.loop.max_steps}.",
                "Every token leaves at max_steps at the latest, so the rule would never be asked.",
                f"Write --halting.min-steps {self.loop.max_steps} or less, or raise "
                "--loop.max-steps.",
            )
        limits = self.limits
        if (
            limits.stretch_to == "limit"
            and limits.time_limit is None
            and limits.flops_limit is None
        ):
            raise UsageError(
                "--stretch-to limit comes without a limit.",
                "Warm-ups and decays are stretched over --time-limit or --flops-limit, and there "
                "is neither.",
                "Write one of them, or drop --stretch-to.",
            )
        check_best_by(self.evaluation.best_by, self.evaluation.patience)
        check_penalty(
            self.penalty.target_steps,
            self.penalty.ramp,
            self.loop.max_steps,
            self.halting.fewest_steps(self.loop.max_steps),
            self.on_collapse,
        )
        for name, role in ROLES.items():
            part: Part | None = getattr(self, name)
            if isinstance(part, ModelPart):
                part.check()
            elif part is not None:
                check_options(resolve(part.kind, role.base), part.options)
        if self.readout is None and not hasattr(
            resolve(self.halting.kind, ROLES["halting"].base), "default_readout"
        ):
            raise UsageError(
                f"--halting.kind {self.halting.kind} names no readout.",
                "Without one, nothing says how the states of a token's steps become its output.",
                "Write `default_readout = FinalState` in its class, or --readout.kind FinalState.",
            )
        return self

    def named_code(self) -> list[str]:
        """The specs of recipe and parts that are not exported, "file.py:name" or "module:name"."""
        parts = [part for name in ROLES if (part := getattr(self, name)) is not None]
        named = (self.recipe, self.model.block, *(part.kind for part in parts))
        return [spec for spec in named if ":" in spec]

    @classmethod
    def arranged(cls, values: dict[str, Any]) -> dict[str, Any]:
        return in_sections(values)

    def replace(self, **changes: Any) -> Self:
        return super().replace(**in_sections(changes, dict(self)))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with values that are not checked again."""
        values = in_sections(update or {}, dict(self))
        made = {
            name: FLAT_SECTIONS[name].model_construct(**value)
            if name in FLAT_SECTIONS and isinstance(value, dict)
            else value
            for name, value in values.items()
        }
        return super().model_copy(update=made, deep=deep)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        return super().model_validate(in_sections(obj) if isinstance(obj, dict) else obj, **options)

    def to_json(self) -> str:
        """All values, as config.json keeps them."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, asked: str = "The config") -> Self:
        """The config that `to_json` wrote, or a person edited.

        Args:
            text: the JSON.
            asked: where it comes from, for messages.

        Raises:
            UsageError: for an unknown key, one that is there twice, a value of another type or out
                of range, NaN, and text that is not JSON.
        """
        found = parse_json(text, asked)
        if isinstance(found, dict) and found.keys() & SECTION_OF:
            found = in_sections(found)
        try:
            # Through JSON, so that strictness is JSON's.
            return cls.model_validate_json(json.dumps(found), strict=True)
        except ValidationError as error:
            raise usage_error(cls, error) from None
