"""A checkpoint of an engine in a form that no ZeRO stage and no number of ranks shows in.

Two files that `safetensors` reads: `model.safetensors` holds the state dict, whole;
`optimizer.safetensors`, of each parameter that learns, what its optimizer keeps of it, of AdamW
`NAME.exp_avg`, `NAME.exp_avg_sq` and `NAME.step` (`NAME.fresh` before its first step), and in its
metadata the optimizer's class. Rank 0 writes them tensor by tensor, and every rank reads its own
share from them tensor by tensor: nobody ever holds more than one whole tensor beside what it has
anyway. What is read is to the bit what was written, so a run that goes on in the same shape gives
the same losses.
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
from training.engine.state_access import Shapes, StateAccess, wide
from training.engine.tensor_file import DTYPES, TensorFile, TensorShape, order

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
_KIND = "optimizer"
_FRESH = "fresh"
_NO_STEP = TensorShape((), torch.bool)


def save(folder: Path, model: nn.Module, held: StateAccess, device: torch.device) -> None:
    """Writes both files into an existing folder; called by all ranks.

    Raises:
        OSError: on rank 0, where a file cannot be written; RuntimeError: on the others then.
    """
    save_weights(folder, model, held, device)
    with torch.no_grad():
        found = {
            f"{name}.{key}": (parameter, key, about)
            for name, parameter in _trained(model).items()
            for key, about in (held.entries(parameter) or {_FRESH: _NO_STEP}).items()
        }

        def values(name: str) -> Tensor:
            parameter, key, about = found[name]
            return (
                torch.zeros((), dtype=about.dtype) if key == _FRESH else held.entry(parameter, key)
            )

        shapes = {name: about for name, (_, _, about) in found.items()}
        _write(folder / OPTIMIZER, shapes, values, device, {_KIND: _kind(held)})


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
        found = kept = failure = None
        shapes: dict[str, Shapes] = {}
        try:
            found = _open_weights(stack, folder / WEIGHTS, _shapes(tensors))
            kept, shapes = _open_entries(stack, folder / OPTIMIZER, parameters, held)
        except UsageError as error:
            failure = error
        # A rank that can read would go on, and wait for the others for ever.
        _fail_together(failure, f"another rank could not read {folder}", device)
        assert found is not None and kept is not None
        seen: set[int] = set()
        with torch.no_grad():
            for name, tensor in tensors.items():
                if id(tensor) not in seen:  # tied parameters have several names
                    held.set_weight(tensor, found.get_tensor(name).to(device))
                seen.add(id(tensor))
            held.begin({parameter: shapes[name] for name, parameter in parameters.items()})
            for name, parameter in parameters.items():
                for key in shapes[name]:
                    held.set_entry(parameter, key, kept.get_tensor(f"{name}.{key}").to(device))


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


def _kind(held: StateAccess) -> str:
    """The optimizer's class, by which its entries mean what they do."""
    return type(held.optimizer).__qualname__


def _open_entries(
    stack: ExitStack, path: Path, parameters: Mapping[str, nn.Parameter], held: StateAccess
) -> tuple[Any, dict[str, Shapes]]:
    """The file of an optimizer's entries, and what it holds of each parameter: nothing where no
    step was taken yet."""
    file = _open_file(stack, path)
    written = (file.metadata() or {}).get(_KIND, "another")
    if written != _kind(held):
        raise UsageError(
            f"{path} holds the state of {written}, and this run trains with {_kind(held)}.",
            "What one optimizer keeps of a parameter means nothing to another.",
            "Resume without --optimizer.kind, or use --start-from RUN for its weights alone.",
        )
    shapes: dict[str, Shapes] = {name: {} for name in parameters}
    fresh = set()
    for full in list(file.keys()):
        name, _, key = full.rpartition(".")
        if name in shapes and key == _FRESH:
            fresh.add(name)
        elif name in shapes:
            about = file.get_slice(full)
            shapes[name][key] = TensorShape(tuple(about.get_shape()), DTYPES[about.get_dtype()])
    for name, parameter in parameters.items():
        whole = tuple(getattr(parameter, "ds_shape", parameter.shape))
        known = {key: about.shape for key, about in held.entries(parameter).items()}
        differing = [
            key for key, about in shapes[name].items() if known.get(key, about.shape) != about.shape
        ]
        if not shapes[name] and name not in fresh:
            raise _does_not_fit(path, f"{name}, of shape {list(whole)},")
        if differing:
            raise _does_not_fit(path, f"{name}.{differing[0]}")
    return file, shapes


def _write(
    path: Path,
    shapes: Mapping[str, TensorShape],
    values: Callable[[str], Tensor],
    device: torch.device,
    metadata: Mapping[str, str] | None = None,
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
        file = TensorFile(path, shapes, metadata)

    attempt(begin)
    for name in order(shapes):
        whole = values(name)
        attempt(lambda name=name, whole=whole: file and file.write(name, whole))
    attempt(lambda: file and file.finish())  # what is still in memory is written now
    if failure is not None and file is not None:
        file.abandon()
    _fail_together(failure, f"rank 0 could not write {path}", device)


def _open_weights(stack: ExitStack, path: Path, shapes: Mapping[str, TensorShape]) -> Any:
    """A file whose header names these tensors, and no others."""
    file = _open_file(stack, path)
    there = set(file.keys())
    if differing := [*_missing(shapes, there, file), *sorted(there - set(shapes))]:
        raise _does_not_fit(path, differing[0])
    return file


def _open_file(stack: ExitStack, path: Path) -> Any:
    if not path.is_file():
        raise UsageError(
            f"{path} is not there.",
            "An earlier version of ponderloop wrote this checkpoint, or it is incomplete.",
            "Start anew from its weights (ponder train RECIPE --start-from RUN), or go on from "
            "another checkpoint.",
        )
    try:
        return stack.enter_context(safe_open(path, "pt"))
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.",
            "It is damaged or incomplete.",
            "Go on from another checkpoint of the run: they stand in its checkpoints folder.",
        ) from error


def _does_not_fit(path: Path, name: str) -> UsageError:
    return UsageError(
        f"{path} does not fit: {name} is missing on one side, or has another shape there.",
        "Weights and what an optimizer keeps of them belong to one model, and to the parameters of "
        "it that learn.",
        "Resume with the run's own config (ponder train --resume RUN), or use --start-from RUN for "
        "its weights.",
    )


def _missing(shapes: Mapping[str, TensorShape], there: Iterable[str], file: Any) -> Iterator[str]:
    for name, about in shapes.items():
        if name not in there or tuple(file.get_slice(name).get_shape()) != about.shape:
            yield name


def _fail_together(failure: Exception | None, elsewhere: str, device: torch.device) -> None:
    if collectives.any_rank(failure is not None, device):
        raise failure or RuntimeError(elsewhere)
