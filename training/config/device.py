"""Where a model goes."""

import torch

from halting.errors import UsageError


def check_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        UsageError: for one that it has not, and for what names none.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device is {device!r}.",
            "It names no device that torch knows.",
            'Write "cpu", "cuda" or "cuda:0".',
        ) from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(
            f"device is {str(found)!r}.",
            f"torch sees {count or 'no'} GPU{'' if count == 1 else 's'} here.",
            'Write "cuda:0".' if count else 'Write "cpu", or ask ponder doctor why.',
        )
    return found


def check_gpu(device: str) -> None:
    """Refuses a run that is to compute on a GPU where there is none.

    Args:
        device: as the run's config names it.

    Raises:
        UsageError: for "cuda" without a GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda.",
            "torch sees no GPU here.",
            "Write --device cpu, or ask ponder doctor why.",
        )
