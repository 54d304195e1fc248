"""What `ponder doctor` looks at: each check is a function that says what it found, and how to fix
it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from training.console.amounts import in_bytes
from training.distributed.doctor.probes import two_ranks

State = Literal["works", "warns", "broken"]

_PYTHON = (3, 11)
_TORCH = (2, 6)
_DEEPSPEED = (0, 19)
_NEEDED = ("jaxtyping", "matplotlib", "numpy", "pydantic", "rich", "safetensors", "scipy", "tyro")
_LITTLE = 2e9
_TOO_LITTLE = 1e8  # bytes: some runs of the small recipes; not even one


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        name: what was looked at.
        state: "works"; "warns", where training works but something is amiss; "broken", where
            something that is needed does not work.
        says: in words.
        fix:  what to do; "" where nothing has to be done. Lines after the first are commands.
    """

    name: str
    state: State
    says: str
    fix: str = ""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter is new enough."""
    says = f"{'.'.join(map(str, version))} ({platform.system()}, {platform.machine()})"
    return _new_enough(
        "python",
        version,
        _PYTHON,
        says,
        "Make the environment with it: make PYTHON=/path/to/python3.12",
    )


def check_ponderloop() -> Finding:
    """Which ponderloop this is."""
    folder = Path(__file__).parents[2]
    try:
        return Finding(
            "ponderloop", "works", f"{importlib.metadata.version('ponderloop')}, from {folder}"
        )
    except importlib.metadata.PackageNotFoundError:
        return Finding("ponderloop", "works", f"from a clone, not installed: {folder}")


def check_torch(version: str = torch.__version__) -> Finding:
    """torch is new enough."""
    number = tuple(int(word) for word in version.partition("+")[0].split(".")[:2])
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return _new_enough(
        "torch", number, _TORCH, f"{version}, {built}", "pip install --upgrade torch"
    )


def check_libraries(names: Sequence[str] = _NEEDED) -> Finding:
    """The other libraries that training imports are there."""
    found = {name: _version(name) for name in names}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return Finding(
            "libraries",
            "broken",
            f"missing: {', '.join(missing)}",
            f"pip install {' '.join(missing)}",
        )
    return Finding(
        "libraries", "works", ", ".join(f"{name} {version}" for name, version in found.items())
    )


def check_optional() -> Finding:
    """What a plain install leaves out."""
    found = {name: _version(name) for name in ("tensorboard", "optuna")}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        lost = {"tensorboard": "TensorBoard's event files", "optuna": "ponder tune"}
        extras = {"tensorboard": "tensorboard", "optuna": "tune"}
        says = (
            f"missing: {', '.join(missing)}; without, there is no "
            f"{' and no '.join(lost[name] for name in missing)}"
        )
        fix = f"pip install 'ponderloop[{','.join(extras[name] for name in missing)}]'"
        return Finding("extras", "warns", says, fix)
    return Finding(
        "extras", "works", ", ".join(f"{name} {version}" for name, version in found.items())
    )


def check_processor() -> Finding:
    """Cores, and the threads that torch would use."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = torch.get_num_threads()
    native = _native_bf16()
    bf16 = "bf16 native" if native else "bf16 emulated (slow: keep --precision float32 here)"
    says = f"{_count(cores, 'core')}, {_count(threads, 'thread')}, {bf16}"
    if threads > cores:
        fix = f"Threads wait for one another: export OMP_NUM_THREADS={cores}"
        return Finding("processor", "warns", f"{says}: more threads than cores", fix)
    return Finding("processor", "works", says)


def check_gpus() -> Finding:
    """GPUs, and whether torch can use those that are there."""
    if torch.cuda.is_available():
        each = [
            torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())
        ]
        listed = ", ".join(f"{gpu.name} with {in_bytes(gpu.total_memory)}" for gpu in each)
        bf16 = "native" if torch.cuda.is_bf16_supported(including_emulation=False) else "emulated"
        return Finding("GPU", "works", f"{listed}; bf16 {bf16}")
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", "works", "none; training runs on the CPU")
    if torch.version.cuda is None:
        fix = "Install a torch that was built with CUDA."
    else:
        fix = (
            "Compare the driver's CUDA version (nvidia-smi) with torch's, and look at "
            "CUDA_VISIBLE_DEVICES."
        )
    return Finding(
        "GPU",
        "warns",
        "a driver is installed, but torch sees no GPU; training runs on the CPU",
        fix,
    )


def check_deepspeed(probe: dict[str, Any]) -> Finding:
    """DeepSpeed can be imported and is new enough. `probe` is what `probe_many_ranks` gives."""
    if "error" in probe:
        fix = (
            "DS_BUILD_OPS=0 pip install --no-build-isolation 'ponderloop[deepspeed]'   (one "
            "process trains without it)"
        )
        if _version("deepspeed") is None:
            return Finding("deepspeed", "warns", "not installed: one process, no ZeRO", fix)
        return Finding("deepspeed", "broken", f"cannot be imported: {probe['error']}", fix)
    number = tuple(int(word) for word in probe["version"].partition("+")[0].split(".")[:2])
    says = f"{probe['version']}, accelerator {probe['accelerator']}"
    return _new_enough("deepspeed", number, _DEEPSPEED, says, "pip install --upgrade deepspeed")


def check_ops(probe: dict[str, Any]) -> Finding:
    """What DeepSpeed would compile. Training uses torch's optimizer and skips the one op that
    starting would build."""
    if "error" in probe:
        return Finding(
            "deepspeed ops",
            "warns",
            "unknown, as DeepSpeed cannot be imported",
            "See deepspeed above.",
        )
    if not probe["can_skip"] and probe["accelerator"] == "cpu":
        says = (
            "this version no longer lists deepspeed_shm_comm: the first start on a CPU may compile "
            "for a minute"
        )
        return Finding(
            "deepspeed ops", "warns", says, "Let it finish: a killed build leaves a lock behind."
        )
    built = f"; built: {', '.join(probe['built'])}" if probe["built"] else ""
    others = len(probe["to_compile"])
    return Finding(
        "deepspeed ops",
        "works",
        f"training compiles none ({others} of DeepSpeed's ops could be compiled here){built}",
    )


def extensions_folder() -> Path:
    """Where a run has DeepSpeed's ops compiled."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(sys.prefix) / "torch_extensions")


def check_locks(folder: Path) -> Finding:
    """No build left its lock behind: everyone who wants that op later would wait on it for ever."""
    locks = sorted(folder.rglob("lock")) if folder.is_dir() else []
    if not locks:
        return Finding("extensions", "works", f"no locks in {folder}")
    minutes = max(0.0, (time.time() - min(lock.stat().st_mtime for lock in locks)) / 60)
    says = (
        f"{', '.join(map(str, locks))} ({minutes:.0f} min old): a build that was killed, or one "
        "still running"
    )
    commands = "".join(f"\nrm '{lock}'" for lock in locks)
    fix = f"If nothing is compiling, remove it; later builds would wait on it for ever:{commands}"
    return Finding("extensions", "warns", says, fix)


def check_builds(folder: Path, own: Path = Path(sys.prefix)) -> Finding:
    """What was built there was built by this environment: against its torch, and not another one's.

    Args:
        folder: of the builds.
        own: where this environment is.
    """
    name = "builds"
    others = [
        path.parent
        for path in (sorted(folder.glob("*/build.ninja")) if folder.is_dir() else [])
        if f"{own}{os.sep}" not in path.read_text(encoding="utf-8", errors="replace")
    ]
    if not others:
        return Finding(name, "works", f"none of another environment in {folder}")
    says = (
        f"{', '.join(path.name for path in others)} in {folder}: built by another environment, for "
        "its torch"
    )
    commands = "".join(f"\nrm -r '{path}'" for path in others)
    fix = (
        "Unset TORCH_EXTENSIONS_DIR (runs then use a folder of this environment's own), or remove "
        "them:"
    )
    return Finding(name, "warns", says, f"{fix}{commands}")


def check_launcher(default: Path = Path("/job/hostfile")) -> Finding:
    """What `deepspeed` starts without being told how many ranks, or where.

    Args:
        default: the hostfile that it reads where none is named.
    """
    if default.exists():
        says = f"without --hostfile deepspeed takes the machines of {default}"
        fix = (
            f"Name another file, deepspeed --hostfile FILE, or remove {default} to train on this "
            "machine alone."
        )
        return Finding("launcher", "warns", says, fix)
    gpus = torch.cuda.device_count()
    if gpus:
        says = f"deepspeed without --num_gpus starts {_count(gpus, 'rank')} here, one a GPU"
        return Finding("launcher", "works", says)
    says = (
        "deepspeed without --num_gpus starts 1 rank here, as there is no GPU to count; --num_gpus "
        "2 starts two"
    )
    return Finding("launcher", "works", says)


def check_compiler() -> Finding:
    """A C++ compiler."""
    named = os.environ.get("CXX")
    found = next(
        filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None
    )
    if found:
        return Finding("C++ compiler", "works", found)
    says = f"CXX names {named}, which is not there" if named else "none found"
    fix = "Install g++. Training does without; installing DeepSpeed and compiling its ops do not."
    return Finding("C++ compiler", "warns", says, fix)


def check_backends(probe: dict[str, Any]) -> Finding:
    """What ranks can talk through."""
    backends = probe.get("backends")
    if backends is None:
        fix = "Install a torch that was built with it; one process trains without."
        return Finding("communication", "warns", "torch.distributed does not answer", fix)
    says = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in backends.items())
    if torch.cuda.is_available() and not backends["NCCL"]:
        return Finding(
            "communication", "warns", says, "GPUs talk through NCCL: install a torch that has it."
        )
    if not backends["gloo"]:
        return Finding(
            "communication",
            "warns",
            says,
            "CPU ranks talk through gloo: install a torch that has it.",
        )
    return Finding("communication", "works", says)


def check_two_ranks(timeout: float = 60.0) -> Finding:
    """Two real processes add two numbers over gloo, under a watchdog."""
    wrong = two_ranks(timeout)
    if wrong is None:
        return Finding("two ranks", "works", "two processes added two numbers over gloo")
    fix = (
        "One process trains without. For several: is 127.0.0.1 up, does a firewall close its "
        "ports, does GLOO_SOCKET_IFNAME name an interface that exists?"
    )
    return Finding(
        "two ranks", "broken", f"two processes could not add two numbers over gloo: {wrong}", fix
    )


def check_disk(folder: Path, free: float | None = None) -> Finding:
    """Room for runs.

    Args:
        folder: where run folders would be.
        free: bytes; what is there if None.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(there).free if free is None else free
    says = f"{in_bytes(free)} free in {there}"
    if not os.access(there, os.W_OK):
        return Finding(
            "disk",
            "broken",
            f"{there} cannot be written to",
            "Start from another folder, or write --output.",
        )
    if free < _TOO_LITTLE:
        return Finding("disk", "broken", says, "Make room, or write --output to another disk.")
    if free < _LITTLE:
        fix = (
            "A checkpoint takes about 12 bytes a parameter, and --keep-last 2 are kept: make room, "
            "or write --output."
        )
        return Finding("disk", "warns", says, fix)
    return Finding("disk", "works", says)


def _new_enough(
    name: str, version: tuple[int, ...], least: tuple[int, ...], says: str, fix: str
) -> Finding:
    if version >= least:
        return Finding(name, "works", says)
    return Finding(name, "broken", f"{says}: {'.'.join(map(str, least))} or newer is needed", fix)


def _version(name: str) -> str | None:
    """The version of a library that is there; None for one that is not."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _native_bf16() -> bool:
    """Whether the processor itself multiplies bfloat16 (AVX-512 or AMX; Arm's BF16)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = {
        word
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for word in line.split()
    }
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
