"""Anybody's module as the looped block."""

import inspect

from torch import Tensor, nn

from act.blocks.block import LoopBlock
from act.caches.cache import KeyValueCache
from act.context import ALL_FIELDS, NO_CONTEXT, LoopContext
from act.slots import Slots
from halting.errors import UsageError


class PlainBlock(LoopBlock):
    """Anybody's module from [B L D] to [B L D] as a looped block, on the dense path only: at each
    step it sees every position, those of halted tokens as their frozen states (as in the Universal
    Transformer paper), padding as zeros.

    Args:
        module: called as module(x); it must not mix sequences, which the loop looks at in the first
            batch.
        causal: its output at a position depends on earlier positions only.
        positionwise: it does not mix positions at all, so padding cannot reach anybody.
        padding_argument: the keyword under which it takes a [B L] bool mask that is True on
            padding; None finds out whether it has one named as PyTorch's layers have it
            ("src_key_padding_mask", "key_padding_mask").
        context_argument: the keyword under which it takes the run's `LoopContext`; it then reads
            whatever is given there.

    Raises:
        UsageError: for a layer of torch.nn with batch_first=False, its default; in a batch with
            padding, for a module that is neither position-wise nor takes a mask.
    """

    packable = False

    def __init__(
        self,
        module: nn.Module,
        causal: bool = False,
        positionwise: bool = False,
        padding_argument: str | None = None,
        context_argument: str | None = None,
    ):
        super().__init__()
        check_batch_first(module)
        self.module = module
        self.causal = causal
        self.positionwise = positionwise
        self.padding_argument = padding_argument or _padding_argument(module)
        self.context_argument = context_argument
        if context_argument is not None:
            self.reads_context = ALL_FIELDS
        elif positionwise:
            self.reads_context = ("documents",)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        x = entering.view(slots.batch, slots.length, -1)  # [B L D]
        given = {} if self.context_argument is None else {self.context_argument: context}
        if cache.visible is None or self.positionwise:
            return self.module(x, **given).flatten(0, 1), cache
        if self.padding_argument is None:
            raise UsageError(
                f"PlainBlock({type(self.module).__name__}) got a batch with padding.",
                "It would let real tokens look at padding, for it is given no mask.",
                "Name the module's mask, PlainBlock(module, "
                "padding_argument='src_key_padding_mask'), say that it mixes no positions, "
                "PlainBlock(module, positionwise=True), or pass sequences of one length.",
            )
        given = {**given, self.padding_argument: ~cache.visible}
        return self.module(x, **given).flatten(0, 1), cache


def check_batch_first(module: nn.Module) -> None:
    """Refuses layers of torch.nn that would take the batch for the sequence, also inside other
    modules of torch.nn. (A module of somebody's own may turn the two before and after.)

    Raises:
        UsageError: for such a layer.
    """
    layer = _takes_batch_second(module)
    if layer is None:
        return
    name = type(layer).__name__
    raise UsageError(
        f"PlainBlock({type(module).__name__}) mixes the sequences of a batch: {name} has "
        "batch_first=False, the default of torch.nn.",
        "It takes [L B D], and is given [B L D]: a token would see those at the same position in "
        "other sequences, and none of its own.",
        f"Write {name}(..., batch_first=True) (--model.batch-first).",
    )


def _takes_batch_second(module: nn.Module) -> nn.Module | None:
    """The layer of torch.nn whose constructor has to be told otherwise."""
    if not type(module).__module__.startswith("torch.nn."):
        return None
    if getattr(module, "batch_first", True) is False:
        return module
    found = next(filter(None, map(_takes_batch_second, module.children())), None)
    told_here = "batch_first" in inspect.signature(type(module)).parameters
    return module if found is not None and told_here else found


def _padding_argument(module: nn.Module) -> str | None:
    known = ("src_key_padding_mask", "key_padding_mask")
    taken = inspect.signature(module.forward).parameters
    return next((name for name in known if name in taken), None)
