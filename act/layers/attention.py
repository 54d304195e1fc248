"""The linear maps around attention. What stands between them is `act.caches.cache`."""

from jaxtyping import Float
from torch import Tensor, nn

from act.layers.rotary import rotate
from act.layers.saved_numbers import SavedNumbers


class Attention(nn.Module):
    """Multi-head, or grouped-query (Ainslie et al. 2023), attention through PyTorch's
    scaled_dot_product_attention.

    Args:
        dim: D.
        num_heads: H query heads; D must be divisible by it.
        num_kv_heads: key and value heads; H must be divisible by it.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def project(
        self, x: Float[Tensor, "A D"], angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "A H Dh"], Float[Tensor, "A Hkv Dh"], Float[Tensor, "A Hkv Dh"]]:
        """Queries, keys and values, turned by their positions' angles where there are any."""
        heads = self.qkv(x).unflatten(1, (self.num_heads + 2 * self.num_kv_heads, self.head_dim))
        queries, keys, values = heads.split(
            (self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1
        )
        if angles is not None:
            queries = rotate(queries, angles)
            keys = rotate(keys, angles)
        return queries, keys, values

    def merge(self, attended: Float[Tensor, "A H Dh"]) -> Float[Tensor, "A D"]:
        """What the heads have read, as one."""
        return self.out(attended.flatten(1))

    def saved_numbers(self, rotary: bool) -> SavedNumbers:
        """Queries, keys and values, as projected and as turned, and what comes out."""
        keys = self.num_kv_heads * self.head_dim
        width = self.out.in_features
        turned = width + keys if rotary else 0
        return SavedNumbers(narrow=(width + 2 * keys) + turned + width)
