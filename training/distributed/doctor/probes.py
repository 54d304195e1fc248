"""What `ponder doctor` tries in processes of their own: what is broken may hang or print, and an
import stays done."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

import torch

_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# The answer goes to a file of its own, since DeepSpeed prints to the screen.
_MANY_RANKS = """
import json, os, sys
from torch import distributed as dist
answer = {}
if dist.is_available():
    answer["backends"] = {"gloo": dist.is_gloo_available(), "NCCL": dist.is_nccl_available()}
try:
    import deepspeed
    from deepspeed.accelerator import get_accelerator
    from deepspeed.git_version_info import installed_ops
    ops = deepspeed.ops.__compatible_ops__
    answer |= {
        "version": deepspeed.__version__,
        "accelerator": get_accelerator().device_name(),
        "to_compile": sorted(
            name for name, can in ops.items() if can and not installed_ops.get(name)
        ),
        "built": sorted(name for name, is_built in installed_ops.items() if is_built),
        "can_skip": "deepspeed_shm_comm" in ops,
    }
except Exception as error:
    answer["error"] = f"{type(error).__name__}: {error}"
os.write(int(sys.argv[1]), json.dumps(answer).encode())
"""
_RANK = """
import sys
from datetime import timedelta
import torch
from torch import distributed as dist
rank, port, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
dist.init_process_group(
    "gloo", f"tcp://127.0.0.1:{port}", timeout=timedelta(seconds=seconds), world_size=2, rank=rank
)
value = torch.tensor([rank + 1.0])
dist.all_reduce(value)
dist.destroy_process_group()
sys.exit(0 if value.item() == 3.0 else f"the sum of 1 and 2 came back as {value.item()}")
"""


def probe_many_ranks(timeout: float = 120.0) -> dict[str, Any]:
    """What several ranks would run on.

    Of torch: which `backends` it has. Of DeepSpeed: version, accelerator, the ops that it could
    compile (`to_compile`) and those that were (`built`), and whether the one that starting would
    compile can be skipped (`can_skip`); or else `error`, why it cannot be imported.
    """
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        command = [sys.executable, "-c", _MANY_RANKS, str(answer.fileno())]
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, pass_fds=(answer.fileno(),)
        )
        wrong = _wrong(process, log, timeout)
        if wrong is not None:
            return {"error": wrong}
        answer.seek(0)
        return json.loads(answer.read())


def two_ranks(timeout: float) -> str | None:
    """Has two processes sum a number each over gloo; None when they did, else what went wrong.

    Args:
        timeout: seconds after which both are ended.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCHER}
    environment["OMP_NUM_THREADS"] = "1"
    until = time.monotonic() + timeout
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
        logs = (first, second)
        ranks = []
        for rank, log in enumerate(logs):
            command = [sys.executable, "-c", _RANK, str(rank), port, str(timeout / 2)]
            ranks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        found = [
            _wrong(rank, log, until - time.monotonic())
            for rank, log in zip(ranks, logs, strict=True)
        ]
    return next(filter(None, found), None)


def _wrong(process: subprocess.Popen, log: IO[bytes], timeout: float) -> str | None:
    """Waits for a probe, and ends it when its time is over; None when it ended well, else its last
    line."""
    try:
        code = process.wait(max(0.0, timeout))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "no answer came in time"
    if code == 0:
        return None
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"
