"""What one loop step computes: a few Transformer layers over the active tokens."""

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from act.caches.cache import KeyValueCache
from act.context import ALL_FIELDS, NO_CONTEXT, LoopContext
from act.layers.attention import Attention, AttentionContext
from act.layers.compiled import run
from act.layers.feed_forward import FeedForward, FeedForwardKind, default_width
from act.layers.norm import NormKind, norm
from act.layers.step_signal import sinusoidal_step_signal
from act.slots import Slots
from halting.errors import UsageError

AttentionLayout = Literal["padded", "ragged"]


class BlockStep(NamedTuple):
    """What one step of a block gives.

    Args:
        entering: [A D], what was read.
        state: [A D], the states after it.
        cache: with this step's keys and values.
        aux_loss: [A], the block's auxiliary loss of each token, or None where it has none.
    """

    entering: Tensor
    state: Tensor
    cache: KeyValueCache
    aux_loss: Tensor | None = None


class LoopBlock(nn.Module):
    """The seam of a looped block: `enter` is what it reads, `forward` what it makes of it, `step`
    the two together.

    Attributes:
        packable: it computes any set of slots; otherwise it is given every position of the batch
            (the dense path).
        causal: tokens look at earlier positions only.
        collective: ranks do something together inside of it (experts that are split over them).
            Each then loops as long as any has a token, and a rank without one goes back through as
            many steps as the others.
        reads_context: the fields of a `LoopContext` that it goes by; any other is refused.
        aux_weight: what a unit of its auxiliary loss weighs in the training loss, where it has one.
    """

    packable: bool = True
    causal: bool = False
    collective: bool = False
    reads_context: tuple[str, ...] = ()
    aux_weight: float = 1.0

    def enter(
        self, x: Float[Tensor, "A D"], inputs: Float[Tensor, "A D"], slots: Slots
    ) -> Float[Tensor, "A D"]:
        """What this step reads: the state with the loop's inputs injected and the step signal
        added."""
        return x

    @abstractmethod
    def forward(
        self,
        entering: Float[Tensor, "A D"],
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache] | tuple[Tensor, KeyValueCache, Tensor]:
        """The states [A D] after the step, and the cache holding this step's keys and values. A
        block that has an auxiliary loss (a load balance of experts) hands it on beside them: [A],
        one number a token, with gradient. What it says of idle slots is dropped."""

    def step(
        self,
        state: Float[Tensor, "A D"],
        inputs: Float[Tensor, "A D"],
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> BlockStep:
        """One loop step."""
        entering = self.enter(state, inputs, slots)
        return BlockStep(entering, *self(entering, slots, cache, context))


class Layer(nn.Module):
    """A pre-norm Transformer layer: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Attributes:
        compiled: the parts before and after attention run compiled.
    """

    compiled: bool = False

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        kind: FeedForwardKind,
        width: int,
        norm_kind: NormKind,
    ):
        super().__init__()
        self.attention_norm = norm(norm_kind, dim)
        self.attention = Attention(dim, num_heads, num_kv_heads)
        self.feed_forward_norm = norm(norm_kind, dim)
        self.feed_forward = FeedForward(kind, dim, width)

    def forward(
        self, x: Tensor, slots: Slots, cache: KeyValueCache, layer: int, context: AttentionContext
    ) -> tuple[Tensor, KeyValueCache]:
        queries, keys, values = run(
            Layer.before_attention, self, x, context.angles, compiled=self.compiled
        )
        attended, cache = cache.attend(layer, queries, keys, values, slots, context)
        return run(Layer.after_attention, self, x, attended, compiled=self.compiled), cache

    def before_attention(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each token."""
        return self.attention.project(self.attention_norm(x), angles)

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer, for each token alone."""
        x = x + self.attention.merge(attended)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Block(LoopBlock):
    """A stack of pre-norm layers with input injection and a step signal. A dense training step, a
    packed training step and a decoding step are the same call.

    Args:
        dim: D.
        num_heads: H.
        num_kv_heads: key and value heads; None for H (multi-head), fewer for grouped-query
            attention.
        num_layers: distinct layers in the block.
        causal: tokens look at earlier positions only.
        rotary: turn queries and keys by their position.
        feed_forward: "swiglu" or "gelu".
        feed_forward_width: hidden width; None for the usual one of that kind.
        norm_kind: "rms" or "layer".
        injection: how the loop's inputs come in at each step: "concat" (a linear map of state and
            inputs side by side), "add", or "none".
        step_signal: "sinusoidal", or "none".
        rotary_base: base of the rotary wavelengths.
        attention: how packed queries attend: "padded" (a rectangle of the sequences, PyTorch's
            SDPA), or "ragged" (no padding: variable-length and block-mask kernels; only GPUs have
            them, so elsewhere it is padded).

    Raises:
        UsageError: for a width that the heads cannot share, query heads that the key heads cannot
            share, and rotary positions in heads of odd size.
    """

    reads_context = ("documents",)

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        num_layers: int = 1,
        causal: bool = False,
        rotary: bool = True,
        feed_forward: FeedForwardKind = "swiglu",
        feed_forward_width: int | None = None,
        norm_kind: NormKind = "rms",
        injection: Literal["concat", "add", "none"] = "none",
        step_signal: Literal["sinusoidal", "none"] = "none",
        rotary_base: float = 10_000.0,
        attention: AttentionLayout = "padded",
    ):
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        _check_heads(dim, num_heads, num_kv_heads, rotary)
        self.dim = dim
        self.causal = causal
        self.rotary_base = rotary_base
        self.rotary_dim = dim // num_heads if rotary else None
        self.injection = injection
        self.step_signal = step_signal
        self.attention = attention
        self.compiled = False
        width = feed_forward_width or default_width(feed_forward, dim)
        self.layers = nn.ModuleList(
            Layer(dim, num_heads, num_kv_heads, feed_forward, width, norm_kind)
            for _ in range(num_layers)
        )
        if injection == "concat":
            self.inject = nn.Linear(2 * dim, dim, bias=False)

    def compile_parts(self) -> None:
        """From now on, what works on each token alone runs through `torch.compile`: it needs a
        compiler, and some seconds at the first step; the parameters are the same, and so are the
        results up to rounding."""
        self.compiled = True
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.compiled = True

    def enter(self, x: Tensor, inputs: Tensor, slots: Slots) -> Tensor:
        x = slots.blank_idle(x)
        if self.injection == self.step_signal == "none":
            return x
        inputs = inputs if self.injection == "none" else slots.blank_idle(inputs)
        return run(Block.injected, self, x, inputs, slots.step, compiled=self.compiled)

    def injected(self, x: Tensor, inputs: Tensor, step: Tensor) -> Tensor:
        """What a step reads of each token."""
        if self.injection == "concat":
            # Under autocast a linear map answers in the narrow dtype; the stream of states keeps
            # its own.
            x = self.inject(torch.cat((x, inputs), dim=-1)).to(x.dtype)
        elif self.injection == "add":
            x = x + inputs
        if self.step_signal == "sinusoidal":
            x = x + sinusoidal_step_signal(step, self.dim, x.dtype)
        return x

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        x = slots.blank_idle(entering)
        attention = AttentionContext.of(
            x,
            slots,
            cache.visible,
            self.causal,
            self.rotary_dim,
            self.rotary_base,
            self.attention == "ragged",
            context.documents,
        )
        for number, layer in enumerate(self.layers):
            x, cache = layer(x, slots, cache, number, attention)
        return x, cache


def _check_heads(dim: int, num_heads: int, num_kv_heads: int, rotary: bool) -> None:
    if num_heads < 1 or dim % num_heads:
        raise UsageError(
            f"dim {dim} cannot be divided among num_heads={num_heads}.",
            "Each head gets an equal share of the width.",
            f"Write num_heads={_largest_divisor(dim, num_heads)}, or a width that is a multiple of "
            "the heads.",
        )
    if num_kv_heads < 1 or num_heads % num_kv_heads:
        raise UsageError(
            f"num_heads={num_heads} cannot be divided among num_kv_heads={num_kv_heads}.",
            "Each head of keys and values serves an equal number of query heads.",
            f"Write num_kv_heads={_largest_divisor(num_heads, num_kv_heads)}, or leave it out.",
        )
    if rotary and dim // num_heads % 2:
        raise UsageError(
            f"Rotary positions cannot turn heads of size {dim // num_heads} (dim {dim}, "
            f"num_heads={num_heads}).",
            "They rotate pairs of channels, so a head's size has to be even.",
            f"Write dim {dim + num_heads}, another number of heads, or rotary=False "
            '(positions="learned" or "none" in a LoopedTransformer).',
        )


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is no larger than the limit; 1 if there is none."""
    return max((each for each in range(1, min(number, limit) + 1) if number % each == 0), default=1)


class PlainBlock(LoopBlock):
    """Anybody's module from [B L D] to [B L D] as a looped block, on the dense path only: at each
    step it sees every position, those of halted tokens as their frozen states (as in the Universal
    Transformer paper), padding as zeros.

    Args:
        module: called as module(x); it must not mix sequences.
        causal: its output at a position depends on earlier positions only.
        positionwise: it does not mix positions at all, so padding cannot reach anybody.
        padding_argument: the keyword under which it takes a [B L] bool mask that is True on
            padding, such as "src_key_padding_mask".
        context_argument: the keyword under which it takes the run's `LoopContext`; it then reads
            whatever is given there.

    Raises:
        UsageError: in a batch with padding, for a module that is neither position-wise nor takes a
            mask.
    """

    packable = False

    def __init__(
        self,
        module: nn.Module,
        causal: bool = False,
        positionwise: bool = False,
        padding_argument: str | None = None,
        context_argument: str | None = None,
    ):
        super().__init__()
        self.module = module
        self.causal = causal
        self.positionwise = positionwise
        self.padding_argument = padding_argument
        self.context_argument = context_argument
        if context_argument is not None:
            self.reads_context = ALL_FIELDS
        elif positionwise:
            self.reads_context = ("documents",)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        x = entering.view(slots.batch, slots.length, -1)  # [B L D]
        given = {} if self.context_argument is None else {self.context_argument: context}
        if cache.visible is None or self.positionwise:
            return self.module(x, **given).flatten(0, 1), cache
        if self.padding_argument is None:
            raise UsageError(
                f"PlainBlock({type(self.module).__name__}) got a batch with padding.",
                "It would let real tokens look at padding, for it is given no mask.",
                "Name the module's mask, PlainBlock(module, "
                "padding_argument='src_key_padding_mask'), say that it mixes no positions, "
                "PlainBlock(module, positionwise=True), or pass sequences of one length.",
            )
        given = {**given, self.padding_argument: ~cache.visible}
        return self.module(x, **given).flatten(0, 1), cache
