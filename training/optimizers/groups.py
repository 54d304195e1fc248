"""Which parameters decay."""

from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_embeddings: bool = False
) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases), embeddings and the halting unit do not. What is
    frozen is in no group, and no group is empty.

    Args:
        model: whose parameters are grouped.
        weight_decay: of what decays.
        decay_embeddings: embeddings decay as other matrices do.
    """
    spared = {
        id(parameter) for name, parameter in model.named_parameters() if ".rule." in f".{name}"
    }
    if not decay_embeddings:
        embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        spared |= {id(module.weight) for module in embeddings}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decays = [
        parameter for parameter in trained if parameter.dim() >= 2 and id(parameter) not in spared
    ]
    chosen = {id(parameter) for parameter in decays}
    rest = [parameter for parameter in trained if id(parameter) not in chosen]
    groups = [
        {"params": decays, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
