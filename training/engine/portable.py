"""A checkpoint of an engine in a form that no ZeRO stage and no number of ranks shows in.

Two files that `safetensors` reads: `model.safetensors` holds the state dict, whole;
`optimizer.safetensors`, of each parameter that learns, `NAME.exp_avg`, `NAME.exp_avg_sq` and
`NAME.step`. Rank 0 writes them tensor by tensor, and every rank reads its own share from them
tensor by tensor: nobody ever holds more than one whole tensor beside what it has anyway. What is
read is to the bit what was written, so a run that goes on in the same shape gives the same losses.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from halting.errors import UsageError
from training.distributed import collectives
from training.engine.state_access import MOMENTS, StateAccess, wide
from training.engine.tensor_file import TensorFile, TensorShape, order

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def save(folder: Path, model: nn.Module, held: StateAccess, device: torch.device) -> None:
    """Writes both files into an existing folder; called by all ranks.

    Raises:
        OSError: on rank 0, where a file cannot be written; RuntimeError: on the others then.
    """
    held.prepare()
    save_weights(folder, model, held, device)
    with torch.no_grad():
        _write(folder / OPTIMIZER, _moment_shapes(model), _moments(model, held), device)


def save_weights(folder: Path, model: nn.Module, held: StateAccess, device: torch.device) -> None:
    """Writes `model.safetensors`; called by all ranks.

    Raises:
        as `save`.
    """
    tensors = _tensors(model)
    with torch.no_grad():
        _write(folder / WEIGHTS, _shapes(tensors), lambda name: held.weight(tensors[name]), device)


def weights(model: nn.Module, held: StateAccess) -> Iterator[tuple[str, Tensor]]:
    """Names and whole values of the state dict, one by one; on all ranks, which have to go through
    them together."""
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            yield name, held.weight(tensor)


def load(folder: Path, model: nn.Module, held: StateAccess, device: torch.device) -> None:
    """Restores what `save` wrote, whatever shape wrote it; called by all ranks.

    Raises:
        UsageError: on each rank that cannot read a file, or finds tensors there that are not the
            model's; RuntimeError: on the others then, before anything is changed.
    """
    tensors = _tensors(model)
    parameters = _trained(model)
    with ExitStack() as stack:
        found = moments = failure = None
        try:
            found = _open(stack, folder / WEIGHTS, _shapes(tensors), whole=True)
            moments = _open(stack, folder / OPTIMIZER, _moment_shapes(model), whole=False)
        except UsageError as error:
            failure = error
        # A rank that can read would go on, and wait for the others for ever.
        _fail_together(failure, f"another rank could not read {folder}", device)
        assert found is not None and moments is not None
        held.prepare()
        seen: set[int] = set()
        with torch.no_grad():
            for name, tensor in tensors.items():
                if id(tensor) not in seen:  # tied parameters have several names
                    held.set_weight(tensor, found.get_tensor(name).to(device))
                seen.add(id(tensor))
            for name, parameter in parameters.items():
                for key in MOMENTS:
                    held.set_moment(parameter, key, moments.get_tensor(f"{name}.{key}").to(device))
            held.set_steps(
                {each: moments.get_tensor(f"{name}.step") for name, each in parameters.items()}
            )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict(keep_vars=True))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, TensorShape]:
    return {
        name: TensorShape(tuple(getattr(tensor, "ds_shape", tensor.shape)), wide(tensor.dtype))
        for name, tensor in tensors.items()
    }


def _moment_shapes(model: nn.Module) -> dict[str, TensorShape]:
    shapes = _shapes(_trained(model))
    moments = {
        f"{name}.{key}": TensorShape(about.shape)
        for name, about in shapes.items()
        for key in MOMENTS
    }
    return {**moments, **{f"{name}.step": TensorShape(()) for name in shapes}}


def _moments(model: nn.Module, held: StateAccess) -> Callable[[str], Tensor]:
    parameters = _trained(model)

    def values(named: str) -> Tensor:
        name, _, key = named.rpartition(".")
        return held.steps(parameters[name]) if key == "step" else held.moment(parameters[name], key)

    return values


def _write(
    path: Path,
    shapes: Mapping[str, TensorShape],
    values: Callable[[str], Tensor],
    device: torch.device,
) -> None:
    """All ranks gather each tensor, and rank 0 writes it. Where it cannot, it gathers on, so that
    no rank waits for ever."""
    failure: OSError | None = None
    file: TensorFile | None = None

    def attempt(action: Callable[[], None]) -> None:
        nonlocal failure
        if collectives.rank() == 0 and failure is None:
            try:
                action()
            except OSError as error:
                failure = error

    def begin() -> None:
        nonlocal file
        file = TensorFile(path, shapes)

    attempt(begin)
    for name in order(shapes):
        whole = values(name)
        attempt(lambda name=name, whole=whole: file and file.write(name, whole))
    attempt(lambda: file and file.finish())  # what is still in memory is written now
    if failure is not None and file is not None:
        file.abandon()
    _fail_together(failure, f"rank 0 could not write {path}", device)


def _open(stack: ExitStack, path: Path, shapes: Mapping[str, TensorShape], *, whole: bool) -> Any:
    """A file whose header names these tensors; no others either, where it has to be `whole`."""
    if not path.is_file():
        raise UsageError(
            f"{path} is not there.",
            "An earlier version of ponderloop wrote this checkpoint, or it is incomplete.",
            "Start anew from its weights (ponder train RECIPE --start-from RUN), or go on from "
            "another checkpoint.",
        )
    try:
        file = stack.enter_context(safe_open(path, "pt"))
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.",
            "It is damaged or incomplete.",
            "Go on from another checkpoint of the run: they stand in its checkpoints folder.",
        ) from error
    there = set(file.keys())
    differing = [*_missing(shapes, there, file), *(sorted(there - set(shapes)) if whole else ())]
    if differing:
        raise UsageError(
            f"{path} does not fit: {differing[0]} is missing on one side, or has another shape "
            "there.",
            "Weights and moments belong to one model, and to the parameters of it that learn.",
            "Resume with the run's own config (ponder train --resume RUN), or use --start-from RUN "
            "for its weights.",
        )
    return file


def _missing(shapes: Mapping[str, TensorShape], there: Iterable[str], file: Any) -> Iterator[str]:
    for name, about in shapes.items():
        if name not in there or tuple(file.get_slice(name).get_shape()) != about.shape:
            yield name


def _fail_together(failure: Exception | None, elsewhere: str, device: torch.device) -> None:
    if collectives.any_rank(failure is not None, device):
        raise failure or RuntimeError(elsewhere)
