"""What a batch hands to a model beside its tokens."""

import inspect
from typing import Any

from torch import nn

from act.models.asked_losses import AskedLosses
from halting.errors import UsageError
from training.tasks.task import Batch

_INPUTS = ("documents", "source", "source_valid", "noise_level")


def extra_inputs(
    model: nn.Module, batch: Batch, asked: AskedLosses | None = None
) -> dict[str, Any]:
    """The fields of a batch that its model reads beside `tokens` and `valid`, by name: wherever a
    model is called, `model(batch.tokens, batch.valid, **extra_inputs(model, batch))`.

    Args:
        model: the model itself, not an engine's wrapper. It reads what its `forward` has an
            argument for.
        batch: the examples.
        asked: losses that are wanted; handed on to a model that can answer.

    Raises:
        UsageError: for a field that the model has no argument for.
    """
    carried = batch.carried()
    extra: dict[str, Any] = {name: carried[name] for name in _INPUTS if name in carried}
    if extra or asked is not None:
        taken = inspect.signature(model.forward).parameters
        for name in extra:
            if name not in taken:
                raise UsageError(
                    f"The task's batches carry {name}, which {type(model).__name__} does not read.",
                    f"Its forward has no argument {name}, so the field would be passed over.",
                    f"Choose a model whose forward takes {name}, or a task without it.",
                )
        if asked is not None and "asked" in taken:
            extra["asked"] = asked
    return extra
