"""How ranks share a run out: the ZeRO stage, what lies on the CPU, and the sizes of DeepSpeed's
buffers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

SHIPPED_BUCKET = 5e7
"""`reduce_bucket_size` of the files in ds_configs; DeepSpeed's own is ten times that."""


@dataclass(frozen=True)
class ZeroLayout:
    """Sizes are in elements, as a ds_config's `zero_optimization` has them; the defaults are
    DeepSpeed 0.19.8's.

    Args:
        stage: 0 to 3.
        ranks: R.
        deepspeed: False for one process of plain PyTorch.
        optimizer_on_cpu, parameters_on_cpu: what is offloaded.
        bucket: gradients that are reduced together.
        prefetch: parameters that stage 3 gathers ahead.
        live: up to how many gathered parameters stage 3 gathers ahead.
        reuse: how near a parameter's next use has to be for stage 3 to keep it gathered.
        persistence: parameters of up to this size stay gathered.
    """

    stage: int
    ranks: int
    deepspeed: bool = True
    optimizer_on_cpu: bool = False
    parameters_on_cpu: bool = False
    bucket: int = int(5e8)
    prefetch: int = int(5e7)
    live: int = int(1e9)
    reuse: int = int(1e9)
    persistence: int = int(1e5)

    @classmethod
    def of(cls, zero: Mapping[str, Any], ranks: int) -> "ZeroLayout":
        """What a ds_config's `zero_optimization` says."""
        given = {
            "bucket": zero.get("reduce_bucket_size"),
            "prefetch": zero.get("stage3_prefetch_bucket_size"),
            "live": zero.get("stage3_max_live_parameters"),
            "reuse": zero.get("stage3_max_reuse_distance"),
            "persistence": zero.get("stage3_param_persistence_threshold"),
        }
        numbers = {
            name: int(value) for name, value in given.items() if isinstance(value, int | float)
        }
        on_cpu = [_device(zero.get(f"offload_{part}")) == "cpu" for part in ("optimizer", "param")]
        return cls(int(zero.get("stage", 0)), ranks, True, *on_cpu, **numbers)

    def kept(self, moving: int) -> int:
        """How many of so many parameters stage 3 keeps gathered between forward and backward. Where
        it gathers ahead, it also keeps what it passes on the way, whatever `reuse` says: in all but
        huge models that is everything."""
        ahead = min(moving, self.live) if self.prefetch else 0
        return max(ahead, min(moving, self.reuse // 2))

    @property
    def name(self) -> str:
        """As tables call it."""
        if not self.deepspeed:
            return "plain PyTorch"
        if self.parameters_on_cpu:
            return (
                f"ZeRO-{self.stage}, all on CPU"
                if self.optimizer_on_cpu
                else f"ZeRO-{self.stage}, weights CPU"
            )
        return f"ZeRO-{self.stage}{', AdamW on CPU' if self.optimizer_on_cpu else ''}"

    def others(self) -> tuple["ZeroLayout", ...]:
        """The ways to share that ds_configs has files for, this one in the place of its kind; then,
        if none is of its kind, this one."""
        shipped = ZeroLayout(
            0, self.ranks, self.deepspeed or self.ranks > 1, bucket=int(SHIPPED_BUCKET)
        )
        sharded = replace(shipped, deepspeed=True)
        released = replace(sharded, stage=3, **SHIPPED_STAGE_3)
        layouts = [
            shipped,
            replace(sharded, stage=1),
            replace(sharded, stage=2),
            released,
            replace(sharded, stage=2, optimizer_on_cpu=True),
            replace(released, optimizer_on_cpu=True, parameters_on_cpu=True),
        ]
        kinds = [
            (layout.stage, layout.optimizer_on_cpu, layout.parameters_on_cpu) for layout in layouts
        ]
        mine = (self.stage, self.optimizer_on_cpu, self.parameters_on_cpu)
        if mine in kinds:
            layouts[kinds.index(mine)] = self
            return tuple(layouts)
        return (*layouts, self)


SHIPPED_STAGE_3 = {"prefetch": 0, "reuse": 0}
"""What the files in ds_configs say of stage 3: DeepSpeed's own numbers keep parameters gathered
from their forward pass to their backward pass, all of them in a model of less than 1e9."""


def _device(section: Any) -> str:
    return section.get("device", "none") if isinstance(section, dict) else "none"
