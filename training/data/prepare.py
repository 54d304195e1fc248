"""From a corpus to a folder of tokens: read it once, decide, learn a vocabulary, read it again and
write; a command that was killed goes on."""

import contextlib
import errno
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from halting.errors import UsageError
from training.console.amounts import counted, in_bytes, short_number
from training.console.output_files import FULL, cannot_write
from training.console.printable import check_visible
from training.console.screen import Screen, clock
from training.data.manifest import FORMAT, MANIFEST, TOKENIZER, Manifest, digest_of
from training.data.pieces import Place, pieces
from training.data.sample import SAMPLE, Sample
from training.data.scan import RECORD, scan
from training.data.segments import Reading
from training.data.sources import Source, find_sources
from training.data.splitting import SPLITS, Plan, Shares, plan
from training.data.token_writer import FILES, TokenWriter, smallest_dtype
from training.data.tokenizer import Bytes, Tokenizer, bpe_size, of_values, read_tokenizer, train_bpe
from training.data.work_folder import (
    appear,
    check_output,
    clear,
    locked,
    read_values,
    sha256,
    write_values,
)
from training.data.workers import encode_pieces

_REQUEST = "request.json"
_PLAN = "plan.json"
_PROGRESS = "progress.json"
_RECORDS = "records"
_DECISIONS = "decisions"
_VERSION = 1
"""Of how documents are read, cut, hashed and split: unfinished work of another one is not gone on
with."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        corpora: files, folders, patterns, names of data sets.
        out: the folder to make.
        tokenizer: "bytes", "bpe:8192", or the path of a tokenizer.json.
        reading: how files are read.
        shares: of the splits.
        sample: bytes that a vocabulary is learned from.
        seed: of that sample.
    """

    corpora: tuple[str, ...]
    out: Path
    tokenizer: str = "bytes"
    reading: Reading = field(default_factory=Reading)
    shares: Shares = field(default_factory=Shares)
    sample: int = SAMPLE
    seed: int = 0

    def values(self) -> dict[str, Any]:
        """What unfinished work has to have been asked for too."""
        found = asdict(self)
        del found["out"]
        found["corpora"] = list(self.corpora)
        found["shares"] = list(self.shares.values)
        found["version"] = _VERSION
        return found


def prepare(
    request: Request,
    screen: Screen,
    *,
    workers: int = 1,
    overwrite: bool = False,
    save_seconds: float = 5.0,
) -> Manifest:
    """Makes the folder, which appears when all is written. Until then its work lies beside it, in
    FOLDER.unfinished; the same request goes on there, and ends with the same bytes as one that was
    never interrupted.

    Args:
        request: what is asked for.
        screen: to tell how far it is.
        workers: processes that make tokens.
        overwrite: a folder of tokens that is there is replaced, and so is unfinished work of
            another request, or of files that have changed since.
        save_seconds: how often what is written is brought to the disk.

    Raises:
        UsageError: for a corpus that cannot be read or is too small, an output that is there, and
            a disk that is full.
    """
    check_visible("--out", str(request.out))
    check_output(request.out, overwrite)
    work = request.out.with_name(f"{request.out.name}.unfinished")
    sources = find_sources(request.corpora)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with locked(work):
            return _Preparation(
                request, sources, work, screen, workers, overwrite, save_seconds
            ).run()
    except KeyboardInterrupt:
        screen.say(f"\nstopped; the same command goes on from what is in {work}", always=True)
        raise
    except OSError as error:
        if error.errno in (*FULL, errno.EFBIG):
            refused = cannot_write(request.out, error)
            raise UsageError(
                refused.what,
                f"What is done so far is kept in {work}.",
                f"{refused.write} Then write the same command again; it goes on.",
            ) from None
        raise cannot_write(request.out, error) from None


class _Preparation:
    """One preparation.

    Args:
        request: what is asked for.
        sources: the files that are meant.
        work: the folder to work in.
        screen, workers, overwrite, save_seconds: as `prepare` takes them.
    """

    def __init__(
        self,
        request: Request,
        sources: list[Source],
        work: Path,
        screen: Screen,
        workers: int,
        overwrite: bool,
        save_seconds: float,
    ):
        self.request = request
        self.sources = sources
        self.work = work
        self.screen = screen
        self.workers = workers
        self.overwrite = overwrite
        self.save_seconds = save_seconds

    def run(self) -> Manifest:
        self._check_request()
        about = read_values(self.work / _PLAN)
        if about is not None and self._changed(about):
            clear(self.work)
            self._check_request()
            about = None
        if about is None:
            about = self._scan()
        else:
            self.screen.say(f"going on in {self.work}")
        tokenizer = of_values(about["tokenizer"])
        exact = self._write(about, tokenizer)
        return self._finish(about, tokenizer, exact)

    def _check_request(self) -> None:
        path = self.work / _REQUEST
        values = self.request.values() | {"sources": [asdict(each) for each in self.sources]}
        values = json.loads(json.dumps(values))
        there = read_values(path)
        if there is not None and there != values and self.overwrite:
            clear(self.work)
        elif there is not None and there != values:
            differing = [name for name in values if there.get(name) != values[name]]
            raise UsageError(
                f"{self.work} holds unfinished work of another command: it differs in "
                f"{', '.join(differing)}.",
                "Only the same command goes on with it.",
                "Write that command again, or --overwrite to begin anew, or another --out.",
            )
        write_values(path, values)

    def _scan(self) -> dict[str, Any]:
        """Reads everything once; decides; learns the vocabulary."""
        request = self.request
        size = bpe_size(request.tokenizer)
        tokenizer = self._given_tokenizer() if size is None else None
        sample = None if size is None else Sample(request.sample, request.seed)
        whole = sum(source.size for source in self.sources)
        begun = time.monotonic()

        def progress(behind: int) -> None:
            self._progress("reading", behind, whole, begun)

        found, kept = scan(
            self.sources, request.reading, self.work / _RECORDS, sample, request.shares, progress
        )
        if not found.documents or not found.size:
            raise UsageError(
                "The corpus holds no text.",
                "It has to hold a document with a byte in it."
                + "".join(f" Left out: {line}" for line in found.left_out[:3]),
                "Write files, or folders of files, with text in UTF-8.",
            )
        self.screen.say(
            f"read {counted(len(kept), 'file')}, {counted(found.documents, 'document')}, "
            f"{in_bytes(found.size)} of text"
        )
        for line in found.left_out[:5]:
            self.screen.warn(f"left out: {line}")
        if len(found.left_out) > 5:
            self.screen.warn(f"left out: {len(found.left_out) - 5} more files")
        records = np.memmap(self.work / _RECORDS, RECORD, "r", shape=(found.documents,))
        planned = plan(records, request.shares, self.work / _DECISIONS)
        del records
        self._tell(planned)
        if tokenizer is None:
            assert size is not None and sample is not None
            texts = sample.take()
            self.screen.progress(f"learning {size} tokens from {counted(len(texts), 'text')}")
            tokenizer = train_bpe(texts, size)
            self.screen.say(f"learned a vocabulary of {tokenizer.vocab_size:,} tokens")
        about = {
            "sources": [asdict(source) for source in kept],
            "inputs": found.inputs,
            "left_out": len(found.left_out),
            "documents": found.documents,
            "plan": asdict(planned),
            "tokenizer": tokenizer.values(),
        }
        write_values(self.work / _PLAN, about)
        return json.loads(json.dumps(about))

    def _given_tokenizer(self) -> Tokenizer:
        asked = self.request.tokenizer
        return Bytes() if asked == "bytes" else read_tokenizer(Path(asked).expanduser())

    def _tell(self, planned: Plan) -> None:
        if planned.duplicates or planned.empty:
            self.screen.say(
                f"dropped {counted(planned.duplicates, 'exact duplicate')} and "
                f"{counted(planned.empty, 'empty document')}"
            )
        if planned.cuts is not None:
            self.screen.say(
                "too few documents to give each split its share: the texts are cut, one after the "
                f"other, after {in_bytes(planned.cuts[0])} and {in_bytes(planned.cuts[1])}"
            )

    def _changed(self, about: dict[str, Any]) -> bool:
        """Whether a file has changed since it was read first, which only `overwrite` allows."""
        for values, entry in zip(about["sources"], about["inputs"], strict=True):
            if Source(**values).stamp != entry["stamp"]:
                if self.overwrite:
                    return True
                raise UsageError(
                    f"{entry['path']} has changed since its documents were counted.",
                    "Which split they belong to was decided by what they held then.",
                    "Bring it back as it was, or write --overwrite to begin anew.",
                )
        return False

    def _write(self, about: dict[str, Any], tokenizer: Tokenizer) -> bool:
        """Reads everything again and writes the tokens; gives whether bytes are exact."""
        planned = Plan(**about["plan"])
        if planned.cuts is not None:
            planned = replace(planned, cuts=(planned.cuts[0], planned.cuts[1]))
        sources = [Source(**values) for values in about["sources"]]
        decisions = np.memmap(self.work / _DECISIONS, np.uint8, "r", shape=(about["documents"],))
        state = read_values(self.work / _PROGRESS) or {"writer": None, "place": {}, "exact": True}
        place = Place(**state["place"])
        exact = state["exact"]
        dtype = smallest_dtype(tokenizer.vocab_size)
        writer = TokenWriter(self.work, dtype, tokenizer.mark, state["writer"])
        begun = saved = time.monotonic()
        start = place.kept
        stream = pieces(sources, self.request.reading, decisions, planned, place)
        workers = 1 if isinstance(tokenizer, Bytes) else self.workers
        with contextlib.closing(encode_pieces(stream, tokenizer, dtype, workers)) as encoded:
            for block, result in encoded:
                for piece, tokens in zip(block, result.tokens, strict=True):
                    writer.add(piece.split, piece.first, tokens, len(piece.text))
                exact = exact and result.exact
                after = block[-1].after
                assert after is not None
                place = after
                self._progress("writing", place.kept, planned.size, begun, start)
                if time.monotonic() - saved >= self.save_seconds:
                    self._save(writer, place, exact)
                    saved = time.monotonic()
        self._save(writer, place, exact)
        writer.close(whole=True)
        self.counts = writer.counts
        return exact

    def _save(self, writer: TokenWriter, place: Place, exact: bool) -> None:
        values = {"writer": writer.save(), "place": asdict(place), "exact": exact}
        write_values(self.work / _PROGRESS, values)

    def _finish(self, about: dict[str, Any], tokenizer: Tokenizer, exact: bool) -> Manifest:
        request = self.request
        told: dict[str, Any] = {"kind": "bytes", "exact_bytes": exact}
        if not isinstance(tokenizer, Bytes):
            values = tokenizer.values()
            (self.work / TOKENIZER).write_text(values["json"], encoding="utf-8")
            told = {
                "kind": "tokenizers",
                "name": tokenizer.name,
                "file": TOKENIZER,
                "sha256": sha256(self.work / TOKENIZER),
                "exact_bytes": exact,
            }
        splits = {}
        for split, counts in zip(SPLITS, self.counts, strict=True):
            files = {}
            for name, form in FILES.items():
                path = self.work / form.format(split=split)
                self.screen.progress(f"taking the digest of {path.name}")
                files[name] = {
                    "name": path.name,
                    "bytes": path.stat().st_size,
                    "sha256": sha256(path),
                }
            splits[split] = {
                "documents": counts.documents,
                "tokens": counts.tokens,
                "bytes": counts.bytes,
                "files": files,
            }
        values = {
            "format": FORMAT,
            "dtype": smallest_dtype(tokenizer.vocab_size).name,
            "vocabulary": tokenizer.vocab_size,
            "mark": tokenizer.mark,
            "tokenizer": told,
            "splits": splits,
            "split_by": "document" if about["plan"]["cuts"] is None else "cuts",
            "documents": about["documents"],
            "duplicates": about["plan"]["duplicates"],
            "empty": about["plan"]["empty"],
            "left_out": about["left_out"],
            "inputs": [
                {name: value for name, value in entry.items() if name != "stamp"}
                for entry in about["inputs"]
            ],
            "asked": {
                name: value
                for name, value in request.values().items()
                if name not in ("corpora", "version")
            },
        }
        values["digest"] = digest_of(values)
        write_values(self.work / MANIFEST, values)
        appear(self.work, request.out)
        return Manifest(values)

    def _progress(self, what: str, behind: int, whole: int, begun: float, start: int = 0) -> None:
        if not self.screen.live:
            return
        seconds = max(1e-3, time.monotonic() - begun)
        rate = (behind - start) / seconds
        left = f"  eta {clock((whole - behind) / rate)}" if whole and rate else ""
        share = f" {min(1.0, behind / whole):4.0%}" if whole else ""
        self.screen.progress(f"{what}{share}  {in_bytes(behind)}  {short_number(rate)}B/s{left}")
