"""A ds_config's zero_optimization in today's words."""

from typing import Any

from training.engine.ds_config.sorted_settings import SortedSettings
from training.engine.ds_config.zero_keys import OFFLOADS, ZERO

_STAGE_3 = (
    "prefetch_bucket_size",
    "param_persistence_threshold",
    "model_persistence_threshold",
    "max_live_parameters",
    "max_reuse_distance",
    "use_all_reduce_for_fetch_params",
    "allgather_sequential",
)
_OLD_OFFLOADS = {
    "cpu_offload": "offload_optimizer",
    "cpu_offload_param": "offload_param",
    "cpu_offload_params": "offload_param",
}
_SHIPPED = {"reduce_bucket_size": 50_000_000}
"""What "auto" means: as in the files of ds_configs. (DeepSpeed's own bucket takes 2 GB, whatever
the model's size.)"""


def settle_zero(settings: SortedSettings, given: Any) -> None:
    """Puts what is passed of zero_optimization into one form: names of DeepSpeed's today, offload
    only where a stage has it, and a stage that exists.

    Args:
        settings: of the file; reasons are added to them.
        given: the section as the file has it, whose "auto" counts for some.
    """
    zero = settings.passed.setdefault(ZERO, {})
    for name in _STAGE_3:
        _rename(settings, zero, name, f"stage3_{name}")
    for name, section in _OLD_OFFLOADS.items():
        if zero.pop(name, False) is True:
            if section in zero:
                settings.refuse(
                    f"{ZERO}.{name}",
                    True,
                    f"{section} stands beside it, which is today's word for it.",
                    f"Drop {name}.",
                )
            else:
                zero[section] = {"device": "cpu"}
    if isinstance(given, dict):
        for name, value in _SHIPPED.items():
            if given.get(name) == "auto":
                zero[name] = value
    stage = zero.setdefault("stage", 0)
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        settings.refuse(
            f"{ZERO}.stage",
            stage,
            "ZeRO has the stages 0 (nothing is sharded), 1 (optimizer state), 2 (gradients too) "
            "and 3 (parameters too).",
            "Write 0, 1, 2 or 3.",
        )
        zero["stage"] = 0
        return
    zero["stage"] = int(stage)
    for path, least in zip(OFFLOADS, (1, 3), strict=True):
        _settle_offload(settings, zero, path, least)


def _rename(settings: SortedSettings, zero: dict[str, Any], old: str, new: str) -> None:
    if old not in zero:
        return
    value = zero.pop(old)
    if new in zero:
        settings.refuse(
            f"{ZERO}.{old}", value, f"{new} stands beside it, and is the same.", f"Drop {old}."
        )
    else:
        zero[new] = value


def _settle_offload(settings: SortedSettings, zero: dict[str, Any], path: str, least: int) -> None:
    name = path.rpartition(".")[2]
    section = zero.get(name)
    if section is None:
        return
    device = section.get("device", "none")
    if device == "nvme":
        settings.refuse(
            f"{path}.device",
            device,
            "A checkpoint reads weights and moments one by one, which was not tried with what is "
            "on a disk (and DeepSpeed would compile an operator, aio, that needs libaio).",
            'Write "cpu" there.',
        )
        del zero[name]
    elif device not in ("none", "cpu"):
        settings.refuse(
            f"{path}.device", device, "DeepSpeed knows none, cpu and nvme.", 'Write "cpu" there.'
        )
        del zero[name]
    elif device == "none":
        del zero[name]
    elif zero["stage"] < least:
        settings.ignored.append(path)
        del zero[name]
