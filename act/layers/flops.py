"""Matrix products of modules that are made of known layers."""

from torch import nn

from act.layers.attention import Attention


def module_flops(part: nn.Module, length: int = 0) -> int:
    """FLOPs of a part for a token that attends to `length` keys; without attention by default. A
    multiplication and its addition count as two.

    Linear maps and GRU cells: two for each weight. Attention: query · key and probability · value,
    for each key.
    """
    total = 0
    for module in part.modules():
        if isinstance(module, nn.Linear):
            total += 2 * module.weight.numel()
        elif isinstance(module, nn.GRUCell):
            total += 2 * (module.weight_ih.numel() + module.weight_hh.numel())
        elif isinstance(module, Attention):
            total += 4 * module.num_heads * module.head_dim * length
    return total
