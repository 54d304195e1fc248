"""A run: a typed, frozen record of numbers and names. Each field is a flag, and a key of the run's config.json."""

import json
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from halting.errors import UsageError
from training.config.parts import ROLES, absolute, check_options, did_you_mean, resolve
from training.config.precision import Precision
from training.ponder_penalty import check_penalty, read_target

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _RaisesUsageErrors(ModelMetaclass):
    """Making a record raises UsageError where pydantic would raise ValidationError. (A metaclass, because whatever
    pydantic's own hooks raise as a ValueError comes out wrapped in a ValidationError again.)"""

    if not TYPE_CHECKING:  # the signature that checkers and editors show is the one made from the fields

        def __call__(cls, *args, **values):
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise usage_error(cls, error) from None


class Record(BaseModel, metaclass=_RaisesUsageErrors):
    """A frozen record with known keys and finite numbers only.

    Attributes:
        group: the field of RunConfig that holds it, so that messages can name the flag.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    group: ClassVar[str] = ""


class ModelConfig(Record):
    """The shape of the looped Transformer."""

    group = "model"
    width: int = Field(64, ge=1)
    """D, width of the state"""
    num_heads: int = Field(4, ge=1)
    """attention heads"""
    num_kv_heads: int | None = Field(None, ge=1)
    """heads of keys and values (grouped-query attention); None: as many as there are heads"""
    num_layers: int = Field(1, ge=1)
    """distinct layers in the looped block"""
    prelude_layers: int = Field(0, ge=0)
    """layers before the loop, run once"""
    coda_layers: int = Field(0, ge=0)
    """layers after the loop, run once"""
    positions: Literal["rotary", "learned", "none"] = "rotary"
    """how the model knows positions"""
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    """kind of feed-forward network"""
    feed_forward_width: int | None = Field(None, ge=1)
    """hidden width; None: 4 × width for gelu, 8/3 × width rounded up to a multiple of 8 for swiglu"""
    norm: Literal["rms", "layer"] = "rms"
    """kind of normalisation"""
    injection: Literal["concat", "add", "none"] = "concat"
    """how each step sees the input again"""
    step_signal: Literal["sinusoidal", "none"] = "none"
    """what tells the block which step it is in"""
    tie_embeddings: bool = False
    """the output head shares the embedding's weight"""
    block: Literal["transformer", "gru"] = "transformer"
    """what is looped: Transformer layers, or one GRU cell, which mixes no positions"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.block == "gru" and (self.num_layers > 1 or self.step_signal != "none"):
            raise UsageError(
                f"--model.block gru comes with --model.num-layers {self.num_layers} and --model.step-signal "
                f"{self.step_signal}.",
                "The cell is a single one, and is not told which step it is in.",
                "Drop these two, or write --model.block transformer.",
            )
        if self.width % self.num_heads:
            raise UsageError(
                f"--model.width {self.width} cannot be divided into --model.num-heads {self.num_heads}.",
                "Each head gets an equal share of the width.",
                f"Write --model.width {-(-self.width // self.num_heads) * self.num_heads}, or another number of heads.",
            )
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise UsageError(
                f"--model.num-heads {self.num_heads} cannot be divided among --model.num-kv-heads {self.num_kv_heads}.",
                "Each head of keys and values serves an equal number of heads.",
                "Write a number of key-value heads that divides the number of heads, or None.",
            )
        if self.positions == "rotary" and self.width // self.num_heads % 2:
            raise UsageError(
                f"--model.positions rotary cannot turn heads of size {self.width // self.num_heads} "
                f"(--model.width {self.width}, --model.num-heads {self.num_heads}).",
                "Rotary positions rotate pairs of channels, so a head's size has to be even.",
                f"Write --model.width {self.width + self.num_heads}, or --model.positions learned.",
            )
        return self


class LoopConfig(Record):
    """How the block is looped."""

    group = "loop"
    max_steps: int = Field(10, ge=1)
    """N, the step limit: a token that has not halted leaves there"""
    path: Literal["auto", "packed", "dense"] = "auto"
    """packed computes active tokens only; dense, the definition, computes all with the same results; auto packs unless
    the batch is too small for it to pay"""
    attention: Literal["padded", "ragged"] = "padded"
    """how packed tokens attend: over a padded rectangle, or without padding by kernels that GPUs alone have"""
    compiled: bool = False
    """train through torch.compile what works on each token alone: some seconds at the start, faster steps after it"""
    backprop: Literal["full", "truncated", "one_step", "truncated_last", "checkpointed"] = "full"
    """how gradients go back through the steps"""
    truncate_every: int = Field(4, ge=1)
    """steps between two cuts of the gradient, for truncated backprop"""
    last_steps: int = Field(8, ge=1)
    """steps, counted from the last, that the gradient goes back through, for truncated_last backprop"""
    train_depth: Literal["fixed", "uniform", "lognormal_poisson"] = "fixed"
    """the step limit of an update: max_steps, or drawn anew for each update"""
    mean_depth: int | None = Field(None, ge=1)
    """where draws of lognormal_poisson are centred; None: half of max_steps, which cuts off what lies above"""
    depth_sigma: float = Field(0.5, ge=0, le=3)
    """how widely they spread, for lognormal_poisson: standard deviation of the logarithm"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mean_depth is not None and self.mean_depth > self.max_steps:
            raise UsageError(
                f"--loop.mean-depth {self.mean_depth} lies above --loop.max-steps {self.max_steps}.",
                "Draws beyond max_steps are cut off there, so most would be cut off.",
                f"Write --loop.max-steps {2 * self.mean_depth}, or a smaller --loop.mean-depth.",
            )
        return self


class Part(Record):
    """A part that can be exchanged: its class and its options. The class checks the options when the config is made."""

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


class OptimizerConfig(Record):
    """AdamW and its learning rate."""

    group = "optimizer"
    learning_rate: float = Field(3e-3, gt=0)
    """the peak"""
    weight_decay: float = Field(0.01, ge=0)
    """decay of the weight matrices"""
    beta1: float = Field(0.9, ge=0, lt=1)
    """memory of the gradient's mean"""
    beta2: float = Field(0.95, ge=0, lt=1)
    """memory of the gradient's square"""
    warmup: int = Field(100, ge=0)
    """updates over which the learning rate rises to its peak"""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """how it falls from there to the last update"""
    final_fraction: float = Field(0.1, ge=0, le=1)
    """where it ends, as a fraction of the peak"""
    clip: float = Field(1.0, gt=0)
    """the largest norm of the whole gradient"""


class PenaltyConfig(Record):
    """The ponder penalty: what one unit of ponder cost weighs in the loss."""

    group = "penalty"
    value: float | None = Field(None, ge=0)
    """the coefficient; 0 trains without a cost of thinking; None: what the cost weighs unless told otherwise"""
    warmup: int = Field(0, ge=0)
    """updates over which it rises linearly from 0; with a target, the update at which it is steered at the latest"""
    target_steps: str | None = None
    """the mean ponder to hold, in steps (4) or as a share of max_steps (40%): the penalty finds itself, from value"""
    ramp: tuple[float, float] | None = None
    """after the warm-up the coefficient rises from the one to the other, and one run traces accuracy against compute"""

    @field_validator("target_steps", mode="before")
    @classmethod
    def _target(cls, given: Any) -> str | None:
        return None if given is None else read_target(given)


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
    deal_by: Literal["order", "length", "difficulty", "ponder"] = "order"
    """how the examples of an update are dealt to ranks and accumulation steps: as they come, or so that all compute
    equally long by what a sequence's tokens, their difficulty, or tokens like them in the last updates let expect"""
    seed: int = Field(0, ge=0)
    """of the weights and the data"""
    precision: Precision = "float32"
    """what the model computes in: float32; bf16 or fp16 by autocast, the weights being float32 (fp16 on GPUs alone, its
    loss scaled); or bf16_weights, under DeepSpeed. Halting arithmetic stays float32"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where; auto takes a GPU if there is one"""
    report_to: tuple[Literal["csv", "tensorboard", "wandb", "comet"], ...] = ()
    """monitors of DeepSpeed's that get all figures too; metrics.jsonl and TensorBoard's file are always written"""
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
    max_skipped: int = Field(10, ge=1)
    """updates in a row that may be skipped, because their loss or gradient is not finite, before the run stops"""
    time_limit: float | None = Field(None, gt=0)
    """seconds of training after which the run finishes early; None: no limit"""
    flops_limit: float | None = Field(None, gt=0)
    """floating-point operations of training, of all ranks, after which the run finishes early; None: no limit"""
    schedule: Literal["updates", "limit"] = "updates"
    """what warm-ups and decays of learning rate and penalty go by: updates; or limit, which stretches those of all
    updates over time_limit or flops_limit, and trains until it is met"""
    threads: int | None = Field(None, ge=1)
    """CPU threads; None: torch's choice, one a core. Small models gain nothing from several, and lose much on a busy
    machine"""
    on_collapse: Literal["warn", "stop", "recover"] = "warn"
    """what is done when all tokens stop at one step: say so; stop, so that no more is spent; or go on from the last
    checkpoint before it with a third of the penalty and a lower halting bias, up to four times"""
    timeout: float = Field(30.0, gt=0)
    """minutes that a rank waits for the others before it gives up"""
    lost_after: float = Field(20.0, gt=0)
    """seconds without a sign of life after which a rank on another machine counts as lost"""
    start_from: str | None = None
    """a run folder, or one of its checkpoints, whose weights are there before update 1; None: from scratch"""
    train_only: Literal["everything", "rule"] = "everything"
    """what learns: rule freezes all weights but the halting rule's"""
    deepspeed_config: str | None = None
    """JSON file with ZeRO, offload and communication settings; None: one process, plain PyTorch"""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """the shape of the model"""
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
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """the optimizer"""
    penalty: PenaltyConfig = Field(default_factory=PenaltyConfig)
    """what thinking costs"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.accumulation:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be divided into --accumulation {self.accumulation}.",
                "Each backward pass of an update takes an equal share of its examples.",
                f"Write --batch-size {-(-self.batch_size // self.accumulation) * self.accumulation}.",
            )
        if self.halting.min_steps > self.loop.max_steps:
            raise UsageError(
                f"--halting.min-steps {self.halting.min_steps} lies above --loop.max-steps {self.loop.max_steps}.",
                "Every token leaves at max_steps at the latest, so the rule would never be asked.",
                f"Write --halting.min-steps {self.loop.max_steps} or less, or raise --loop.max-steps.",
            )
        if self.schedule == "limit" and self.time_limit is None and self.flops_limit is None:
            raise UsageError(
                "--schedule limit comes without a limit.",
                "Warm-ups and decays are stretched over --time-limit or --flops-limit, and there is neither.",
                "Write one of them, or drop --schedule.",
            )
        check_penalty(self.penalty, self.loop.max_steps, self.halting.min_steps, self.on_collapse)
        for name, role in ROLES.items():
            part: Part | None = getattr(self, name)
            if part is not None:
                check_options(resolve(part.kind, role.base), part.options)
        if self.readout is None and not hasattr(resolve(self.halting.kind, ROLES["halting"].base), "default_readout"):
            raise UsageError(
                f"--halting.rule {self.halting.kind} names no readout.",
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
            UsageError: for an unknown key, a value of another type or out of range, NaN, and text that is not JSON.
        """
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise usage_error(cls, error) from None


def flag_name(*path: str | int) -> str:
    """A field's flag: ("optimizer", "learning_rate") → --optimizer.learning-rate; a part's class has its own word."""
    words = [str(word) for word in path]
    if words[0] in ROLES and len(words) > 1:
        selector = [ROLES[words[0]].selector] if words[1] == "kind" else [words[1]]
        words = [words[0], *(words[2:] if words[1] == "options" else selector)]
    return "--" + ".".join(words).replace("_", "-")


def usage_error(cls: type[Record], error: ValidationError) -> UsageError:
    """The first of pydantic's complaints about a record, in three parts."""
    first = error.errors(include_url=False)[0]
    cause, path, value = first.get("ctx", {}).get("error"), first["loc"], first["input"]
    if isinstance(cause, UsageError):
        return cause
    if first["type"] == "json_invalid":
        return UsageError(f"The config is not JSON: {first['msg']}.", "It cannot be read at all.", "Mend that place.")
    holder, default = _holder(cls, path[:-1]), None
    if first["type"] == "extra_forbidden":
        keys = list(holder.model_fields)
        return UsageError(
            f"There is no key {'.'.join(map(str, path))} (value {value!r}).",
            f"{holder.__name__} has {', '.join(keys)}, and takes no others, so that a misspelt one is not passed over.",
            f"{did_you_mean(str(path[-1]), keys)}Write one of these, or drop it.",
        )
    if first["type"] == "missing":
        return UsageError(f"{holder.__name__} lacks {path[-1]}.", "It has no default.", "Add a value for it.")
    flag = flag_name(*([cls.group] if cls.group else []), *path)
    if path and path[-1] in holder.model_fields:
        default = holder.model_fields[str(path[-1])].get_default(call_default_factory=True, validated_data={})
    return UsageError(
        f"{flag} is {value!r}.",
        first["msg"].replace("Input should be", "It has to be") + ".",
        f"Write a value that fits, such as {flag} {default} (the default)."
        if default is not None
        else "Write a value that fits.",
    )


def _holder(cls: type[Record], path: tuple[str | int, ...]) -> type[Record]:
    """The record, within `cls`, that holds the last field of a path."""
    for word in path:
        field = cls.model_fields.get(str(word))
        kinds = (field.annotation, *typing.get_args(field.annotation)) if field else ()
        cls = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record)), cls)
    return cls
