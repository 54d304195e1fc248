"""What a batch hands to a model beside its tokens."""

import inspect

from torch import Tensor, nn

from halting.errors import UsageError
from training.tasks.task import Batch

_INPUTS = ("documents", "source", "source_valid", "noise_level")


def extra_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The fields of a batch that its model reads beside `tokens` and `valid`, by name: wherever a
    model is called, `model(batch.tokens, batch.valid, **extra_inputs(model, batch))`.

    Args:
        model: the model itself, not an engine's wrapper. It reads what its `forward` has an
            argument for.
        batch: the examples.

    Raises:
        UsageError: for a field that the model has no argument for.
    """
    carried = batch.carried()
    extra = {name: carried[name] for name in _INPUTS if name in carried}
    if extra:
        taken = inspect.signature(model.forward).parameters
        for name in extra:
            if name not in taken:
                raise UsageError(
                    f"The task's batches carry {name}, which {type(model).__name__} does not read.",
                    f"Its forward has no argument {name}, so the field would be passed over.",
                    f"Choose a model whose forward takes {name}, or a task without it.",
                )
    return extra
