"""What one loop step computes: a few Transformer layers over the active tokens."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from act.blocks import naive
from act.blocks.layer import Layer
from act.blocks.naive import NaiveToken
from act.caches.cache import KeyValueCache
from act.context import NO_CONTEXT, LoopContext
from act.layers.attention import AttentionContext
from act.layers.compiled import run
from act.layers.feed_forward import FeedForward, FeedForwardKind, default_width
from act.layers.flops import module_flops
from act.layers.norm import NormKind, signal_of
from act.layers.saved_numbers import SavedNumbers
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
        batch_independent: it is known to keep the sequences of a batch apart, or was seen to; else
            the loop looks at its first batch.
        own_initialisation: its weights stay as its constructor left them; otherwise a
            `LoopedTransformer` draws its linear maps anew, with its own.
    """

    packable: bool = True
    causal: bool = False
    collective: bool = False
    reads_context: tuple[str, ...] = ()
    aux_weight: float = 1.0
    batch_independent: bool = False
    own_initialisation: bool = True

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

    def compile_parts(self) -> None:
        """From now on, what works on each token alone runs through `torch.compile`; a block that
        has nothing prepared for it runs as before."""

    def flops(self, length: int) -> int | None:
        """FLOPs of one step of one token that attends to `length` keys (0: all but attention),
        matrix products alone; None has them counted on a tiny run (`act.accounting.counted`)."""
        return None

    def flops_kept(self) -> int:
        """Of these, what checkpointed backprop need not compute again: a last linear map, whose
        result no gradient needs."""
        return 0

    def saved_numbers(self) -> SavedNumbers | None:
        """What autograd keeps of one step of one token; None has it counted on a tiny run."""
        return None

    def naive_step(
        self, tokens: Sequence[NaiveToken], active: Sequence[NaiveToken], step: int
    ) -> list[Float[Tensor, " D"]]:
        """The same step as an executable specification, one token at a time in float64, for tests:
        sets `entering` of each active token, and its keys and values.

        Args:
            tokens: all of a sequence, those that left with the keys and values they wrote last.
            active: those that take the step.
            step: its number, from 1.

        Returns:
            The states of the active tokens after it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no naive form")


MOST_LAYERS = 1000
"""Layers of a block, which are made one by one."""


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
        qk_norm: normalise queries and keys.
        residual_scale: ε, by which what a layer adds to the stream of states is multiplied. Loops
            of N steps of L layers are steadied by ε = λ / (N·√L) (arXiv 2606.18524).
        norm_conditioning: "step" gives the norms a gain and a shift of each loop step (`StepNorm`),
            "none" the same at all of them.

    Raises:
        UsageError: for a width that the heads cannot share, query heads that the key heads cannot
            share, rotary positions in heads of odd size, and a residual scale that is not above 0.
    """

    reads_context = ("documents",)
    batch_independent = True
    own_initialisation = False

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
        qk_norm: bool = False,
        residual_scale: float = 1.0,
        norm_conditioning: Literal["none", "step"] = "none",
    ):
        super().__init__()
        self.check_sizes(dim, num_heads, num_kv_heads, rotary)
        if not 0 <= num_layers <= MOST_LAYERS:
            raise UsageError(
                f"A block of {num_layers} layers.",
                f"It has from 0 to {MOST_LAYERS} of its own; looping it repeats them.",
                f"Write a number up to {MOST_LAYERS}.",
            )
        if not 0 < rotary_base < math.inf:
            raise UsageError(
                f"The base of rotary positions is {rotary_base}.",
                "Wavelengths are its powers.",
                "Write a number above 0, such as 10000.",
            )
        if not 0 < residual_scale < math.inf:
            raise UsageError(
                f"The residual scale is {residual_scale}.",
                "What each layer adds is multiplied by it; at 0 the layers would do nothing.",
                "Write a number above 0, such as 0.1, or 1 for a plain Transformer.",
            )
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.dim = dim
        self.causal = causal
        self.rotary_base = rotary_base
        self.rotary_dim = dim // num_heads if rotary else None
        self.injection = injection
        self.step_signal = step_signal
        self.norm_conditioning = norm_conditioning
        self.attention = attention
        self.compiled = False
        width = feed_forward_width or default_width(feed_forward, dim)
        self.layers = nn.ModuleList(
            Layer(
                dim,
                num_heads,
                num_kv_heads,
                feed_forward,
                width,
                norm_kind,
                qk_norm,
                residual_scale,
                norm_conditioning == "step",
            )
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
            context.segments,
        )
        signal = (signal_of(slots, x.dtype),) if self.norm_conditioning == "step" else ()
        for number, layer in enumerate(self.layers):
            x, cache = layer(x, slots, cache, number, attention, *signal)
        return x, cache

    @staticmethod
    def check_sizes(
        dim: int, num_heads: int, num_kv_heads: int | None = None, rotary: bool = True
    ) -> None:
        """Refuses sizes that cannot be, also before a block is made of them.

        Raises:
            UsageError: as the constructor.
        """
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if dim < 1 or num_heads < 1 or dim % num_heads:
            raise UsageError(
                f"dim {dim} cannot be divided among num_heads={num_heads}.",
                "Each head gets an equal share of the width.",
                f"Write num_heads={_largest_divisor(dim, num_heads)}, or a width that is a "
                "multiple of the heads.",
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

    def saved_numbers(self) -> SavedNumbers:
        """State and inputs side by side, then the layers."""
        total = SavedNumbers(narrow=2 * self.dim if self.injection == "concat" else 0)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            total = total + layer.saved_numbers(self.rotary_dim is not None)
        return total

    def flops(self, length: int) -> int:
        return module_flops(self, length)

    def flops_kept(self) -> int:
        last = [module for module in self.modules() if isinstance(module, FeedForward)][-1]
        return module_flops(last.down)

    def naive_step(
        self, tokens: Sequence[NaiveToken], active: Sequence[NaiveToken], step: int
    ) -> list[Tensor]:
        return naive.transformer_step(self, tokens, active, step)


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is no larger than the limit; 1 if there is none."""
    return max((each for each in range(1, min(number, limit) + 1) if number % each == 0), default=1)
