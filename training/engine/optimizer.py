"""From a config's optimizer to torch's."""

import inspect
from typing import Any

import torch
from torch import nn

from halting.errors import UsageError
from training.config.parts import build, resolve
from training.config.sections import OptimizerConfig
from training.engine.cpu_adam_kernel import load_kernel
from training.optimizers.cpu_adam import CPUAdam
from training.optimizers.groups import parameter_groups


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of a run.

    Args:
        model: what it trains.
        config: its kind and numbers.
    """
    optimizer = build_groups(groups_of(model, config), config)
    if isinstance(optimizer, CPUAdam):
        optimizer.kernel = load_kernel()
    return optimizer


def groups_of(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The parameter groups that the optimizer gets: the house's own, or what its class makes of
    them in a static method `parameter_groups(model, groups)`. A group's `lr_scale` multiplies the
    learning rate."""
    groups = parameter_groups(model, config.weight_decay, config.decay_embeddings)
    own = getattr(resolve(config.kind, torch.optim.Optimizer), "parameter_groups", None)
    return groups if own is None else own(model, groups)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Gives each group the update's learning rate, times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def is_elementwise(config: OptimizerConfig) -> bool:
    """Whether the optimizer treats each number by itself, so that it may see any cut of the
    parameters; its class says so by `elementwise = True`."""
    return getattr(resolve(config.kind, torch.optim.Optimizer), "elementwise", False)


def check_optimizer(config: OptimizerConfig) -> None:
    """Builds it once over a parameter of its own.

    Raises:
        UsageError: for a number that the optimizer cannot take.
    """
    try:
        build_groups([{"params": [nn.Parameter(torch.zeros(2, 2))]}], config)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        told = ", ".join(f"{name} {value!r}" for name, value in config.options.items())
        raise UsageError(
            f"--optimizer.kind {config.kind} cannot be built with {told or 'its defaults'}.",
            f"It says: {error}.",
            "Write numbers that it takes.",
        ) from None


def check_sharding(config: OptimizerConfig, stage: int, ds_config: str | None) -> None:
    """Refuses an optimizer that needs whole parameters where a rank holds flat shares of them.

    Args:
        config: the optimizer.
        stage: of ZeRO.
        ds_config: the file that says so.

    Raises:
        UsageError: for such a pair.
    """
    if stage > 0 and not is_elementwise(config):
        raise UsageError(
            f"--optimizer.kind {config.kind} comes with ZeRO-{stage} ({ds_config}).",
            f"From stage 1 on, a rank's optimizer sees flat shares of many parameters, and "
            f"{config.kind.rpartition(':')[2]} needs each one whole.",
            "Write --deepspeed-config ds_configs/zero0.json, or --optimizer.kind AdamW; where it "
            "is a class of your own that treats each number by itself, write elementwise = True in "
            "it.",
        )


def check_machine(
    config: OptimizerConfig, device: torch.device, deepspeed: dict[str, Any] | None
) -> None:
    """Refuses an optimizer that cannot run here: one for the CPU where what it updates lies on a
    GPU, or whose kernel does not compile.

    Args:
        config: the optimizer.
        device: where the model is trained.
        deepspeed: the settings of DeepSpeed; None for one process of plain PyTorch.

    Raises:
        UsageError: for CPUAdam in one of these cases.
    """
    if not issubclass(resolve(config.kind, torch.optim.Optimizer), CPUAdam):
        return
    zero = (deepspeed or {}).get("zero_optimization", {})
    offloaded = (zero.get("offload_optimizer") or {}).get("device") == "cpu"
    if device.type != "cpu" and not offloaded:
        raise UsageError(
            f"--optimizer.kind {config.kind} on a {device.type} device, without offload.",
            "It updates weights that lie on the CPU, and without offload they do not.",
            "Write --deepspeed-config ds_configs/zero2_offload.json, or --optimizer.kind AdamW.",
        )
    load_kernel()


def build_groups(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of these parameter groups.

    Raises:
        UsageError: for a class that does not take what a run hands over.
    """
    cls = resolve(config.kind, torch.optim.Optimizer)
    for name in ("params", "lr", "weight_decay"):
        if name not in inspect.signature(cls).parameters:
            raise UsageError(
                f"--optimizer.kind {config.kind} has no argument {name}.",
                "A run hands parameter groups, learning rate and weight decay over.",
                f"Give its __init__ an argument {name}.",
            )
    return build(
        config,
        torch.optim.Optimizer,
        params=groups,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
