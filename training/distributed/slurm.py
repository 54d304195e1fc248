"""SLURM: what `srun` tells each task, said in the words of other launchers."""

import os
import re
from collections.abc import Mapping, MutableMapping

from halting.errors import UsageError

_FIRST_PORT = 15000
_PORTS = 10000
_NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST")


def adopt(environment: MutableMapping[str, str] = os.environ) -> None:
    """Makes this process a rank where `srun` started several and no other launcher has spoken.

    Only a job step has the variables of `_NEEDED`; the batch script that calls `srun` has not. What
    is there already (MASTER_ADDR, MASTER_PORT) stays.

    Raises:
        UsageError: for a list of machines that cannot be read.
    """
    if "RANK" in environment or any(name not in environment for name in _NEEDED):
        return
    if int(environment["SLURM_STEP_NUM_TASKS"]) > 1:
        for name, value in ranks_words(environment).items():
            environment.setdefault(name, value)


def ranks_words(step: Mapping[str, str]) -> dict[str, str]:
    """RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task of a job step.

    The ranks meet on the step's first machine, at a port that follows from the numbers of job and
    step, so that two jobs on one machine seldom want the same one. A task that sees one GPU alone
    (--gpus-per-task) has it as its first.
    """
    gpus = step.get("CUDA_VISIBLE_DEVICES", "")
    sees_one_gpu = gpus != "" and "," not in gpus
    number = 31 * int(step.get("SLURM_JOB_ID", "0")) + int(step.get("SLURM_STEP_ID", "0"))
    return {
        "RANK": step["SLURM_PROCID"],
        "LOCAL_RANK": "0" if sees_one_gpu else step["SLURM_LOCALID"],
        "WORLD_SIZE": step["SLURM_STEP_NUM_TASKS"],
        "MASTER_ADDR": machines(step["SLURM_STEP_NODELIST"])[0],
        "MASTER_PORT": str(_FIRST_PORT + number % _PORTS),
    }


def machines(text: str) -> list[str]:
    """The machines of a list such as "gpu[01-03,07],login1", in order.

    Raises:
        UsageError: for anything else.
    """
    if not re.fullmatch(r"(?:[^\[\],\s]+|\[[\d,-]+\]|,(?=[^,]))+", text):
        raise UsageError(
            f"SLURM_STEP_NODELIST is {text!r}.",
            "Rank 0 is on the first machine that it names, and it cannot be read.",
            "Export MASTER_ADDR and MASTER_PORT yourself: a name of the first machine, and a free "
            "port.",
        )
    return [name for part in re.split(r",(?![^\[]*\])", text) for name in _each(part)]


def _each(part: str) -> list[str]:
    """One entry of a list: "rack[1-2]n[01,03]" is four machines."""
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    numbers = []
    for span in inside.split(","):
        low, dash, high = span.partition("-")
        numbers += (
            [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
            if dash
            else [low]
        )
    return [f"{before}{number}{more}" for number in numbers for more in _each(after)]
