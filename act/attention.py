"""Attention of packed query tokens over a key-value cache."""

from jaxtyping import Float
from torch import Tensor, nn

from act.attention_context import AttentionContext
from act.cache import KeyValueCache
from act.rotary import rotate
from act.slots import Slots


class Attention(nn.Module):
    """Multi-head, or grouped-query (Ainslie et al. 2023), attention through PyTorch's scaled_dot_product_attention.

    Args:
        dim: D.
        num_heads: H query heads; D must be divisible by it.
        num_kv_heads: key and value heads; H must be divisible by it.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int):
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, dim // num_heads
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "A D"], slots: Slots, cache: KeyValueCache, layer: int, context: AttentionContext
    ) -> tuple[Float[Tensor, "A D"], KeyValueCache]:
        """The attended values and the cache with this call's keys and values in it."""
        heads = self.qkv(x).unflatten(1, (self.num_heads + 2 * self.num_kv_heads, self.head_dim))
        queries, keys, values = heads.split((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1)
        if context.angles is not None:
            queries, keys = rotate(queries, context.angles), rotate(keys, context.angles)
        attended, cache = cache.attend(layer, queries, keys, values, slots, context)
        return self.out(attended.flatten(1)), cache
