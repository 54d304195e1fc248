"""What a run measured, as arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MetricArrays(Mapping[str, NDArray[np.float64]]):
    """The numbers of metrics.jsonl by name, each with one value a line, in the order of updates.

    Names are those of TensorBoard: `metrics["train/loss"]`, `metrics["evaluation/accuracy"]`; one
    without a kind is of `train`, so `metrics["loss"]` is the loss of every update.
    `metrics["evaluation/update"]` are the updates at which it was evaluated. A value that is not
    finite, or that a line lacks, is NaN. What is no number (the text of a warning, a table) is left
    out.

    Args:
        lines: of metrics.jsonl.
    """

    def __init__(self, lines: list[dict[str, Any]]):
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            by_kind.setdefault(line["kind"], []).append(line)
        self._arrays = {
            f"{kind}/{name}": np.array([_number(line.get(name)) for line in of_kind])
            for kind, of_kind in by_kind.items()
            for name in dict.fromkeys(name for line in of_kind for name in line)
            if any(_is_number(line.get(name)) for line in of_kind)
        }

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self._arrays[name if "/" in name else f"train/{name}"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"MetricArrays({', '.join(self._arrays)})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else np.nan
