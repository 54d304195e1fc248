"""How an engine holds its parameters and Adam's moments: one by one, whole, wherever their shards
are."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter, beside the count of its steps."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """What values of a dtype are kept as: numbers with a point are float32 or wider."""
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


class StateAccess(ABC):
    """Reads and writes the state of one parameter at a time; all are called by all ranks, in the
    same order.

    Args:
        optimizer: torch's AdamW, as the engine steps it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    @abstractmethod
    def prepare(self) -> None:
        """Has moments be there, zeros where no step was taken yet; comes before what follows."""

    @abstractmethod
    def weight(self, tensor: Tensor) -> Tensor:
        """A parameter's or buffer's values, exact and whole; of narrow weights the float32 ones
        that are trained."""

    @abstractmethod
    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        """Gives a parameter or buffer its values."""

    @abstractmethod
    def moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        """One of MOMENTS, whole."""

    @abstractmethod
    def set_moment(self, parameter: nn.Parameter, key: str, values: Tensor) -> None:
        """Gives one of MOMENTS its values."""

    @abstractmethod
    def steps(self, parameter: nn.Parameter) -> Tensor:
        """How many steps AdamW has taken with it, for the correction of its bias: one number."""

    @abstractmethod
    def set_steps(self, steps: dict[nn.Parameter, Tensor]) -> None:
        """Gives each parameter its count."""


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

    def prepare(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                _begin(self.optimizer.state[parameter], parameter)

    def weight(self, tensor: Tensor) -> Tensor:
        return tensor.detach()

    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        tensor.detach().copy_(values)

    def moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        return self.optimizer.state[parameter][key]

    def set_moment(self, parameter: nn.Parameter, key: str, values: Tensor) -> None:
        self.optimizer.state[parameter][key].copy_(values)

    def steps(self, parameter: nn.Parameter) -> Tensor:
        return self.optimizer.state[parameter]["step"]

    def set_steps(self, steps: dict[nn.Parameter, Tensor]) -> None:
        for parameter, count in steps.items():
            self.optimizer.state[parameter]["step"].copy_(count)


def _begin(state: dict[str, Any], parameter: Tensor) -> None:
    """AdamW's state before the first step: with it, a step does what it does without."""
    if not state:
        state["step"] = torch.tensor(0.0)
        state.update({key: torch.zeros_like(parameter, requires_grad=False) for key in MOMENTS})


class FlatStateAccess(StateAccess):
    """ZeRO 1 to 3: AdamW sees flat partitions of many parameters, one count of steps each.

    As all of them step together, there is one count for all. Counts that differ, as those of
    `LocalEngine` may for a parameter that some updates gave no gradient at all, become the largest.

    Args:
        optimizer: torch's AdamW.
        flat: this rank's float32 partitions.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, flat: list[Tensor]):
        super().__init__(optimizer)
        self.flat = flat

    def prepare(self) -> None:
        for partition in self.flat:
            _begin(self.optimizer.state[partition], partition)

    def steps(self, parameter: nn.Parameter) -> Tensor:
        return self.optimizer.state[self.flat[0]]["step"]

    def set_steps(self, steps: dict[nn.Parameter, Tensor]) -> None:
        for partition in self.flat:
            self.optimizer.state[partition]["step"].copy_(torch.stack(list(steps.values())).max())


class ZeroStage12Access(FlatStateAccess):
    """Stages 1 and 2: weights are whole on every rank, what AdamW works on is cut anywhere.

    Args:
        optimizer: torch's AdamW.
        zero: DeepSpeed's optimizer around it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, zero: Any):
        super().__init__(optimizer, zero.single_partition_of_fp32_groups)
        self.groups = zero.bit16_groups

    def prepare(self) -> None:
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        super().prepare()
        # The accessors of moments fail before the first step, and after a load they look at what
        # was there before it.
        for group, partition in zip(self.groups, self.flat, strict=True):
            lazy_init_hp_params_optimizer_state(group, partition, self.optimizer.state)

    def weight(self, tensor: Tensor) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        if tensor.dtype == wide(tensor.dtype):
            return tensor.detach()  # the same as what AdamW works on
        trained = safe_get_full_fp32_param(tensor)
        return tensor.detach().to(wide(tensor.dtype)) if trained is None else trained

    def set_weight(self, tensor: Tensor, values: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param

        tensor.detach().copy_(values)
        safe_set_full_fp32_param(
            tensor, values
        )  # the copy that AdamW works on; a frozen one has none

    def moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        moment = safe_get_full_optimizer_state(parameter, key)
        assert moment is not None
        return moment

    def set_moment(self, parameter: nn.Parameter, key: str, values: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        safe_set_full_optimizer_state(parameter, values, key)


class ZeroStage3Access(FlatStateAccess):
    """Stage 3: each rank holds an equal share of each parameter, padded at the end.

    Args:
        optimizer: torch's AdamW.
        zero: DeepSpeed's optimizer around it.
        rank: of this process.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, zero: Any, rank: int):
        super().__init__(optimizer, zero.fp32_partitioned_groups_flat)
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

    def moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        moment = safe_get_full_optimizer_state(parameter, key)
        assert moment is not None
        return moment

    def set_moment(self, parameter: nn.Parameter, key: str, values: Tensor) -> None:
        from deepspeed.utils import safe_set_local_optimizer_state

        safe_set_local_optimizer_state(parameter, self._share(parameter, values), key)

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
