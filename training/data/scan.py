"""The first reading of a corpus: what is in it, a digest of each document, and what a vocabulary is
learned from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halting.errors import UsageError
from training.data.sample import Sample
from training.data.segments import Digest, Reading, segments
from training.data.sources import Source
from training.data.splitting import Shares

RECORD = np.dtype([("digest", "<u8", 2), ("size", "<u8")])
"""What is kept of a document: 128 bits of BLAKE2b, and its bytes."""
_AT_ONCE = 1 << 14


@dataclass
class Scanned:
    """What a corpus holds.

    Args:
        inputs: of each file that is read: path, bytes, SHA-256 and documents; and what changes when
            it does.
        documents: how many, with duplicates and empty ones.
        size: bytes of text.
        left_out: files of folders that are no text, with what they look like.
    """

    inputs: list[dict[str, Any]] = field(default_factory=list)
    documents: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list)


def scan(
    sources: Sequence[Source],
    reading: Reading,
    records: Path,
    sample: Sample | None,
    shares: Shares,
    progress: Callable[[int], None],
) -> tuple[Scanned, list[Source]]:
    """Reads everything once.

    Args:
        sources: the files.
        reading: how.
        records: file to write a `RECORD` of each document to.
        sample: of the texts, to fill. Of documents of one piece it gets those of training alone.
        shares: of the splits.
        progress: is told the bytes of files that are behind.

    Returns:
        What is there, and the files that hold text.

    Raises:
        UsageError: for a file that was named and is not as it should be; those of folders that are
            no text at all are left out.
    """
    found = Scanned()
    kept: list[Source] = []
    behind = 0
    with open(records, "wb") as file:
        for source in sources:
            begin = file.tell()
            before = (found.documents, found.size)
            digest = Digest()
            stamp = source.stamp
            try:
                for record in _documents(source, reading, digest, sample, shares, found):
                    file.write(record)
                    if found.documents % 256 == 0:
                        progress(behind + digest.size)
            except UsageError as error:
                if not (source.found and source.kind == "text"):
                    raise
                file.seek(begin)
                file.truncate()
                found.documents, found.size = before
                found.left_out.append(f"{error.what} {error.why}")
                continue
            behind += digest.size
            progress(behind)
            kept.append(source)
            about = {"path": source.path, "bytes": digest.size, "sha256": digest.text()}
            about["documents"] = found.documents - before[0]
            found.inputs.append({**about, "stamp": stamp})
    return found, kept


def _documents(
    source: Source,
    reading: Reading,
    digest: Digest,
    sample: Sample | None,
    shares: Shares,
    found: Scanned,
) -> Any:
    """A record of each document, as bytes."""
    whole = hashlib.blake2b(digest_size=16)
    size = 0
    for segment in segments(source, reading, digest):
        if segment.first:
            whole = hashlib.blake2b(digest_size=16)
            size = 0
        whole.update(segment.text)
        size += len(segment.text)
        if sample is not None:
            alone = segment.first and segment.last
            if not alone or shares.of_digest(whole.digest()) == 0:
                sample.add(segment)
        if segment.last:
            found.documents += 1
            found.size += size
            yield whole.digest() + size.to_bytes(8, "little")
