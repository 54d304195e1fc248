"""What layers keep for their gradients."""

from dataclasses import dataclass

from torch import nn

from act.layers.norm import StepNorm

_FLOAT = 4
_HALF = 2


@dataclass(frozen=True)
class SavedNumbers:
    """Numbers a token that autograd keeps: those that stay float32 under autocast, and those that
    become bfloat16."""

    wide: int = 0
    narrow: int = 0

    def __add__(self, other: "SavedNumbers") -> "SavedNumbers":
        return SavedNumbers(self.wide + other.wide, self.narrow + other.narrow)

    def times(self, number: int) -> "SavedNumbers":
        """The same so many times."""
        return SavedNumbers(self.wide * number, self.narrow * number)

    def bytes(self, bf16: bool) -> int:
        """Bytes a token, under bfloat16 autocast or without."""
        return _FLOAT * self.wide + (_HALF if bf16 else _FLOAT) * self.narrow


def saved_by_norm(module: nn.Module) -> SavedNumbers:
    """Its input, what it makes of it, and for RMSNorm the input over its root mean square, before
    the weight; of one that a step conditions, what comes before the gain too."""
    if isinstance(module, StepNorm):
        return saved_by_norm(module.norm) + SavedNumbers(wide=module.dim)
    [dim] = module.normalized_shape if isinstance(module, nn.RMSNorm | nn.LayerNorm) else (0,)
    return SavedNumbers(wide=(2 if isinstance(module, nn.RMSNorm) else 1) * dim, narrow=dim)
