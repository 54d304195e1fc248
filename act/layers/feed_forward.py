"""The position-wise feed-forward network."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from act.layers.saved_numbers import SavedNumbers

FeedForwardKind = Literal["swiglu", "gelu"]


def default_width(kind: FeedForwardKind, dim: int) -> int:
    """Hidden width of equal parameter count: 4·D for GELU, 8/3·D rounded up to a multiple of 8 for
    SwiGLU."""
    return 4 * dim if kind == "gelu" else -(-8 * dim // 24) * 8


class FeedForward(nn.Module):
    """SwiGLU: W_out(silu(W_gate·x) ⊙ W_up·x) (Shazeer 2020), or GELU: W_out·gelu(W_up·x) with the
    exact GELU.

    Args:
        kind: "swiglu" or "gelu".
        dim: D.
        width: hidden width.
    """

    def __init__(self, kind: FeedForwardKind, dim: int, width: int):
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(dim, 2 * width if kind == "swiglu" else width, bias=kind == "gelu")
        self.down = nn.Linear(width, dim, bias=kind == "gelu")

    def forward(self, x: Float[Tensor, "A D"]) -> Float[Tensor, "A D"]:
        if self.kind == "gelu":
            return self.down(F.gelu(self.up(x)))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)

    def saved_numbers(self) -> SavedNumbers:
        """SwiGLU: gate, up, silu(gate) and the product. GELU: before and after."""
        return SavedNumbers(narrow=(4 if self.kind == "swiglu" else 2) * self.down.in_features)
