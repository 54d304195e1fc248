"""A run: a typed, frozen record of numbers and names. Each field is a flag, and a key of the run's
config.json."""

from typing import Literal, Self

from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from halting.errors import UsageError
from training.config.best_metric import check_best_by
from training.config.model_part import ModelPart
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
from training.ponder_penalty import check_penalty


class RunConfig(Record):
    """A whole run."""

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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where; auto takes a GPU if there is one"""
    report_to: tuple[Literal["csv", "tensorboard", "wandb", "comet"], ...] = ()
    """monitors of DeepSpeed's that get all figures too; metrics.jsonl and TensorBoard's file are
    always written"""
    eval_every: int = Field(250, ge=1)
    """updates between evaluations"""
    eval_examples: int = Field(256, ge=1)
    """validation examples in each"""
    test_examples: int = Field(1024, ge=1)
    """test examples at the end"""
    map_every: int = Field(2, ge=1)
    """evaluations between ponder maps"""
    save_every: int = Field(500, ge=1)
    """updates between checkpoints"""
    keep_last: int = Field(2, ge=1)
    """checkpoints that are kept, the newest ones"""
    keep_every: int | None = Field(None, ge=1)
    """updates between checkpoints that are kept for good; None: none is"""
    best_by: str | None = None
    """what an evaluation is judged by: accuracy, sequence_accuracy, loss or bits; the checkpoint of
    the best one is kept, and read as RUN@best. None: nothing is judged"""
    patience: int | None = Field(None, ge=1)
    """evaluations without a better one by best_by after which the run ends early; None: it trains
    to its end"""
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
    threads: int | None = Field(None, ge=1)
    """CPU threads; None: torch's choice, one a core. Small models gain nothing from several, and
    lose much on a busy machine"""
    on_collapse: Literal["warn", "stop", "recover"] = "warn"
    """what is done when all tokens stop at one step: say so; stop, so that no more is spent; or go
    on from the last checkpoint before it with a third of the penalty and a lower halting bias, up
    to four times"""
    timeout: float = Field(30.0, gt=0)
    """minutes that a rank waits for the others before it gives up"""
    lost_after: float = Field(20.0, gt=0)
    """seconds without a sign of life after which a rank on another machine counts as lost"""
    start_from: str | None = None
    """a run folder, or one of its checkpoints, whose weights are there before update 1; None: from
    scratch"""
    train_only: Literal["everything", "rule"] = "everything"
    """what learns: rule freezes all weights but the halting rule's"""
    deepspeed_config: str | None = None
    """JSON file with ZeRO, offload and communication settings; None: one process, plain PyTorch"""
    deepspeed: dict[str, JsonValue] | None = None
    """what DeepSpeed gets of that file beside the run's own values, as it was when the run began;
    None: the file is read"""
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
        if self.stretch_to == "limit" and self.time_limit is None and self.flops_limit is None:
            raise UsageError(
                "--stretch-to limit comes without a limit.",
                "Warm-ups and decays are stretched over --time-limit or --flops-limit, and there "
                "is neither.",
                "Write one of them, or drop --stretch-to.",
            )
        check_best_by(self.best_by, self.patience)
        check_penalty(
            self.penalty.target_steps,
            self.penalty.ramp,
            self.loop.max_steps,
            self.halting.min_steps,
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

    def to_json(self) -> str:
        """All values, as config.json keeps them."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The config that `to_json` wrote, or a person edited.

        Raises:
            UsageError: for an unknown key, a value of another type or out of range, NaN, and text
                that is not JSON.
        """
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise usage_error(cls, error) from None
