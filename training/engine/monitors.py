"""DeepSpeed's own monitors: where a run's figures go beside its folder. They write on rank 0; all
ranks know whether they can."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.distributed import collectives

Event = tuple[str, float, int]
"""A figure's name, its value, and the update that it is of."""

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet_ml"}
_PROJECT = "ponderloop"


class Monitors:
    """Some of DeepSpeed's monitors. `launch.start` comes first, also for one process.

    Files go into folders of the run's own, a new one for each start: "csv", "csv-2" after a resume.
    For services a start is a run of its own too, all of them in a group that has the run folder's
    name.

    Args:
        names: which; see `RunConfig.report_to`.
        folder: the run folder, which is there.

    Raises:
        UsageError: on all ranks, where one of them does not start on rank 0.
    """

    def __init__(self, names: Sequence[str], folder: Path):
        from deepspeed.monitor.config import (
            get_monitor_config,
        )  # late: `launch.start` prepares the environment
        from deepspeed.monitor.monitor import MonitorMaster

        def begin() -> MonitorMaster:
            # They have no argument for these; what the user set in the environment stays.
            os.environ.setdefault("WANDB_NAME", folder.name)
            os.environ.setdefault("WANDB_DIR", str(folder))
            return MonitorMaster(get_monitor_config(_settings(names, folder)))

        self._master: MonitorMaster | None = None
        if wrong := _on_first(lambda: setattr(self, "_master", begin())):
            raise UsageError(
                f"--report-to {' '.join(names)}: one of them does not start on rank 0: {wrong}.",
                "A service wants an account and a network, a file wants room and permission.",
                "Log in first (wandb login, comet login), have it write to this disk "
                "(WANDB_MODE=offline, COMET_START_ONLINE=0), or drop it: metrics.jsonl has all "
                "figures.",
            )

    def write(self, events: Sequence[Event]) -> None:
        """Sends some figures."""
        if self._master is not None:
            self._master.write_events(list(events))


def check_installed(names: Sequence[str]) -> None:
    """Refuses monitors whose package rank 0 cannot import. `launch.start` comes first.

    DeepSpeed notices it on rank 0 alone, and the other ranks wait for it until their time limit is
    over.

    Raises:
        UsageError: on all ranks.
    """
    from deepspeed.monitor import utils

    checks: dict[str, Callable[[], object]] = {
        "tensorboard": utils.check_tb_availability,
        "wandb": utils.check_wandb_availability,
        "comet": utils.check_comet_availability,
    }
    for name in names:
        if name in checks and (wrong := _on_first(checks[name])):
            raise UsageError(
                f"--report-to {name} needs the package {_PACKAGES[name]}, which rank 0 cannot "
                f"import: {wrong}.",
                "It is no part of ponderloop, and rank 0 is the one that reports.",
                f"Run pip install {_PACKAGES[name]} on rank 0's machine, or drop {name}: "
                "metrics.jsonl has all figures.",
            )


def _settings(names: Sequence[str], folder: Path) -> dict[str, Any]:
    """As DeepSpeed's config has them. Names of projects and teams come from each service's own
    environment."""
    told: dict[str, dict[str, Any]] = {
        "csv": {"output_path": str(folder), "job_name": _free_name(folder, "csv")},
        "tensorboard": {"output_path": str(folder), "job_name": _free_name(folder, "tensorboard")},
        "wandb": {
            "project": os.environ.get("WANDB_PROJECT", _PROJECT),
            "group": os.environ.get("WANDB_RUN_GROUP", folder.name),
            "team": os.environ.get("WANDB_ENTITY"),
        },
        "comet": {
            "project": os.environ.get("COMET_PROJECT_NAME", _PROJECT),
            "experiment_name": folder.name,
            "samples_log_interval": 1,
            "online": False
            if os.environ.get("COMET_START_ONLINE", "").lower() in ("0", "false")
            else None,
        },
    }
    keys = {"csv": "csv_monitor"}
    return {keys.get(name, name): {"enabled": True, **told[name]} for name in names}


def _free_name(folder: Path, name: str) -> str:
    there = {path.name for path in folder.glob(f"{name}*")}
    number = next(
        number for number in range(1, len(there) + 2) if _numbered(name, number) not in there
    )
    return _numbered(name, number)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _on_first(act: Callable[[], object]) -> str | None:
    """Does something on rank 0; what went wrong, in words and on all ranks; None where nothing
    did."""
    wrong = None
    if collectives.rank() == 0:
        try:
            with contextlib.redirect_stdout(
                io.StringIO()
            ):  # DeepSpeed prints what is said better by the caller
                act()
        except Exception as error:  # noqa: BLE001 — packages of others raise many kinds, and the other ranks must know
            wrong = f"{type(error).__name__}: {error}".rstrip(".")
    return collectives.broadcast_object(wrong)
