"""What has to be the same on all ranks of a run: config, versions, code."""

import hashlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import act
import halting
import training
from training.config import RunConfig

PACKAGES = ("torch", "deepspeed", "numpy", "ponderloop")


def facts(config: RunConfig) -> dict[str, str]:
    """Name and value of each."""
    found = {
        "config": config.to_json(),
        "WORLD_SIZE": os.environ.get("WORLD_SIZE", "1"),
        "python": platform.python_version(),
    }
    found |= {name: _version(name) for name in PACKAGES}
    return {**found, "code": code(config)}


def code(config: RunConfig) -> str:
    """A digest of these packages' sources, and of the user's own files that the config names."""
    digest = hashlib.sha256()
    for package in (act, halting, training):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for path in sorted(set(_own_files(config.model_dump()))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _own_files(value: object) -> Iterator[Path]:
    """Files of "path/to/file.py:name", wherever a config names one."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _own_files(each)
    elif isinstance(value, str) and (path := Path(value.rpartition(":")[0])).suffix == ".py" and path.is_file():
        yield path


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
