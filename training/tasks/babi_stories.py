"""Reading the bAbI files: questions, each with the facts that were told before it."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from halting.errors import UsageError
from training.console.text_fault import MARK, first_fault
from training.tasks.data_identity import FileDigest
from training.tasks.task import SPLITS

VARIABLE = "PONDER_BABI"
"""The environment variable that names the folder."""
_BESIDE = Path("shared") / "data" / "babi"
_NAME = re.compile(r"qa(\d+)_.*(train|valid).*\.txt")
_WORD = re.compile(r"[a-z0-9]+|\?")
_CUTS = (
    80,
    90,
)  # of a hundred stories: training below the first, validation below the second, test from there on


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        facts: the sentences told before it, as words, without the earlier questions.
        question: its words, the question mark last.
        answer: as written; several answers are one, with commas.
        supporting: how many of the facts it takes to answer.
        task: 1 to 20.
        split: that of its whole story.
    """

    facts: tuple[tuple[str, ...], ...]
    question: tuple[str, ...]
    answer: str
    supporting: int
    task: int
    split: str


@dataclass(frozen=True)
class Stories:
    """What the files of one task hold.

    Args:
        questions: all of them.
        files: the digest of each file, by its path below the folder.
    """

    questions: list[Question]
    files: dict[str, FileDigest]


def find_folder(data: str | None, before: str | None = None) -> Path:
    """The folder of the files: the one named, else that of the variable PONDER_BABI, else
    shared/data/babi beside or above the current directory or the project.

    Args:
        data: the one named.
        before: where a run that is read back found them, for what is nowhere else.

    Raises:
        UsageError: where there is none.
    """
    named = data or os.environ.get(VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if folder.is_dir():
            return folder
        raise UsageError(
            f"{'--data.folder' if data else VARIABLE} {named} is not a folder.",
            "The questions are read from the files of bAbI in it.",
            "Write the folder that holds files such as "
            "en-10k/qa1_single-supporting-fact_train.txt.",
        )
    project = Path(__file__).resolve().parents[2]
    for start in (Path.cwd(), project):
        for place in (start, start.parent):
            if (place / _BESIDE).is_dir():
                return place / _BESIDE
    if before is not None and Path(before).is_dir():
        return Path(before)
    raise UsageError(
        "The files of bAbI are not there.",
        f"They come with no part of this project; {_BESIDE} was looked for beside and above the "
        "current directory.",
        f"Get bAbI tasks 1-20 (v1.2), and write --data.folder FOLDER, or set {VARIABLE}.",
    )


def read_stories(folder: Path, task: int) -> Stories:
    """All questions of a task, from every training and validation file of it below the folder.

    Raises:
        UsageError: where there is no file of that task, one that cannot be read or is no text in
            UTF-8, or one that is not as bAbI's are.
    """
    paths = sorted(path for path in folder.rglob("qa*.txt") if _is_of(path, task))
    if not paths:
        there = sorted(
            {
                int(match[1])
                for path in folder.rglob("qa*.txt")
                if (match := _NAME.fullmatch(path.name))
            }
        )
        raise UsageError(
            f"{folder} has no file of bAbI's task {task}.",
            f"The tasks that it has are {', '.join(map(str, there)) or 'none'}.",
            "Name others with --data.kinds, or another --data.folder.",
        )
    questions: list[Question] = []
    files = {}
    for path in paths:
        data = _read(path)
        files[path.relative_to(folder).as_posix()] = FileDigest.of(data, full=True)
        questions += _of_file(path, data.removeprefix(MARK).decode("utf-8"), task)
    return Stories(questions, files)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            "All training and validation files of a task are read.",
            "Mend its permissions, or write another --data.folder.",
        ) from None
    if (fault := first_fault(data)) is not None:
        raise fault.refusal(str(path), path)
    return data


def _is_of(path: Path, task: int) -> bool:
    match = _NAME.fullmatch(path.name)
    return match is not None and int(match[1]) == task


def _of_file(path: Path, text: str, task: int) -> Iterator[Question]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("1 ") and lines:
            yield from _of_story(lines, path, task)
            lines = []
        if line.strip():
            lines.append(line)
    yield from _of_story(lines, path, task)


def _of_story(lines: list[str], path: Path, task: int) -> Iterator[Question]:
    digest = int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest(), "big") % 100
    split = SPLITS[sum(digest >= cut for cut in _CUTS)]
    facts: dict[int, tuple[str, ...]] = {}
    for line in lines:
        number, _, told = line.partition(" ")
        text, *rest = told.split("\t")
        if not number.isdecimal() or len(rest) not in (0, 2):
            raise UsageError(
                f"{path} has the line {line!r}.",
                "A fact is a number and a sentence; a question has an answer and its supporting "
                "facts behind tabs.",
                "Restore the file as it was published.",
            )
        words = tuple(_WORD.findall(text.lower()))
        if not rest:
            facts[int(number)] = words
            continue
        supporting = {int(each) for each in rest[1].split()}
        yield Question(tuple(facts.values()), words, rest[0].strip(), len(supporting), task, split)
