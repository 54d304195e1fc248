"""Whether a block lets the sequences of a batch see one another. None may: what a model says of a
sequence, and what it learns from it, would depend on its neighbours."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from act.blocks.block import LoopBlock
from act.blocks.plain import PlainBlock
from act.caches.cache import FunctionalCache
from act.context import NO_CONTEXT, LoopContext
from act.slots import Slots
from halting.errors import UsageError

TOLERANCE = 1e-3
"""Of the largest number: what a change of another sequence may change by another rounding."""
_PLAIN = (Tensor, nn.Parameter)


def differ(first: Tensor, second: Tensor) -> bool:
    """Whether two results differ by more than rounding."""
    scale = float(first.abs().max()) or 1.0
    tolerance = max(TOLERANCE, 8 * torch.finfo(first.dtype).eps)
    return not bool(((first - second).abs() <= tolerance * scale).all())


def block_name(block: LoopBlock) -> str:
    """What its user calls it."""
    return type(block.module if isinstance(block, PlainBlock) else block).__name__


def check_batch_independence(
    block: LoopBlock,
    length: int,
    dim: int,
    like: Tensor,
    context: LoopContext = NO_CONTEXT,
) -> None:
    """Runs one step of a block, in the mode that it is in, on two sequences: once more with another
    second one.

    The block is not touched: copies step, with the same weights. (A weight that is zero all over,
    as at the end of a residual branch that starts as nothing, is not so in the copies.) Random
    numbers are afterwards what they were.

    Args:
        block: any; whatever it raises is raised.
        length: L >= 1, of the sequences.
        dim: D.
        like: says the dtype and the device.
        context: of two sequences, where the block reads one.

    Raises:
        UsageError: for one that mixes them.
    """
    with undisturbed(like.device), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        x, other = torch.randn(2, 2, length, dim, generator=generator).to(like).unbind()
        weights = {id(each): _not_zero(each) for each in block.parameters()}
        first, second = (
            _stepped(copy.deepcopy(block, dict(weights)), given, context)[0]
            for given in (x, torch.stack((x[0], other[1])))
        )
        mixes = differ(first, second)
    if mixes:
        raise UsageError(
            f"The block {block_name(block)} mixes the sequences of a batch"
            f"{' in training mode' if block.training else ''}.",
            "A sequence's states changed when another sequence of the batch did, so what a model "
            "says would depend on its neighbours.",
            "Have it take [B L D]: layers of torch.nn want batch_first=True "
            "(--model.batch-first); normalise over the width, never over the batch.",
        )


class FirstLook:
    """`check_batch_independence` before the first batch [B L D] of a loop in training, and before
    the first in evaluation.

    Attributes:
        seen: the modes (`block.training`) in which there was one.
    """

    def __init__(self) -> None:
        self.seen: set[bool] = set()

    def at(self, block: LoopBlock, x: Tensor, context: LoopContext = NO_CONTEXT) -> None:
        """Looks, unless it has, or the block says that it is `batch_independent`. Where it cannot
        be told, nothing is said: of a block that fails here (it will say so by itself), of one
        whose weights an engine holds, and under transformations of PyTorch.

        Raises:
            UsageError: for a block that mixes sequences.
        """
        if block.batch_independent or block.training in self.seen:
            return
        self.seen.add(block.training)
        if block.collective or not x.numel() or type(x) not in _PLAIN or _is_held(block):
            return
        pair = [0, min(1, x.shape[0] - 1)]
        try:
            check_batch_independence(block, x.shape[1], x.shape[2], x, context.rows(pair))
        except UsageError as error:
            if "mixes the sequences" in error.what:
                raise
        except Exception:  # noqa: BLE001 - the block says by itself what it cannot do
            return


def _is_held(block: LoopBlock) -> bool:
    """Whether an engine has partitioned or wrapped its weights, or it has none yet."""
    return any(
        each.is_meta or type(each) is not nn.Parameter or hasattr(each, "ds_id")
        for each in block.parameters()
    )


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Draws that nobody misses: of torch, on the CPU and on a device, and of Python."""
    drawn = random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(drawn)


def _stepped(block: LoopBlock, x: Tensor, context: LoopContext) -> Tensor:
    torch.default_generator.manual_seed(0)
    if x.is_cuda:
        torch.cuda.default_generators[x.device.index].manual_seed(0)
    random.seed(0)
    flat = x.flatten(0, 1)
    step = block.step(flat, flat, Slots.everywhere(x), FunctionalCache(None), context)
    return step.state.view(x.shape)


def _not_zero(weight: nn.Parameter) -> nn.Parameter:
    if bool(weight.detach().any()):
        return weight
    return nn.Parameter(torch.randn_like(weight), requires_grad=weight.requires_grad)
