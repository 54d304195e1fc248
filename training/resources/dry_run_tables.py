"""The tables of a dry run about memory and communication."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.console.amounts import counted, in_bytes
from training.console.table import aligned
from training.resources.communication_volume import CommunicationVolume
from training.resources.zero_memory import RankMemory

_INDENT = "  "


@dataclass(frozen=True)
class Activations:
    """Estimated bytes of one backward pass on a rank, if no token halts.

    Args:
        full, checkpointed: by the kind of backprop.
        is_checkpointed: which of the two it would be.
    """

    full: int
    checkpointed: int
    is_checkpointed: bool

    @property
    def bytes(self) -> int:
        """Of the run."""
        return self.checkpointed if self.is_checkpointed else self.full


def memory_table(memory: Sequence[RankMemory], own: RankMemory, peaks: Sequence[int]) -> str:
    """What each way to share needs on a rank."""
    head = ["memory per rank", "weights", "gradients", "AdamW", "other", "held", "peak"]
    rows = []
    for each, peak in zip(memory, peaks, strict=True):
        parts = (each.weights, each.gradients, each.optimizer + each.copy, each.buffers, each.held)
        name = f"{each.sharing.name}{' *' if each is own else ''}"
        rows.append([_INDENT + name, *(in_bytes(part) if part else "-" for part in (*parts, peak))])
    lines = [
        aligned(head, rows),
        f"{_INDENT}* this run. held: before the update; AdamW with its copy of the weights",
        f"{_INDENT}peak: with activations, communication buffers, what is gathered, and",
        f"{_INDENT}AdamW's temporary tensors",
    ]
    if any(each.on_cpu for each in memory):
        low = [each for each in memory if each.on_cpu]
        lines += [
            f"{_INDENT}of {each.sharing.name}, {in_bytes(each.on_cpu)} lie on the CPU"
            for each in low
        ]
    return "\n".join(lines)


def activation_table(
    own: RankMemory, found: Activations, sequences: int, length: int, max_steps: int
) -> str:
    """Activations by the kind of backprop, and what the run's own way to share needs with them."""
    rows = []
    for name, count, checkpointed in (
        ("full", found.full, False),
        ("checkpointed", found.checkpointed, True),
    ):
        mark = " *" if checkpointed == found.is_checkpointed else ""
        rows.append([f"{_INDENT}{name} backprop{mark}", in_bytes(count), in_bytes(own.peak(count))])
    title = f"activations of {counted(sequences, 'sequence')} x {length:,}"
    note = f"{_INDENT}if no token halts before step {max_steps}; attention without its L x L matrix"
    return "\n".join([aligned([title, "estimate", f"peak, {own.sharing.name}"], rows), note])


def traffic_table(found: Sequence[CommunicationVolume], own: RankMemory) -> str:
    """What a rank sends for one update; a row a stage."""
    rows = []
    for each in found:
        mark = " *" if each.sharing.stage == own.sharing.stage else ""
        parts = (each.gradients, each.weights, each.sent)
        rows.append(
            [
                f"{_INDENT}ZeRO-{each.sharing.stage}{mark}",
                *(in_bytes(part) if part else "-" for part in parts),
            ]
        )
    head = ["sent per update and rank", "gradients", "weights", "sum"]
    return "\n".join(
        [
            aligned(head, rows),
            f"{_INDENT}however many steps: the looped block is gathered once for all",
        ]
    )
