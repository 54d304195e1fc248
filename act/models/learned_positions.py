"""Which row of a table of learned positions each token reads."""

import torch
from jaxtyping import Int
from torch import Tensor

from act.slots import Slots


def learned_positions(
    slots: Slots,
    positions: Int[Tensor, "B L"] | None,
    documents: Int[Tensor, "B S"] | None,
) -> tuple[Int[Tensor, "B L"] | Int[Tensor, " L"], int]:
    """Where each token stands, counted from 0 at its sequence's beginning, or where documents are
    packed into one at its document's; and one more than the largest of them.

    Args:
        slots: the valid tokens.
        positions: where each stands in the cache that is decoded with; 0 .. L − 1 unless given.
            Anything on padding.
        documents: of each position, S = L or the cache's capacity. A document is a run of equal
            numbers.
    """
    device = slots.index.device
    where: Tensor = torch.arange(slots.length, device=device)
    longest = slots.length
    if positions is not None:
        flat = torch.zeros(slots.batch * slots.length, dtype=torch.int64, device=device)
        where = flat.index_copy(0, slots.index, slots.position).view(slots.batch, slots.length)
        longest = int(slots.position.max()) + 1 if len(slots) else 0
    if documents is not None:
        where = where.expand(slots.batch, slots.length)
        where = where - document_starts(documents).gather(1, where)
        longest = int(where.flatten()[slots.index].max()) + 1 if len(slots) else 0
    return where, longest


def document_starts(documents: Int[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """Where in its row the document of each position begins."""
    where = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return torch.where(begins, where, 0).cummax(1).values
