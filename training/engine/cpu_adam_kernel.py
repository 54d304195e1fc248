"""DeepSpeed's kernel for Adam on the CPU: compiled where it is used."""

import functools
import importlib
import os
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.console.extras import check_extra


def is_compiled() -> bool:
    """Whether the kernel was compiled on this machine before."""
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    return any(root.rglob("cpu_adam.so"))


@functools.cache
def load_kernel() -> Any:
    """DeepSpeed's kernel, compiled unless that was done before on this machine.

    Raises:
        UsageError: where DeepSpeed or a compiler is missing, or it does not compile.
    """
    check_extra("deepspeed", "--optimizer.kind CPUAdam")
    # late: the import takes seconds, and few runs need it
    op_builder: Any = importlib.import_module("deepspeed.ops.op_builder")

    try:
        return op_builder.CPUAdamBuilder().load(verbose=False)
    except Exception as error:  # whatever the build raises: of torch, ninja, the compiler
        says = (" ".join(str(error).split()) or type(error).__name__)[:300]
        raise UsageError(
            "--optimizer.kind CPUAdam: DeepSpeed's kernel could not be compiled.",
            f"It takes ninja and a C++ compiler with OpenMP. They say: {says.rstrip('.')}.",
            "Install what is missing, or write --optimizer.kind AdamW.",
        ) from error
