"""What `--loop.compiled` needs of a machine."""

from importlib.util import find_spec

import torch

from halting.errors import UsageError
from training.distributed.doctor.checks import check_compiler


def check_can_compile() -> None:
    """Refuses to compile where nothing can: it would fail at the first step, in a run folder that
    exists by then.

    Raises:
        UsageError: without a C++ compiler, and with a GPU without Triton.
    """
    found = check_compiler()
    if found.state != "works":
        raise UsageError(
            "--loop.compiled.",
            f"torch.compile needs a C++ compiler: {found.says}.",
            "Install g++ (CXX may name another), or leave --loop.compiled out: results are the "
            "same without.",
        )
    if torch.cuda.is_available() and find_spec("triton") is None:
        raise UsageError(
            "--loop.compiled.",
            "On a GPU torch.compile makes its kernels with Triton, which is not installed.",
            "Run pip install triton, or leave --loop.compiled out: results are the same without.",
        )
