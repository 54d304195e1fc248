"""The texts of JSON lines, of Parquet files and of data sets of the hub, with their places."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.console.text_fault import first_fault
from training.data.sources import DATASETS

_ROWS = 64
"""Rows of a Parquet file that are in memory at once."""


def text_of_line(line: bytes, place: str, field: str) -> str:
    """The text in a line of JSON.

    Args:
        line: UTF-8.
        place: file and line, for messages.
        field: whose value it is.

    Raises:
        UsageError: for what is not UTF-8, not JSON, no object, and where the field is missing or no
            text.
    """
    try:
        found = json.loads(line)
    except UnicodeDecodeError:
        fault = first_fault(line)
        assert fault is not None
        path, _, _ = place.rpartition(", line ")
        what = f"{place} is not text in UTF-8 from its byte {fault.offset} (0x{fault.byte:02x}) on."
        raise UsageError(what, fault.looks_like, fault.remedy_for(Path(path))) from None
    except (ValueError, RecursionError) as error:
        says = "nested too deeply" if isinstance(error, RecursionError) else _says(error, line)
        raise UsageError(
            f"{place} is not JSON: {says}.",
            "Each line of such a file is one JSON object, which holds one document.",
            "Mend or drop that line; a plain text should be named .txt.",
        ) from None
    if not isinstance(found, dict):
        raise UsageError(
            f"{place} is no JSON object: {_short(found)}.",
            "A document is the value of one of an object's fields.",
            f'Write lines such as {{"{field}": "…"}}.',
        )
    return _value(found, field, place)


def rows_of_parquet(path: str, field: str, digest: Any) -> Iterator[tuple[str, str]]:
    """The texts of a Parquet file's column, a few rows at a time, with their places.

    Raises:
        UsageError: for what is no Parquet file, and where the column is missing or holds no texts.
    """
    # Late: an extra.
    from pyarrow import ArrowException, parquet

    if digest is not None:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    try:
        with parquet.ParquetFile(path) as file:
            if field not in file.schema_arrow.names:
                raise _missing(path, field, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
                for text in batch.column(0).to_pylist():
                    place = f"{path}, row {number}"
                    yield place, _text(text, field, place)
                    number += 1
    except ArrowException as error:
        raise UsageError(
            f"{path} is no Parquet file: {str(error).splitlines()[0]}",
            "By its name it should be one.",
            "Fetch it again, or name it as what it is.",
        ) from None


def rows_of_dataset(name: str, field: str, digest: Any) -> Iterator[tuple[str, str]]:
    """The texts of a data set of the hub, fetched as they are read, with their places.

    Args:
        name: "datasets:NAME", with "@CONFIGURATION" and ":SPLIT" (train if left out) where wanted.
        field: the column.
        digest: gets all texts.

    Raises:
        UsageError: where it cannot be fetched, and where the column is missing or holds no texts.
    """
    # Late: an extra.
    import datasets  # pyright: ignore[reportMissingImports]

    where, _, split = name.removeprefix(DATASETS).partition(":")
    parts = where.split("@")
    try:
        rows = datasets.load_dataset(*parts, split=split or "train", streaming=True)
        for number, row in enumerate(rows):
            place = f"{name}, row {number}"
            text = _value(row, field, place)
            if digest is not None:
                digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
            yield place, text
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 (fetching fails in a hundred ways)
        raise UsageError(
            f"{name} cannot be read: {type(error).__name__}: {error}",
            "It is what datasets.load_dataset says.",
            "Write datasets:NAME, datasets:NAME@CONFIGURATION or datasets:NAME:SPLIT, such as "
            "datasets:Salesforce/wikitext@wikitext-2-raw-v1:train.",
        ) from None


def _value(found: Any, field: str, place: str) -> str:
    if field not in found:
        raise _missing(place, field, list(found))
    return _text(found[field], field, place)


def _text(value: object, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise UsageError(
            f"{place}: its {field} is {_short(value)}.",
            "A document is a text.",
            "Write --field with the name of the texts, or mend that place.",
        )
    return value


def _missing(place: str, field: str, there: list[str]) -> UsageError:
    names = ", ".join(there[:8]) or "nothing"
    return UsageError(
        f"{place} has no {field}; it has {names}.",
        f"--field says which value is the text: {field}.",
        f"Write --field {there[0] if there else 'NAME'}, or whichever holds the texts.",
    )


def _says(error: Exception, line: bytes) -> str:
    says = str(error)
    if isinstance(error, json.JSONDecodeError):
        says = f"{error.msg} at character {error.pos}"
        if not line.rstrip().endswith(b"}"):
            says += "; the line may be cut off"
    return says


def _short(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
