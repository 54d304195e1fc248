"""The two files of a ponder map: `.npz` for numbers, `.json` for texts and metadata; never pickle.

Precision on disk, chosen so that a thousand sequences of 256 tokens and 16 steps take less than 40
MB for a vocabulary below 65,000, even where nothing can be compressed: integers and [B L] numbers
are exact; mass is kept to N/131070 and still sums to 1; probabilities to 1/508; scores to one part
in 2048 (to 3e-8 below 6e-5 in size; a score above 65504 brings them all to float32).

Each different text is kept once in the JSON, and its number for every token among the arrays.
"""

import hashlib
import io
import json
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError

SCHEMA_VERSION = 2
MOST_BYTES = 1 << 30
"""Of a file, and of its arrays unpacked: a hundred million token-steps."""
_MASS_UNITS = 65535  # a token's units add up to exactly this many
_PROBABILITY_UNITS = 254  # 255 stands for NaN
# makes integers of at least -100 (which stands for no target) unsigned, so two bytes hold 65,435
_SHIFT = 100
_TEXTS = "text_numbers"
_PROBABILITIES = ("confidence", "target_probability")


@dataclass(frozen=True)
class Contents:
    """What a pair of files holds.

    Args:
        arrays: by name; mass [B L N] must be among them.
        texts: B lists of L, the text of each token.
        metadata: JSON values.
    """

    arrays: dict[str, NDArray[Any]]
    texts: list[list[str]]
    metadata: dict[str, Any]


def write(path: str | Path, contents: Contents) -> None:
    """Writes `<path>.npz` and `<path>.json`, each beside its place and then renamed.

    The JSON holds the digest of its `.npz`, so a pair torn apart between the two renames is refused
    when read.
    """
    packed = io.BytesIO()
    encoded = {name: _encode(name, array) for name, array in contents.arrays.items()}
    distinct = list(dict.fromkeys(text for row in contents.texts for text in row))
    encoded[_TEXTS] = _numbers(contents.texts, distinct, contents.arrays["mass"].shape[:2])
    np.savez_compressed(packed, allow_pickle=False, **encoded)
    record = {
        "schema_version": SCHEMA_VERSION,
        "sizes": dict(
            zip(("sequences", "positions", "steps"), contents.arrays["mass"].shape, strict=True)
        ),
        "arrays": list(encoded),
        "npz_sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        "metadata": contents.metadata,
        "texts": distinct,
    }
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The ponder map's metadata or texts cannot be written as JSON: {error}.",
            "The file beside the arrays is JSON, so that nothing in it can run.",
            "Put strings, finite numbers, lists and dicts into metadata.",
        ) from error
    npz, beside = _paths(path)
    npz.parent.mkdir(parents=True, exist_ok=True)
    parts = {npz: packed.getvalue(), beside: text.encode()}
    partial = {place: place.with_name(f".{place.name}.{os.getpid()}.partial") for place in parts}
    try:
        for place, content in parts.items():
            partial[place].write_bytes(content)
        for place in parts:
            partial[place].replace(place)
    finally:
        for leftover in partial.values():
            leftover.unlink(missing_ok=True)


def read_map(path: str | Path) -> Contents:
    """Reads what `write` wrote; `path` with or without `.npz` or `.json`. Refuses damage by the
    name of the file, and what would take more than `MOST_BYTES` of memory before it is unpacked."""
    npz, beside = _paths(path)
    for place in (npz, beside):
        if not place.is_file():
            raise refusal(place, "there is no such file; a ponder map is a pair of .npz and .json")
        if (size := place.stat().st_size) > MOST_BYTES:
            raise refusal(place, f"it has {size:,} bytes, and {MOST_BYTES:,} are read at most")
    record = _read_record(beside)
    content = npz.read_bytes()
    if hashlib.sha256(content).hexdigest() != record["npz_sha256"]:
        raise refusal(npz, f"it is cut off, changed, or not the partner of {beside.name}")
    try:
        _check_sizes(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {
                name: stored[name] if name == _TEXTS else _decode(name, stored[name])
                for name in stored.files
            }
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise refusal(npz, f"it is not a whole .npz of plain arrays ({error})") from error
    if list(arrays) != record["arrays"] or "mass" not in arrays:
        raise refusal(npz, f"it holds {list(arrays)}, but {beside.name} lists {record['arrays']}")
    if list(record["sizes"].values()) != list(arrays["mass"].shape):
        raise refusal(beside, f"it says {record['sizes']}, but mass is {arrays['mass'].shape}")
    texts = _spelt(arrays, record["texts"], npz)
    return Contents(arrays, texts, record["metadata"])


def _check_sizes(content: bytes) -> None:
    """Raises ValueError for arrays that would unpack to too much, or whose headers announce other
    sizes than what is there: memory is taken by what a header says."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        members = packed.infolist()
        size = sum(member.file_size for member in members)
        if size > MOST_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, and {MOST_BYTES:,} are read at most")
        for member in members:
            with packed.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version > (2, 0):
                    raise ValueError(f"{member.filename} is of a format that no map is written in")
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(file)
                announced = math.prod(shape) * dtype.itemsize
                if min(shape, default=0) < 0 or announced != member.file_size - file.tell():
                    raise ValueError(
                        f"{member.filename} announces {math.prod(shape):,} entries, and has others"
                    )


def refusal(path: str | Path, why: str) -> UsageError:
    """The error for a file that cannot be used."""
    return UsageError(
        f"{path} cannot be read as a ponder map:",
        f"{why}.",
        "Make the map again, or restore both files.",
    )


def _read_record(beside: Path) -> dict[str, Any]:
    """The JSON, with every field there and of its type."""
    try:
        record = json.loads(beside.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refusal(beside, f"it is not JSON ({error})") from error
    if not isinstance(record, dict) or "schema_version" not in record:
        raise refusal(beside, "it has no schema_version")
    version = record["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UsageError(
            f"{beside} has schema version {version!r}.",
            f"This version of ponderloop reads version {SCHEMA_VERSION}.",
            "Make the map again with this version, or read it with the version that wrote it.",
        )
    types = {"sizes": dict, "arrays": list, "npz_sha256": str, "metadata": dict, "texts": list}
    if bad := sorted(
        name for name, kind in types.items() if not isinstance(record.get(name), kind)
    ):
        raise refusal(beside, f"these fields are missing or of a wrong type: {', '.join(bad)}")
    if not all(isinstance(text, str) for text in record["texts"]):
        raise refusal(beside, "texts are not strings")
    return record


def _numbers(
    texts: list[list[str]], distinct: list[str], shape: tuple[int, ...]
) -> NDArray[np.unsignedinteger]:
    """[B L]: which of the distinct texts each token has, in as few bytes as hold it."""
    place = {text: number for number, text in enumerate(distinct)}
    numbers = np.array([place[text] for row in texts for text in row], dtype=np.int64).reshape(
        shape
    )
    return numbers.astype(np.min_scalar_type(max(len(distinct) - 1, 0)))


def _spelt(arrays: dict[str, NDArray[Any]], distinct: list[str], npz: Path) -> list[list[str]]:
    """B lists of L, the text of each token; takes their numbers from the arrays."""
    numbers = arrays.pop(_TEXTS, None)
    if (
        numbers is None
        or numbers.shape != arrays["mass"].shape[:2]
        or not np.issubdtype(numbers.dtype, np.unsignedinteger)
        or numbers.max(initial=0) >= max(len(distinct), 1)
    ):
        raise refusal(npz, "the numbers of its texts don't fit those of the JSON beside")
    return [[distinct[number] for number in row] for row in numbers.tolist()]


def _encode(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array as it lies on disk."""
    if name == "mass":
        units = np.rint(array * _MASS_UNITS).astype(np.int64)
        if units.shape[-1]:
            # What rounding lost goes to the largest entry, so that a token's mass still sums to
            # exactly one.
            lost = np.rint(array.sum(-1)).astype(np.int64) * _MASS_UNITS - units.sum(-1)
            largest = units.argmax(-1)[..., None]
            np.put_along_axis(
                units, largest, np.take_along_axis(units, largest, -1) + lost[..., None], -1
            )
        return units.clip(0, _MASS_UNITS).astype(np.uint16)
    if name in _PROBABILITIES:
        missing = np.isnan(array)
        units = np.rint(np.where(missing, 0, array).clip(0, 1) * _PROBABILITY_UNITS)
        return np.where(missing, 255, units).astype(np.uint8)
    if name == "score":
        largest = np.abs(array[np.isfinite(array)]).max(initial=0)
        return array.astype(np.float16 if largest <= np.finfo(np.float16).max else np.float32)
    if array.dtype == np.int32 and array.min(initial=0) >= -_SHIFT:
        shifted = array.astype(np.int64) + _SHIFT
        return shifted.astype(np.min_scalar_type(int(shifted.max(initial=0))))
    return array


def _decode(name: str, stored: NDArray[Any]) -> NDArray[Any]:
    if name == "mass":
        _require(name, stored, np.uint16)
        return stored.astype(np.float32) / np.float32(_MASS_UNITS)
    if name in _PROBABILITIES:
        _require(name, stored, np.uint8)
        return np.where(stored == 255, np.float32(np.nan), stored / np.float32(_PROBABILITY_UNITS))
    if np.issubdtype(stored.dtype, np.unsignedinteger):
        return (stored.astype(np.int64) - _SHIFT).astype(np.int32)
    return stored


def _require(name: str, stored: NDArray[Any], dtype: type[np.generic]) -> None:
    if stored.dtype != dtype:
        raise ValueError(f"{name} is {stored.dtype}, not {np.dtype(dtype).name}")


def _paths(path: str | Path) -> tuple[Path, Path]:
    """The pair of files. A suffix other than theirs is part of the name, as in `penalty-0.5`."""
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in (".npz", ".json") else stem
    return stem.with_name(stem.name + ".npz"), stem.with_name(stem.name + ".json")
