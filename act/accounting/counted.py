"""What blocks and models that say nothing of themselves cost, counted by torch on a tiny run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from act.blocks.block import LoopBlock
from act.caches.cache import FunctionalCache
from act.layers.saved_numbers import SavedNumbers
from act.models.looped_model import LoopedModel
from act.slots import Slots

_FLOAT = 4
_TOKENS = 16  # of the sequence on which activations are counted


def flops_by_torch(compute: Callable[[], Any]) -> int:
    """FLOPs that torch's FlopCounterMode counts while something runs, with the fused attention of
    CPUs, which it does not know of itself; the backward pass of that as twice the forward one,
    without what the kernel computes again."""
    aten = torch.ops.aten
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: _fused,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_backward,
    }
    counter = FlopCounterMode(display=False, custom_mapping=known)
    with counter:
        compute()
    return counter.get_total_flops()


def counted_block_flops(block: LoopBlock, dim: int, length: int) -> int:
    """FLOPs of a step of one token that attends to `length` keys. Without attention (0) it is what
    is left of one key where a second adds as much again; a block of the dense path computes a
    sequence as a whole, so that nothing is left."""
    if length == 0:
        if not block.packable:
            return 0
        return 2 * counted_block_flops(block, dim, 1) - counted_block_flops(block, dim, 2)
    with _undisturbed(block), torch.no_grad():
        return flops_by_torch(lambda: _one_step(block, dim, length)) // length


def counted_pass_flops(model: LoopedModel, length: int, lens: bool) -> int:
    """FLOPs of one token's forward pass with a single step, in a sequence of `length`; with what
    is read of each step where `lens`."""
    tokens = _nothing(model, length)
    with _undisturbed(model), torch.no_grad():
        return flops_by_torch(lambda: model(tokens, max_steps=1, record_lens=lens)) // length


def counted_block_numbers(block: LoopBlock, dim: int, bf16: bool) -> SavedNumbers:
    """What autograd keeps of one step of one token, as bytes of float32."""
    with _undisturbed(block):
        return _kept(block, bf16, lambda: _one_step(block, dim, _TOKENS), _TOKENS)


def counted_pass_numbers(model: LoopedModel, lens: bool, bf16: bool) -> SavedNumbers:
    """What autograd keeps of one token's forward pass with a single step, as bytes of float32."""
    length = min(_TOKENS, model.max_length or _TOKENS)
    tokens = _nothing(model, length)
    with _undisturbed(model):
        return _kept(model, bf16, lambda: model(tokens, max_steps=1, record_lens=lens), length)


def _kept(module: nn.Module, bf16: bool, compute: Callable[[], Any], tokens: int) -> SavedNumbers:
    """Bytes that autograd keeps while something runs: each storage once, no parameters, and no
    narrow copies of them, which `activation_bytes` counts for itself."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    shapes = {parameter.shape for parameter in module.parameters()}
    kept: dict[int, int] = {}
    alive = []  # or another tensor gets the same place

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        copied = tensor.dtype == torch.bfloat16 and (
            tensor.shape in shapes or tensor.mT.shape in shapes if tensor.dim() == 2 else False
        )
        if storage.data_ptr() not in parameters and not copied:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    device = next(module.parameters()).device.type
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device, torch.bfloat16, enabled=bf16),
    ):
        alive.append(compute())
    return SavedNumbers(wide=sum(kept.values()) // (_FLOAT * tokens))


def _one_step(block: LoopBlock, dim: int, length: int) -> Any:
    parameter = next(block.parameters(), torch.zeros(()))
    x = torch.randn(length, dim, device=parameter.device, dtype=parameter.dtype)
    x = x.requires_grad_(torch.is_grad_enabled())
    slots = Slots.everywhere(x.view(1, length, dim))
    return block.step(x, x, slots, FunctionalCache(None))


def _nothing(model: LoopedModel, length: int) -> Tensor:
    """Tokens (or vectors) of a sequence: all zero."""
    shape = (1, length) if model.vector_size is None else (1, length, model.vector_size)
    return torch.zeros(shape, dtype=torch.int64, device=model.device)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, with attention that torch's counters see, and with draws that nobody
    misses."""
    training = [(each, each.training) for each in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for each, was in training:
            each.training = was


def _fused(queries: torch.Size, keys: torch.Size, *others: Any, **named: Any) -> int:
    return 4 * queries.numel() * keys[-2]


def _fused_backward(
    gradient: torch.Size, queries: torch.Size, keys: torch.Size, *others: Any, **named: Any
) -> int:
    return 2 * _fused(queries, keys)
