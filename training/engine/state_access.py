"""How an engine holds its parameters and what the optimizer keeps of them: one by one, whole,
wherever their shards are."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from training.engine.optimizer_entries import decoded, encoded
from training.engine.tensor_file import TensorShape

Shapes = dict[str, TensorShape]
"""What an optimizer keeps of a parameter: its shape by its name (`entries.encoded`)."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """What values of a dtype are kept as: numbers with a point are float32 or wider."""
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


class StateAccess(ABC):
    """Reads and writes the state of one parameter at a time; all are called by all ranks, in the
    same order.

    Args:
        optimizer: torch's, as the engine steps it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    @abstractmethod
    def weight(self, tensor: Tensor) -> Tensor:
        """A parameter's or buffer's values, exact and whole; of narrow weights the float32 ones
        that are trained."""

    @abstractmethod
    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        """Gives a parameter or buffer its values."""

    @abstractmethod
    def entries(self, parameter: nn.Parameter) -> Shapes:
        """What the optimizer keeps of a parameter, whole; empty before its first step."""

    @abstractmethod
    def entry(self, parameter: nn.Parameter, name: str) -> Tensor:
        """One of these, whole."""

    @abstractmethod
    def begin(self, shapes: dict[nn.Parameter, Shapes]) -> None:
        """Has the optimizer keep this of each parameter, and nothing else, for `set_entry` to fill;
        a parameter of which it keeps nothing stands before its first step."""

    @abstractmethod
    def set_entry(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        """Gives one of these its values."""


def own_elements(parameter: Any, rank: int) -> Tensor:
    """What this rank holds of a parameter outside of forward and backward: all of it, or its share
    under ZeRO-3 without the padding at its end, which is memory that nobody wrote to."""
    share = getattr(parameter, "ds_tensor", None)
    if share is None:
        return parameter.detach()
    return share.detach()[: max(0, parameter.ds_numel - rank * share.numel())]


class WholeStateAccess(StateAccess):
    """Every rank holds all, as torch does: `LocalEngine`, and DeepSpeed at stage 0, where its
    accessors say None."""

    def weight(self, tensor: Tensor) -> Tensor:
        return tensor.detach()

    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        tensor.detach().copy_(values)

    def entries(self, parameter: nn.Parameter) -> Shapes:
        return {
            name: TensorShape(tuple(values.shape), values.dtype)
            for name, values in encoded(self.optimizer.state.get(parameter, {})).items()
        }

    def entry(self, parameter: nn.Parameter, name: str) -> Tensor:
        return encoded(self.optimizer.state[parameter])[name]

    def begin(self, shapes: dict[nn.Parameter, Shapes]) -> None:
        for parameter in shapes:
            self.optimizer.state.pop(parameter, None)

    def set_entry(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        key, value = decoded(name, values)
        if isinstance(value, Tensor):
            value = value.to(_place(self.optimizer, parameter, key))
        self.optimizer.state[parameter][key] = value


def _place(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, key: str) -> torch.device:
    """Where torch keeps an entry: with its parameter; the count of steps on the CPU, unless a
    kernel reads it."""
    if key != "step":
        return parameter.device
    group = next(
        group
        for group in optimizer.param_groups
        if any(each is parameter for each in group["params"])
    )
    on_device = group.get("capturable", False) or group.get("fused", False)
    return parameter.device if on_device else torch.device("cpu")


class FlatStateAccess(StateAccess):
    """ZeRO 1 to 3: the optimizer sees flat partitions of many parameters, and keeps numbers like
    its count of steps for a partition.

    As all of them step together, there is one for all. Numbers that differ, as the counts of
    `LocalEngine` may for a parameter that some updates gave no gradient at all, become the largest.

    Args:
        optimizer: torch's, elementwise.
        flat: this rank's float32 partitions.
        groups: the parameters that each is cut from.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        flat: list[Tensor],
        groups: list[list[nn.Parameter]],
    ):
        super().__init__(optimizer)
        self.flat = flat
        self.groups = groups
        self._partition = {
            id(parameter): partition
            for partition, parameters in zip(flat, groups, strict=True)
            for parameter in parameters
        }

    def entries(self, parameter: nn.Parameter) -> Shapes:
        partition = self._partition[id(parameter)]
        whole = tuple(getattr(parameter, "ds_shape", parameter.shape))
        return {
            name: TensorShape(whole)
            if values.shape == partition.shape
            else TensorShape((), values.dtype)
            for name, values in encoded(self.optimizer.state.get(partition, {})).items()
        }

    def entry(self, parameter: nn.Parameter, name: str) -> Tensor:
        partition = self._partition[id(parameter)]
        values = encoded(self.optimizer.state[partition])[name]
        return self._gather(parameter, name) if values.shape == partition.shape else values

    def begin(self, shapes: dict[nn.Parameter, Shapes]) -> None:
        for partition, parameters in zip(self.flat, self.groups, strict=True):
            self.optimizer.state.pop(partition, None)
            known = [shapes[parameter] for parameter in parameters if parameter in shapes]
            each = {name for found in known for name, about in found.items() if about.shape}
            if any(known):
                self.optimizer.state[partition].update(
                    {
                        name: torch.zeros_like(partition, requires_grad=False)
                        for name in sorted(each)
                    }
                )

    def set_entry(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        state = self.optimizer.state[self._partition[id(parameter)]]
        if name in state and state[name].dim():
            self._scatter(parameter, name, values)
            return
        key, value = decoded(name, values.cpu())
        before = state.get(key)
        if isinstance(value, Tensor):
            state[key] = value if before is None else torch.maximum(before, value)
        else:
            state[key] = value if before is None else max(before, value)

    @abstractmethod
    def _gather(self, parameter: nn.Parameter, name: str) -> Tensor:
        """An entry with a number for each of the parameter's, whole."""

    @abstractmethod
    def _scatter(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        """Gives it its values."""


class ZeroStage12Access(FlatStateAccess):
    """Stages 1 and 2: weights are whole on every rank, what the optimizer works on is cut anywhere.

    Args:
        optimizer: torch's, elementwise.
        zero: DeepSpeed's optimizer around it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, zero: Any):
        super().__init__(optimizer, zero.single_partition_of_fp32_groups, zero.bit16_groups)
        self._link()

    def begin(self, shapes: dict[nn.Parameter, Shapes]) -> None:
        super().begin(shapes)
        self._link()

    def _link(self) -> None:
        """Has DeepSpeed's accessors look at what is there now; they fail before the first step, and
        after a load they look at what was there before it."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        for group, partition in zip(self.groups, self.flat, strict=True):
            lazy_init_hp_params_optimizer_state(group, partition, self.optimizer.state)

    def weight(self, tensor: Tensor) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        if tensor.dtype == wide(tensor.dtype):
            return tensor.detach()  # the same as what the optimizer works on
        trained = safe_get_full_fp32_param(tensor)
        return tensor.detach().to(wide(tensor.dtype)) if trained is None else trained

    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param

        tensor.detach().copy_(values)
        safe_set_full_fp32_param(
            tensor, values
        )  # the copy that the optimizer works on; a frozen one has none

    def _gather(self, parameter: nn.Parameter, name: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        whole = safe_get_full_optimizer_state(parameter, name)
        assert whole is not None
        return whole

    def _scatter(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        safe_set_full_optimizer_state(parameter, values, name)


class ZeroStage3Access(FlatStateAccess):
    """Stage 3: each rank holds an equal share of each parameter, padded at the end.

    Args:
        optimizer: torch's, elementwise.
        zero: DeepSpeed's optimizer around it.
        rank: of this process.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, zero: Any, rank: int):
        super().__init__(optimizer, zero.fp32_partitioned_groups_flat, zero.fp16_groups)
        self.rank = rank

    def weight(self, tensor: Tensor) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        if not hasattr(tensor, "ds_id"):
            return tensor.detach()  # a buffer
        trained = safe_get_full_fp32_param(tensor)
        return trained if trained is not None else _gathered(tensor)

    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        import deepspeed
        from deepspeed.utils import safe_set_local_fp32_param

        with deepspeed.zero.GatheredParameters(
            [tensor], modifier_rank=0, enabled=hasattr(tensor, "ds_id")
        ):
            tensor.detach().copy_(values)
        if hasattr(tensor, "ds_id"):
            safe_set_local_fp32_param(tensor, self._share(tensor, values))

    def _gather(self, parameter: nn.Parameter, name: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        whole = safe_get_full_optimizer_state(parameter, name)
        assert whole is not None
        return whole

    def _scatter(self, parameter: nn.Parameter, name: str, values: Tensor) -> None:
        from deepspeed.utils import safe_set_local_optimizer_state

        safe_set_local_optimizer_state(parameter, self._share(parameter, values), name)

    def _share(self, parameter: Any, values: Tensor) -> Tensor:
        """This rank's share, padded. (`safe_set_full_…` fail where a parameter is no multiple of
        the ranks.)"""
        size = parameter.ds_tensor.numel()
        share = values.new_zeros(size)
        mine = values.reshape(-1)[self.rank * size : (self.rank + 1) * size]
        share[: mine.numel()] = mine
        return share


def _gathered(parameter: Any) -> Tensor:
    """A frozen parameter, whole and exact. (`GatheredParameters` may send it in the precision of
    autocast.)"""
    from torch import distributed as dist

    share = parameter.ds_tensor.detach().to(parameter.device)
    whole = share.new_empty(dist.get_world_size() * share.numel())
    dist.all_gather_into_tensor(whole, share)
    return whole[: parameter.ds_numel].view(parameter.ds_shape).to(wide(share.dtype))
