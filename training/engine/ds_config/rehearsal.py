"""DeepSpeed's own objections to settings, heard before a run begins: another process hands them to
DeepSpeed and makes two updates of a small model.

As a module it is that process: settings come as JSON on stdin, objections go as JSON to stdout.
"""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.console.output_files import check_outputs

_ON_CPU = ({"device": "cpu"}, {"device": "cpu", "pin_memory": True})
_TRIED = {"stage": (0, 1, 2, 3), "offload_optimizer": _ON_CPU, "offload_param": _ON_CPU}
"""What the files of ds_configs say, which needs no rehearsal."""
_SIZES = {
    "reduce_bucket_size": 1,
    "stage3_prefetch_bucket_size": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_param_persistence_threshold": 0,
}
"""The same of whole numbers: the least of each."""
_PATIENCE = 180.0
_ALONE = {
    "train_batch_size": 1,
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 1.0,
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_HELD = ("stage", "offload_optimizer", "offload_param")
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_MARK = "objections: "


def deepspeed_objections(passed: dict[str, Any], where: str, gpu: bool) -> list[UsageError]:
    """What DeepSpeed raises at settings, by whatever exception: all that it says of their values,
    then what it says when they are used. None where they are those of ds_configs, where DeepSpeed
    is not installed, and where it takes minutes.

    Args:
        passed: the settings, without the run's own numbers.
        where: the file, for messages.
        gpu: whether the run computes on one.
    """
    if _is_tried(passed):
        return []
    passed, unwritable = _without_profile(passed, where)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _PLACE and not name.startswith(("SLURM_", "TORCHELASTIC_", "PMI_"))
    }
    here = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    if not gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    try:
        ended = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(passed),
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return unwritable
    told = [line for line in ended.stdout.splitlines() if line.startswith(_MARK)]
    if not told:
        fatal = [_fatal(where, ended)] if -ended.returncode in _CRASHES else []
        return unwritable + fatal
    return unwritable + [
        UsageError(
            f"{where}: {key} = {value}.",
            f"DeepSpeed refuses it: {says}",
            "Write a value that DeepSpeed knows and that this machine can do, or drop it.",
        )
        for key, value, says in json.loads(told[-1].removeprefix(_MARK))
    ]


def _without_profile(passed: dict[str, Any], where: str) -> tuple[dict[str, Any], list[UsageError]]:
    """The settings without the file of DeepSpeed's profile, which a rehearsal would write; and what
    keeps that file from being written."""
    profiler = passed.get("flops_profiler")
    if not isinstance(profiler, dict) or not isinstance(profiler.get("output_file"), str):
        return passed, []
    path = profiler["output_file"]
    rehearsed = {**passed, "flops_profiler": {**profiler, "output_file": None}}
    try:
        check_outputs(Path(path), overwrite=True)
    except UsageError as error:
        what = f"{where}: flops_profiler.output_file = {_short(path)}: {error.what}"
        return rehearsed, [UsageError(what, error.why, error.write)]
    return rehearsed, []


def _fatal(where: str, ended: subprocess.CompletedProcess) -> UsageError:
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    return UsageError(
        f"{where}: DeepSpeed ends the process (code {ended.returncode}) when it uses these "
        "settings.",
        f"Its last words: {lines[-1].strip() if lines else 'none'}.",
        "Drop what ds_configs/zero2.json does not have, one key at a time.",
    )


def _is_tried(passed: dict[str, Any]) -> bool:
    zero = passed.get("zero_optimization", {})
    return set(passed) <= {"zero_optimization"} and all(
        value in _TRIED[name] if name in _TRIED else _is_size(name, value)
        for name, value in zero.items()
    )


def _is_size(name: str, value: Any) -> bool:
    return type(value) is int and value >= _SIZES.get(name, value + 1)


def _objections(passed: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Key, value and words of each."""
    found = [each for name, value in passed.items() for each in _about(name, value)]
    return found or list(_in_use(passed))


def _about(name: str, value: Any) -> Iterator[tuple[str, str, str]]:
    """What DeepSpeed's config says of one section."""
    from deepspeed.runtime.config import DeepSpeedConfig
    from pydantic import ValidationError

    try:
        DeepSpeedConfig({**_ALONE, name: value})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            path = ".".join([name, *map(str, each["loc"])])
            yield path, _short(each["input"]), _sentence(each["msg"])
    except Exception as error:  # noqa: BLE001 — whatever it raises is its answer
        yield from _narrowed(
            name, value, error, lambda part: DeepSpeedConfig({**_ALONE, name: part})
        )


def _narrowed(
    name: str, value: Any, error: Exception, attempt: Callable[[Any], object]
) -> Iterator[tuple[str, str, str]]:
    """The keys of a section that raise alone; the section where none does."""
    found = []
    base = {"stage": value["stage"]} if isinstance(value, dict) and "stage" in value else {}
    for key, each in value.items() if isinstance(value, dict) else ():
        if key == "stage":
            continue
        try:
            attempt({**base, key: each})
        except Exception as alone:  # noqa: BLE001 — as above
            found.append((f"{name}.{key}", _short(each), _sentence(str(alone) or repr(alone))))
    yield from found or [(name, _short(value), _sentence(str(error) or repr(error)))]


def _in_use(passed: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is raised when an engine is made and makes updates."""
    try:
        _update(passed)
        return
    except Exception as error:  # noqa: BLE001 — as above
        whole = error
    zero = passed.get("zero_optimization", {})
    held = {name: zero[name] for name in _HELD if name in zero}
    others = {name: value for name, value in passed.items() if name != "zero_optimization"}
    inner = {name: value for name, value in zero.items() if name not in held}
    attempts = {
        **{name: {"zero_optimization": held, name: value} for name, value in others.items()},
        **{
            f"zero_optimization.{name}": {"zero_optimization": {**held, name: value}}
            for name, value in inner.items()
        },
    }
    values = {**others, **{f"zero_optimization.{name}": value for name, value in inner.items()}}
    found = []
    for path, alone in attempts.items():
        try:
            _update(alone)
        except Exception as error:  # noqa: BLE001 — as above
            found.append((path, _short(values[path]), _sentence(str(error) or repr(error))))
    yield from found or [("these settings", _short(passed), _sentence(str(whole) or repr(whole)))]


def _update(passed: dict[str, Any]) -> None:
    """Two updates of two small layers under these settings."""
    import deepspeed
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={**_ALONE, **json.loads(json.dumps(passed))},
        dist_init_required=False,
    )
    try:
        for _ in range(2):  # its profiler begins with the second
            loss = engine(torch.ones(1, 8, device=engine.device)).sum()
            engine.backward(loss)
            engine.step()
    finally:
        engine.destroy()


def _sentence(text: str) -> str:
    return " ".join(text.split())[:600].rstrip(".") + "."


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"


def main() -> int:
    """Reads settings, writes objections."""
    passed = json.load(sys.stdin)
    try:
        import deepspeed  # noqa: F401
    except ImportError:
        return 0  # a start without it is refused anyway
    from training.distributed.process_group import start

    with contextlib.redirect_stdout(io.StringIO()):
        start(cpu=os.environ.get("DS_ACCELERATOR") == "cpu")
        logging.disable(logging.CRITICAL)
        found = _objections(passed)
    print(_MARK + json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    from training.distributed.process_group import leave  # late: as above

    leave(code)
