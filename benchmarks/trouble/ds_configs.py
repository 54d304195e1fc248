"""DeepSpeed settings with a slip in them."""

import copy
import json
import random
import re
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trouble.case import Case
from benchmarks.trouble.json_tree import at, encoded, leaves, put
from benchmarks.trouble.material import SMALL, Material
from benchmarks.trouble.pools import JSON, draw, misspelt

KIND = "ds-config"
_BASES: tuple[dict[str, Any], ...] = (
    {"zero_optimization": {"stage": 1}},
    {
        "zero_optimization": {
            "stage": 2,
            "allgather_bucket_size": 50_000_000,
            "reduce_bucket_size": 50_000_000,
            "overlap_comm": True,
            "contiguous_gradients": True,
        }
    },
    {
        "zero_optimization": {
            "stage": 3,
            "stage3_prefetch_bucket_size": 0,
            "stage3_param_persistence_threshold": 0,
            "stage3_max_live_parameters": 1_000_000_000,
            "sub_group_size": 1_000_000_000,
        }
    },
    {
        "bf16": {"enabled": "auto"},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
        },
        "scheduler": {
            "type": "WarmupLR",
            "params": {
                "warmup_min_lr": "auto",
                "warmup_max_lr": "auto",
                "warmup_num_steps": "auto",
            },
        },
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "steps_per_print": 2000,
        "wall_clock_breakdown": False,
    },
)
"""Settings as people keep them."""
_SETTINGS: dict[str, tuple[Any, ...]] = {
    "zero_optimization.stage": (0, 1, 2, 3),
    "zero_optimization.allgather_bucket_size": (1000, 200_000_000, 2e8, "auto"),
    "zero_optimization.reduce_bucket_size": (1000, 200_000_000, 5e8, "auto"),
    "zero_optimization.overlap_comm": (True, False, "auto"),
    "zero_optimization.contiguous_gradients": (True, False, "auto"),
    "zero_optimization.stage3_prefetch_bucket_size": (0, 1000, "auto"),
    "zero_optimization.stage3_param_persistence_threshold": (0, 1000, "auto"),
    "zero_optimization.stage3_max_live_parameters": (0, 1000, 1e9),
    "zero_optimization.sub_group_size": (1000, 1e9),
    "zero_optimization.round_robin_gradients": (True, False),
    "steps_per_print": (1, 10, 2000, None, "auto"),
    "wall_clock_breakdown": (True, False),
    "gradient_accumulation_steps": ("auto", 1),
    "train_micro_batch_size_per_gpu": ("auto", 4),
    "train_batch_size": ("auto", 4),
    "gradient_clipping": ("auto", 1.0),
    "bf16.enabled": ("auto", False),
    "fp16.enabled": ("auto", False),
    "zero_allow_untested_optimizer": (True, False),
    "communication_data_type": ("fp32", None),
    "prescale_gradients": (False,),
}
"""Keys with values that agree with the run, or say nothing of it."""
_CONTRADICTIONS: dict[str, tuple[Any, ...]] = {
    "train_batch_size": (7, 0, -1, 1.5, "4", True, [4]),
    "gradient_accumulation_steps": (3, 0, -1, "two", 0.5),
    "zero_optimization.stage": (4, -1, 1.5, "2 ", "three", True, [], 10**30),
    "zero_optimization.reduce_bucket_size": (-1, "big", [], {}),
    "zero_optimization.overlap_comm": ("maybe", 7, []),
    "fp16.enabled": ("maybe", 7, []),
    "bf16.enabled": ("maybe", 7, []),
    "optimizer.type": ("Nonsense", 3, None, "Lamb2", [], "canary:Canary"),
    "scheduler.type": ("Nonsense", 3, []),
    "zero_optimization.offload_param.device": ("tape", 7),
    "activation_checkpointing": (7, "on"),
    "sparse_attention": ({"mode": "fixed"},),
    "gradient_clipping": ("much", -1.0, []),
}
"""Values that no run can have."""
_REFUSED_SECTIONS = ("amp", "autotuning", "compression_training", "data_efficiency", "elasticity")


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    values = copy.deepcopy(source.choice(_BASES))
    how = source.choice(
        (_setting, _contradiction, _misspelt, _unknown, _value, _section, _text, _section)
    )
    content, says, rule = how(values, source)
    dry = ("--dry-run",) if number % 10 else ()
    return Case(
        KIND,
        number,
        says if dry else f"{says}, trained",
        ("train", *SMALL, "--updates", "2", "--deepspeed-config", "ds.json", *dry),
        rule,
        must_say=None if rule != "named" else _named(says),
        prepare=partial(_prepare, content=content),
        limit=60.0 if dry else 120.0,
    )


def _prepare(place: Path, content: bytes) -> None:
    (place / "ds.json").write_bytes(content)


def _named(says: str) -> str:
    """The key that the output has to name: the first word of what was done."""

    return re.escape(says.split(" ")[0].rpartition(".")[2])


def _setting(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    """A key that may stand there."""
    path = source.choice(list(_SETTINGS))
    value = source.choice(_SETTINGS[path])
    put(values, path, value)
    return encoded(values), f"{path} {value!r}", "value"


def _contradiction(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    path = source.choice(list(_CONTRADICTIONS))
    value = source.choice(_CONTRADICTIONS[path])
    put(values, path, value)
    return encoded(values), f"{path} {str(value)[:40]!r}", None


def _misspelt(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    path = source.choice(sorted(leaves(values)))
    group, _, name = path.rpartition(".")
    holder = values
    for each in group.split(".") if group else ():
        holder = holder[each]
    kept = holder.pop(name)
    wrong = misspelt(name, source)
    holder[wrong] = kept
    dot = "." if group else ""
    return (
        encoded(values),
        f"{group}{dot}{wrong} for {name}",
        "value" if wrong == name else "named",
    )


def _unknown(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    group = source.choice(("", "zero_optimization"))
    name = source.choice(
        (
            "nonsense",
            "learning_rate",
            "lr",
            "epochs",
            "stage",
            "zero",
            "comment",
            "_note",
            "zero_stage",
            "deepspeed",
            "batch_size",
            "model",
        )
    )
    if group and name == "stage":
        name = "level"
    holder = values[group] if group else values
    holder[name] = source.choice(JSON)
    dot = "." if group else ""
    rule = "comment" if name.startswith(("comment", "_")) else "named"
    return encoded(values), f"{group}{dot}{name} is no key", rule


def _value(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    """A known key with any value: taken where it is the key's own kind, or said."""
    path = source.choice(sorted(leaves(values)))
    value = source.choice(JSON)
    kept = at(values, path)
    put(values, path, value)
    return (
        encoded(values),
        f"{path} {str(value)[:40]!r}",
        "value" if _is_like(path, value, kept) or path.endswith("betas") else "named",
    )


def _is_like(path: str, value: Any, kept: Any) -> bool:
    """Whether a value is of the kind that stood there; 0 and 1 are switches too, and so
    are texts of them, to DeepSpeed."""
    if value is None or value == "auto":
        return True
    if kept == "auto" and isinstance(value, int | float) and not isinstance(value, bool):
        return True  # what cannot be is refused, and what is absurd is said of the run's flag
    if isinstance(kept, bool) or kept == "auto" or path.endswith("enabled"):
        return str(value).lower() in ("0", "1", "true", "false")
    if isinstance(kept, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(kept)


def _section(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    name = source.choice(
        (
            *values,
            "fp16",
            "bf16",
            "optimizer",
            "scheduler",
            "zero_optimization",
            "tensorboard",
            "aio",
            "amp",
            "flops_profiler",
            "comms_logger",
            "data_efficiency",
            "checkpoint",
            "elasticity",
            "autotuning",
            "compression_training",
        )
    )
    value = source.choice(JSON)
    kept = values.get(name)
    values[name] = value
    allowed = value in (None, "auto", {})
    allowed |= not isinstance(kept, dict | None) and _is_like(name, value, kept)
    # A feature that a run cannot have may stand there switched off.
    off = value in (False, 0, "") and name in _REFUSED_SECTIONS
    rule = "value" if allowed else "off" if off else "named"
    return encoded(values), f"{name} is {str(value)[:40]!r}", rule


def _text(values: dict[str, Any], source: random.Random) -> tuple[bytes, str, str | None]:
    good = json.dumps(values, indent=2)
    place = source.randrange(1, len(good) - 1)
    name = next(iter(values))
    slips = (
        (good[:place].encode(), f"cut after {place} bytes", None),
        (b"", "empty", None),
        (good.encode("utf-16"), "UTF-16", None),
        (
            good.replace("auto", "aut\xf6").replace("stage", "st\xe4ge").encode("latin-1"),
            "Latin-1",
            None,
        ),
        (b"\xef\xbb\xbf" + good.encode(), "a byte order mark", "whitespace"),
        (
            good.replace("{", f'{{"{name}": {json.dumps(values[name])}, ', 1).encode(),
            f"{name} twice",
            None,
        ),
        (good.replace('"', "'").encode(), "single quotes", None),
        (("[" * 100_000).encode(), "100,000 open brackets", None),
        (b"[]", "a list", None),
        (b"null", "null", None),
        (b"7", "a number", None),
        (b"{}", "nothing in it", "default"),
        (good.replace("2", "NaN", 1).encode(), "NaN", None if "2" in good else "value"),
        (("// settings\n" + good).encode(), "a comment", None),
        (bytes(source.randrange(256) for _ in range(300)), "random bytes", None),
        ((good + good).encode(), "twice the file", None),
    )
    return source.choice(slips)
