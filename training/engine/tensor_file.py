"""Tensors in a file that `safetensors` reads, written one at a time: the header says where each
will stand."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
from torch import Tensor

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What the format calls each dtype."""

DTYPES = {code: dtype for dtype, code in _CODES.items()}
"""The dtype that the format means."""


@dataclass(frozen=True)
class TensorShape:
    """What is known of a tensor before its values are.

    Args:
        shape: whole, even where ranks hold shards.
        dtype: of its elements.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def num_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class TensorFile:
    """A safetensors file as it is written.

    The bytes follow from names, shapes and values alone: they are those of
    `safetensors.torch.save_file`, which needs all tensors at once. It appears
    under its name when it is whole.

    Args:
        path: where; its folder is there.
        shapes: what will be written, by name. `order` says in which order.
        metadata: texts beside the tensors, by name.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, TensorShape],
        metadata: Mapping[str, str] | None = None,
    ):
        self._shapes = shapes
        self._expected = iter(order(shapes))
        self._path = path
        self._beside = path.with_name(f".{path.name}")
        self._file: IO[bytes] = self._beside.open("wb")
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        start = 0
        for name in order(shapes):
            about = shapes[name]
            end = start + about.num_bytes
            header[name] = {
                "dtype": _CODES[about.dtype],
                "shape": list(about.shape),
                "data_offsets": [start, end],
            }
            start = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # so that the numbers after it are aligned
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, values: Tensor) -> None:
        """The next tensor."""
        about = self._shapes[name]
        assert name == next(self._expected), "tensors come in the order of `order`"
        assert (tuple(values.shape), values.dtype) == (about.shape, about.dtype), (
            f"{name} is not as announced"
        )
        flat = values.detach().cpu().contiguous().reshape(-1)
        self._file.write(flat.view(torch.uint8).numpy().data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def finish(self) -> None:
        """The file stands under its name."""
        assert next(self._expected, None) is None, "a tensor was announced and not written"
        self._file.close()
        self._beside.replace(self._path)

    def abandon(self) -> None:
        """Nothing is left of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._beside.unlink(missing_ok=True)


def order(shapes: Mapping[str, TensorShape]) -> list[str]:
    """Names in the order of the file: large elements before small ones, so that each is aligned,
    then by name."""
    return sorted(shapes, key=lambda name: (-shapes[name].dtype.itemsize, name))
