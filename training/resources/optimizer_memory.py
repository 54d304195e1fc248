"""What an optimizer keeps of a model, counted by having it take a step."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from training.config.sections import OptimizerConfig
from training.engine.optimizer import build_groups, groups_of


def state_per_element(model: nn.Module, config: OptimizerConfig) -> float:
    """Bytes that the optimizer keeps for an element that learns, on average: 8 of AdamW, 4 of SGD
    with momentum. It steps once with each shape that occurs, without numbers where it asks for
    none.

    Args:
        model: its parameters may be on the meta device.
        config: the optimizer.
    """
    kept = elements = 0
    for group in groups_of(model, config):
        for shape, times in Counter(parameter.shape for parameter in group["params"]).items():
            elements += times * shape.numel()
            kept += times * _kept(group, shape, config)
    return kept / elements if elements else 0.0


def _kept(group: dict[str, Any], shape: torch.Size, config: OptimizerConfig) -> int:
    """Bytes that are kept of a parameter of this shape and group."""
    try:
        return _kept_on(torch.device("meta"), group, shape, config)
    except (NotImplementedError, RuntimeError):
        return _kept_on(torch.device("cpu"), group, shape, config)


def _kept_on(
    device: torch.device, group: dict[str, Any], shape: torch.Size, config: OptimizerConfig
) -> int:
    parameter = nn.Parameter(torch.zeros(shape, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = build_groups([{**group, "params": [parameter]}], config)
    optimizer.step()
    return sum(
        value.numel() * value.element_size()
        for value in optimizer.state[parameter].values()
        if isinstance(value, Tensor) and value.dim()
    )
