"""What a block reads at every step beside the states of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from act.segments import Segments
from halting.errors import UsageError


@dataclass(frozen=True)
class LoopContext:
    """What a run is conditioned on; all of it optional, and the same at every step.

    `Slots.take` and `Slots.take_rows` pick the values of a call's slots. A block names the fields
    that it goes by in `LoopBlock.reads_context`; the loop refuses any other.

    Args:
        memory: [B M D], other sequences to cross-attend to, such as an encoder's output.
        memory_valid: [B M] bool, True where the memory holds something; None when all of it does.
        noise_level: [B], of each sequence, for denoisers.
        documents: [B S] int64, which document each position belongs to, where several are packed
            into one row: tokens see those of their own document alone. S = L, or the capacity of
            the cache that is decoded with.
        extra: anything else, by name.
    """

    memory: Float[Tensor, "B M D"] | None = None
    memory_valid: Bool[Tensor, "B M"] | None = None
    noise_level: Float[Tensor, " B"] | None = None
    documents: Int[Tensor, "B S"] | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def segments(self) -> Segments | None:
        """The documents, as attention is cut at them; made once for all blocks and steps of a run,
        and anew where the numbers were written to since."""
        if self.documents is None:
            return None
        kept = self.__dict__.get("_segments")
        if not isinstance(kept, Segments) or not kept.current:
            kept = Segments(self.documents)
            self.__dict__["_segments"] = kept
        return kept

    @property
    def given(self) -> dict[str, Tensor]:
        """What there is, by the name of its field; what is in `extra` as "extra.NAME"."""
        named = {
            "memory": self.memory,
            "memory_valid": self.memory_valid,
            "noise_level": self.noise_level,
            "documents": self.documents,
            **{f"extra.{name}": value for name, value in self.extra.items()},
        }
        return {name: value for name, value in named.items() if value is not None}

    def rows(self, numbers: list[int]) -> "LoopContext":
        """What is given for some sequences of the batch."""

        def chosen(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[numbers]

        return LoopContext(
            memory=chosen(self.memory),
            memory_valid=chosen(self.memory_valid),
            noise_level=chosen(self.noise_level),
            documents=chosen(self.documents),
            extra={name: value[numbers] for name, value in self.extra.items()},
        )

    def check(self, batch: int, reads: tuple[str, ...], block: str) -> None:
        """Refuses what the block does not read, and what does not belong to a batch of `batch`
        sequences.

        Raises:
            UsageError: for a field that is not among `reads`, and for a tensor whose first
                dimension is not the batch.
        """
        for name, value in self.given.items():
            if name.partition(".")[0] not in reads:
                known = f"It reads {' and '.join(reads)}." if reads else "It reads no context."
                raise UsageError(
                    f"{block} was given a context with {name}, which it does not read.",
                    f"It would be ignored in silence. {known}",
                    f"Leave {name} out, or name it in the block's reads_context and read it in "
                    "its step.",
                )
            if value.shape[:1] != (batch,):
                raise UsageError(
                    f"context.{name} has shape {tuple(value.shape)}, for a batch of {batch} "
                    "sequences.",
                    "Its first dimension is the batch: each sequence has its own.",
                    f"Pass a tensor of shape ({batch}, ...).",
                )
        if self.documents is not None and (
            self.documents.is_floating_point() or self.documents.dtype == torch.bool
        ):
            raise UsageError(
                f"context.documents has dtype {str(self.documents.dtype).removeprefix('torch.')}.",
                "It counts documents, and tokens of equal number see each other.",
                "Pass whole numbers, such as an int64 tensor.",
            )


NO_CONTEXT = LoopContext()
"""A run that is conditioned on nothing."""

ALL_FIELDS = ("memory", "memory_valid", "noise_level", "documents", "extra")
"""What `LoopBlock.reads_context` may name."""
