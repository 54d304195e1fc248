"""What has to be the same on all ranks of a run: config, versions, code, data. As a module, it
tells what a machine has."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import act
import halting
from training.config.run_config import RunConfig
from training.tasks.data_identity import DataIdentity

SOURCES = (
    Path(act.__path__[0]),
    Path(halting.__path__[0]),
    Path(__file__).resolve().parents[1],
)
"""The folders of act, halting and training."""
PACKAGES = ("torch", "deepspeed", "numpy", "ponderloop")


def facts(config: RunConfig, data: DataIdentity | None = None) -> dict[str, str]:
    """Name and value of each.

    Args:
        config: the run.
        data: what its task reads, where it reads something.
    """
    found = {"config": config.to_json(), "WORLD_SIZE": os.environ.get("WORLD_SIZE", "1")}
    read = {} if data is None else {"data": data.facts()}
    return {**found, **versions(), "code": code(config), **read}


def versions() -> dict[str, str]:
    """Of Python and of the packages whose results depend on it."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def machine() -> dict[str, object]:
    """What this machine has: versions, code, GPUs, cores, and addresses in the order in which
    `deepspeed --hostfile` reads them."""
    addresses = []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        addresses = subprocess.check_output(["hostname", "-I"], text=True, timeout=10).split()
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    found = {"gpus": torch.cuda.device_count(), "cores": cores, "addresses": addresses}
    return {**versions(), "code": code(), **found}


def code(config: RunConfig | None = None) -> str:
    """A digest of these packages' sources, and of the user's own files that a config names."""
    digest = hashlib.sha256()
    for root in SOURCES:
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for path in sorted(set(_own_files(config.model_dump() if config is not None else None))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _own_files(value: object) -> Iterator[Path]:
    """Files of "path/to/file.py:name", wherever a config names one."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _own_files(each)
    elif (
        isinstance(value, str)
        and (path := Path(value.rpartition(":")[0])).suffix == ".py"
        and path.is_file()
    ):
        yield path


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    print(json.dumps(machine()))
