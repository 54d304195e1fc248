"""The paths in a config as they are from anywhere."""

import os
import typing
from pathlib import Path
from typing import Any

from training.config.model_part import ModelPart
from training.config.parts import ROLES, resolve, signature_fields
from training.config.run_config import RunConfig
from training.config.sections import Part


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config whose paths hold from any working folder: the files of a run's task, teacher,
    start and ds_config, so that it can go on elsewhere. `output`, where new run folders are made,
    stays relative.

    An option is a path where its class lists it in `path_options`, or annotates it as `Path`.
    """
    named = {
        "start_from": config.start_from,
        "deepspeed_config": config.launch.deepspeed_config,
    }
    changes: dict[str, Any] = {
        name: _absolute(path) for name, path in named.items() if path is not None
    }
    for name, role in ROLES.items():
        part = getattr(config, name)
        if not isinstance(part, Part) or isinstance(part, ModelPart) or not part.options:
            continue
        cls = resolve(part.kind, role.base)
        paths = {*getattr(cls, "path_options", ())}
        paths |= {each.name for each in signature_fields(cls) if _is_path(each.annotation)}
        options = {
            key: _absolute_all(value) if key in paths else value
            for key, value in part.options.items()
        }
        if options != part.options:
            changes[name] = part.replace(options=options)
    return config.replace(**changes) if changes else config


def _absolute_all(value: Any) -> Any:
    """A path, or each of several; anything else as it is."""
    if isinstance(value, str):
        return _absolute(value)
    return [_absolute_all(each) for each in value] if isinstance(value, list | tuple) else value


def _absolute(path: str) -> str:
    # Links stay as they are: what they lead to may be exchanged on purpose.
    return os.path.abspath(Path(path).expanduser()) if path else path


def _is_path(annotation: Any) -> bool:
    return annotation is Path or Path in typing.get_args(annotation)
