"""What a language model's text costs: bits a byte with an interval over documents, and where they
go: by place in the document, by kind of token, by document."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from act.models.learned_positions import document_starts
from act.models.looped_model import ModelOutput
from halting.maps.estimate import Estimate, ratio
from halting.maps.token_types import token_types
from training.distributed import collectives
from training.objectives.outcomes import token_losses
from training.tasks.task import Batch, Task

_QUANTILES = (0.1, 0.5, 0.9)
_MARK = "ends of documents"


@dataclass(frozen=True)
class TextRow:
    """A group of the targets.

    Args:
        name: of the group.
        bits_per_byte: all bits of its targets over the bytes that they stand for, with its interval
            of 95 % over documents; nothing where they stand for no bytes.
        bits: a target.
        steps: executed steps of the tokens that predict them, mean.
        targets: how many.
    """

    name: str
    bits_per_byte: Estimate
    bits: float
    steps: float
    targets: int

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "bits_per_byte": asdict(self.bits_per_byte)}


class TextLosses:
    """The loss of each target, beside what it is of. Batches add up; `over_ranks` joins ranks.

    Args:
        task: whose targets stand for text.
        split: that is read.
    """

    def __init__(self, task: Task, split: str):
        self.task = task
        self.split = split
        self._parts: list[NDArray[np.float64]] = []

    def add(self, output: ModelOutput, batch: Batch, first: int) -> None:
        """One batch.

        Args:
            output: what the model said.
            batch: the examples.
            first: the number of the first of them.
        """
        targets = batch.targets
        text = self.task.target_bytes(self.split, targets)
        if text is None:
            return
        if output.answers is None:
            losses = token_losses(output.logits, targets)
        else:
            losses = output.answers.losses
        own = self.task.document_numbers(self.split, first, len(targets))
        if own is None:  # a row is a document
            own = first + torch.arange(len(targets)).unsqueeze(1).expand(targets.shape)
        fields = (losses, text, own, places(batch), targets, output.trace.steps)
        asked = batch.has_target
        rows = [each.to(asked.device)[asked].double().cpu().numpy() for each in fields]
        self._parts.append(np.stack(rows))

    def over_ranks(self) -> "TextLosses":
        """Those of all ranks; called by all."""
        whole = TextLosses(self.task, self.split)
        whole._parts = [
            part for parts in collectives.all_gather_object(self._parts) for part in parts
        ]
        return whole

    def whole(self) -> TextRow | None:
        """All targets; None where there is no text."""
        if not self._parts:
            return None
        return self._row("all", np.ones(self._columns.shape[1], dtype=bool))

    def by_position(self) -> list[TextRow]:
        """By how many tokens of its own document a token sees before itself: 0, 1, 2 to 3, 4 to 7
        and so on."""
        if not self._parts:
            return []
        place = self._columns[3]
        octave = np.where(place > 0, np.floor(np.log2(np.maximum(place, 1))) + 1, 0).astype(int)
        rows = []
        for number in np.unique(octave).tolist():
            low, high = (0, 0) if number == 0 else (2 ** (number - 1), 2**number - 1)
            name = str(low) if low == high else f"{low} to {high}"
            rows.append(self._row(name, octave == number))
        return rows

    def by_type(self) -> list[TextRow]:
        """By what the target is made of (`halting.maps.token_types`), the most frequent first."""
        if not self._parts:
            return []
        kinds = np.array(types_of_vocabulary(self.task))
        found = kinds[self._columns[4].astype(int)]
        names, counts = np.unique(found, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [self._row(str(names[each]), found == names[each]) for each in order]

    def by_document(self) -> dict[str, float]:
        """How documents differ: their number, and the bits a byte of the 10th, the 50th and the
        90th of each hundred, the cheapest first."""
        if not self._parts:
            return {}
        nats, text = self._sums(np.ones(self._columns.shape[1], dtype=bool))
        has = text > 0
        bits = nats[has] / text[has] / math.log(2)
        found = {"documents": float(len(bits))}
        if len(bits):
            found |= {
                f"at {share:.0%}": float(np.quantile(bits, share, method="inverted_cdf"))
                for share in _QUANTILES
            }
        return found

    def figures(self) -> dict[str, Any]:
        """All of it as JSON values; empty where there is no text."""
        whole = self.whole()
        if whole is None:
            return {}
        return {
            "all": whole.values(),
            "by_position": [row.values() for row in self.by_position()],
            "by_type": [row.values() for row in self.by_type()],
            "by_document": self.by_document(),
        }

    @property
    def _columns(self) -> NDArray[np.float64]:
        """[6 T]: nats, bytes, document, place, target, steps."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts, axis=1)]
        return self._parts[0]

    def _sums(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[K] nats and bytes of the chosen targets in each document."""
        nats, text, document = self._columns[:3, chosen]
        _, inverse = np.unique(document, return_inverse=True)
        of_each = np.zeros((2, inverse.max(initial=-1) + 1))
        np.add.at(of_each, (slice(None), inverse), np.stack((nats, text)))
        return of_each[0], of_each[1]

    def _row(self, name: str, chosen: NDArray[np.bool_]) -> TextRow:
        nats, text = self._sums(chosen)
        bits = self._columns[0, chosen] / math.log(2)
        return TextRow(
            name,
            _pooled(nats / math.log(2), text),
            float(bits.mean()),
            float(self._columns[5, chosen].mean()),
            int(chosen.sum()),
        )


def _pooled(bits: NDArray[np.float64], text: NDArray[np.float64]) -> Estimate:
    """Σ bits / Σ bytes. A document whose targets stand for no bytes has bits all the same: they
    count in the figure, and to the interval it adds nothing to divide by."""
    if text.sum() <= 0:
        return Estimate(None)
    silent = bits[text <= 0].sum()
    found = ratio(bits, text)
    shift = float(silent / text.sum())
    assert found.value is not None
    if found.low is None or found.high is None:
        return Estimate(found.value + shift)
    return Estimate(found.value + shift, found.low + shift, found.high + shift)


def places(batch: Batch) -> Tensor:
    """[B L] int64: how many tokens of its own document stand before each in its row."""
    length = batch.targets.shape[1]
    where = torch.arange(length, device=batch.targets.device).expand(batch.targets.shape)
    if batch.documents is None:
        return where
    return where - document_starts(batch.documents)


def types_of_vocabulary(task: Task) -> list[str]:
    """[V] the type of each token; what ends a document is one of its own."""
    texts = task.decode(list(range(task.vocab_size)))
    kinds = token_types(texts)
    return [_MARK if text == "<end>" else kind for text, kind in zip(texts, kinds, strict=True)]
