"""One Transformer layer of a block."""

from torch import Tensor, nn

from act.caches.cache import KeyValueCache
from act.layers.attention import Attention, AttentionContext
from act.layers.compiled import run
from act.layers.feed_forward import FeedForward, FeedForwardKind
from act.layers.norm import NormKind, StepNorm, norm
from act.layers.saved_numbers import SavedNumbers, saved_by_norm
from act.slots import Slots


class Layer(nn.Module):
    """A pre-norm Transformer layer: x + ε·attention(norm(x)), then x + ε·feed_forward(norm(x)),
    where ε is the residual scale, and the norms may be those of the step.

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
        qk_norm: bool,
        residual_scale: float = 1.0,
        norms_of_steps: bool = False,
    ):
        super().__init__()
        self.residual_scale = residual_scale
        make = StepNorm if norms_of_steps else norm
        self.attention_norm = make(norm_kind, dim)
        self.attention = Attention(dim, num_heads, num_kv_heads, qk_norm)
        self.feed_forward_norm = make(norm_kind, dim)
        self.feed_forward = FeedForward(kind, dim, width)

    def forward(
        self,
        x: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        layer: int,
        context: AttentionContext,
        *signal: Tensor,
    ) -> tuple[Tensor, KeyValueCache]:
        """The layer over the tokens of some slots; `signal` is what its norms know of their steps,
        where they know any."""
        queries, keys, values = run(
            Layer.before_attention, self, x, context.angles, *signal, compiled=self.compiled
        )
        attended, cache = cache.attend(layer, queries, keys, values, slots, context)
        x = run(Layer.after_attention, self, x, attended, *signal, compiled=self.compiled)
        return x, cache

    def before_attention(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, *signal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each token."""
        return self.attention.project(self.attention_norm(x, *signal), angles)

    def after_attention(self, x: Tensor, attended: Tensor, *signal: Tensor) -> Tensor:
        """The rest of the layer, for each token alone."""
        x = x + self._scaled(self.attention.merge(attended))
        return x + self._scaled(self.feed_forward(self.feed_forward_norm(x, *signal)))

    def _scaled(self, added: Tensor) -> Tensor:
        return added if self.residual_scale == 1.0 else self.residual_scale * added

    def saved_numbers(self, rotary: bool) -> SavedNumbers:
        """What autograd keeps of it, a token."""
        attending = saved_by_norm(self.attention_norm) + self.attention.saved_numbers(rotary)
        feeding = saved_by_norm(self.feed_forward_norm) + self.feed_forward.saved_numbers()
        return attending + feeding
