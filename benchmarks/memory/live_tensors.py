"""Bytes of tensors that are held at a moment, whoever holds them: the model, autograd, DeepSpeed.
Exact."""

import gc
from collections.abc import Iterable

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """While entered, notes the memory of every tensor that an operation makes in this thread,
    backward passes on a CPU included, without keeping it. (The profiler's own count misses what
    another thread lets go of, as gloo's do.)

    Args:
        but: tensors whose memory does not count, such as weights that were there before.
    """

    def __init__(self, but: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}
        self.but = {tensor.untyped_storage()._cdata for tensor in but}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self._note(tensor)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        kept = self.made.get(storage._cdata)
        if kept is None or kept[0].expired() or kept[1] != storage.nbytes():
            self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())

    def bytes(self) -> int:
        """What is held now; cycles that nobody reaches are cleared away before."""
        gc.collect()
        self.made = {key: (at, size) for key, (at, size) in self.made.items() if not at.expired()}
        return sum(size for key, (_, size) in self.made.items() if key not in self.but)
