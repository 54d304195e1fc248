"""Bytes that autograd keeps between a forward pass and its backward pass. Exact, so that tests
count them too."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_bytes(make: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Distinct storages that are saved while `make` runs, parameters excluded."""
    known = {each.untyped_storage().data_ptr() for each in parameters}
    found = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage  # held, so that nothing else comes to lie there
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = make()
    del result
    return sum(storage.nbytes() for storage in found.values())
