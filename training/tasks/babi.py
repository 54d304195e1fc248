"""bAbI: questions about short stories, and how many facts each takes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from halting.errors import UsageError
from training.console.amounts import counted, in_bytes
from training.tasks.babi_stories import Question, Stories, find_folder, read_stories
from training.tasks.data_identity import DataIdentity
from training.tasks.draws import Draws
from training.tasks.kept_data import KeptData
from training.tasks.options import require_at_least
from training.tasks.task import IGNORE, SPLITS, Batch, Task

_QUESTION = "?"


class _Vocabulary(BaseModel):
    """Words and answers by number, as a run keeps them."""

    answers: list[str]
    words: list[str]
    most_words: int


@dataclass(frozen=True)
class _Reading:
    """The files, read.

    Args:
        stories: of each task.
        pools: the questions of each split that fit, a list a task.
        identity: of the files.
    """

    stories: dict[int, Stories]
    pools: dict[str, list[list[Question]]]
    identity: DataIdentity


class Babi(Task):
    """Questions of the bAbI tasks (Weston et al. 2015): a position reads one sentence, the last one
    the question, and there the answer is asked. Difficulty is the number of supporting facts, for
    every position of the story.

    As in the Universal Transformer's experiment (Dehghani et al. 2018, section 3.1) a fact is one
    position. There its words' embeddings are weighted by place and summed; here a sentence is the
    vector that marks each word at its place, whose linear map is a sum of embeddings that depend on
    word and place.

    The published test questions are not read. Training, validation and test are 80, 10 and 10 of a
    hundred stories of the training files, all questions of a story in one of them. An example is a
    random question of a random one of the `tasks`, so that tasks with few questions count as much
    as others. Questions after more facts than fit are left out.

    Args:
        folder: where the files lie; None: the variable PONDER_BABI, or shared/data/babi near the
            current directory.
        tasks: which of the twenty.
        length: L, the most sentences of an example, the question among them.
        seed: of the choice of questions.
        kept_data: of the run that is read back: words and answers are its own, and the files, read
            once an example is asked for, have to be the same.

    Raises:
        UsageError: for files that are not there, tasks that do not exist, and a length that leaves
            a task too little.
    """

    difficulty_name = "supporting facts"
    path_options = ("folder",)

    def __init__(
        self,
        folder: str | None = None,
        tasks: tuple[int, ...] = (1, 2, 3),
        length: int = 64,
        seed: int = 0,
        kept_data: KeptData | None = None,
    ):
        require_at_least(2, "length", length, "A question needs a fact before it.")
        if not tasks or len(set(tasks)) < len(tasks) or not set(tasks) <= set(range(1, 21)):
            raise UsageError(
                f"--data.kinds {' '.join(map(str, tasks))}.",
                "bAbI has the tasks 1 to 20.",
                "Write some, such as 1 2 3.",
            )
        self.tasks = tasks
        self.max_length = length
        self.seed = seed
        self.folder = folder
        self.kept_data = kept_data
        known = self._read_vocabulary() if kept_data is None else _kept_vocabulary(kept_data)
        self.answers = known.answers
        self.words = known.words
        self.most_words = known.most_words
        self.vocab_size = len(self.answers)
        self.size = self.vector_size = self.most_words * len(self.words)

    def identity(self) -> DataIdentity:
        return self._reading.identity

    def vocabulary(self) -> Any:
        return {"answers": self.answers, "words": self.words, "most_words": self.most_words}

    def says(self) -> str:
        identity = self._reading.identity
        questions = sum(len(each.questions) for each in self._reading.stories.values())
        return (
            f"read {counted(len(identity.files), 'file')} of bAbI in {identity.place}, "
            f"{in_bytes(identity.size)}, {questions:,} questions"
        )

    def batch(self, split: str, index: int, size: int) -> Batch:
        draws = Draws(self.seed, split, index, size)
        of_task = draws.integers(len(self.tasks), 1)[:, 0]
        number = draws.bits(1)[:, 0]
        pools = self._reading.pools[split]
        chosen = [
            pools[each][int(bits % np.uint64(len(pools[each])))]
            for each, bits in zip(of_task, number, strict=True)
        ]
        tokens = np.zeros((size, self.max_length, self.size), dtype=np.int64)
        targets = np.full((size, self.max_length), IGNORE)
        valid = np.zeros((size, self.max_length), dtype=bool)
        difficulty = np.full((size, self.max_length), np.nan, dtype=np.float32)
        for row, question in enumerate(chosen):
            sentences = (*question.facts, question.question)
            for place, sentence in enumerate(sentences):
                tokens[row, place, self._marks(sentence)] = 1
            targets[row, len(sentences) - 1] = self._answer_numbers[question.answer]
            valid[row, : len(sentences)] = True
            difficulty[row, : len(sentences)] = question.supporting
        return Batch(*(torch.from_numpy(part) for part in (tokens, targets, valid, difficulty)))

    def encode(self, text: str) -> list[list[int]]:
        """Sentences with full stops, and a question last: "Mary went to the office. Where is Mary?"

        Raises:
            UsageError: for a word that no story has, a sentence that is too long, and a text
                without a question.
        """
        sentences = [
            tuple(part.split())
            for part in text.lower().replace("?", " ?.").replace(",", "").split(".")
        ]
        sentences = [sentence for sentence in sentences if sentence]
        if not sentences or sentences[-1][-1] != _QUESTION:
            raise UsageError(
                f"The text {text!r} does not end with a question.",
                "This task answers one about the sentences before it.",
                "Write sentences with full stops, and a question: Mary went to the office. Where "
                "is Mary?",
            )
        for sentence in sentences:
            if unknown := [word for word in sentence if word not in self._word_numbers]:
                raise UsageError(
                    f"The word {unknown[0]!r} is in no story.",
                    f"The words of the tasks {', '.join(map(str, self.tasks))} are "
                    f"{', '.join(self.words)}.",
                    "Use these.",
                )
            if len(sentence) > self.most_words:
                raise UsageError(
                    f"The sentence {' '.join(sentence)!r} has {len(sentence)} words.",
                    f"The longest that the model knows has {self.most_words}.",
                    "Write a shorter one.",
                )
        vectors = np.zeros((len(sentences), self.size), dtype=np.int64)
        for place, sentence in enumerate(sentences):
            vectors[place, self._marks(sentence)] = 1
        return vectors.tolist()

    def decode(self, tokens: list[int] | list[list[int]]) -> list[str]:
        """An answer; a sentence as its words."""
        return [
            self.answers[each] if isinstance(each, int) else self._sentence(each) for each in tokens
        ]

    def _sentence(self, vector: list[int]) -> str:
        marked = np.flatnonzero(vector)
        return " ".join(self.words[mark % len(self.words)] for mark in marked)

    def _marks(self, sentence: tuple[str, ...]) -> list[int]:
        """Where the vector of a sentence is 1: place of the word · number of words + number of the
        word."""
        return [
            place * len(self.words) + self._word_numbers[word]
            for place, word in enumerate(sentence)
        ]

    @cached_property
    def _word_numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _answer_numbers(self) -> dict[str, int]:
        return {answer: number for number, answer in enumerate(self.answers)}

    @cached_property
    def _reading(self) -> _Reading:
        kept = self.kept_data
        before = kept.identity.place if kept is not None and kept.identity is not None else None
        where = find_folder(self.folder, before)
        stories = {task: read_stories(where, task) for task in self.tasks}
        files = {name: each for read in stories.values() for name, each in read.files.items()}
        identity = DataIdentity(os.path.abspath(where), files)
        if kept is not None:
            kept.check(identity)
            self._check_known(stories)
        pools = {
            split: [self._pool(stories[task].questions, split, task) for task in self.tasks]
            for split in SPLITS
        }
        return _Reading(stories, pools, identity)

    def _read_vocabulary(self) -> _Vocabulary:
        found = [each for read in self._reading.stories.values() for each in read.questions]
        return _Vocabulary(
            answers=sorted({question.answer for question in found}),
            words=sorted({word for sentence in _sentences(found) for word in sentence}),
            most_words=max(map(len, _sentences(found))),
        )

    def _check_known(self, stories: dict[int, Stories]) -> None:
        """Refuses questions that a model of the kept vocabulary cannot read, where changed files
        are allowed."""
        found = [each for read in stories.values() for each in read.questions]
        said = {word for sentence in _sentences(found) for word in sentence}
        new = [*(said - {*self.words}), *({each.answer for each in found} - {*self.answers})]
        if new or max(map(len, _sentences(found))) > self.most_words:
            raise UsageError(
                f"The questions have {min(new)!r} in them."
                if new
                else f"The questions have sentences of more than {self.most_words} words.",
                "The model that was trained on other files has no input or answer for it.",
                "Bring the files back as they were, or train anew.",
            )

    def _pool(self, questions: list[Question], split: str, task: int) -> list[Question]:
        """The questions of a split that fit."""
        pool = [
            each for each in questions if each.split == split and len(each.facts) < self.max_length
        ]
        if not pool:
            raise UsageError(
                f"No {split} question of bAbI's task {task} has fewer than --data.length "
                f"{self.max_length} facts.",
                "An example has at most so many sentences.",
                "Write a larger --data.length, or drop the task.",
            )
        return pool


def _kept_vocabulary(kept: KeptData) -> _Vocabulary:
    try:
        return _Vocabulary.model_validate(kept.vocabulary, strict=True)
    except ValidationError:
        raise UsageError(
            f"What {kept.run} keeps of its data has no vocabulary of bAbI.",
            "The words and answers that the model has learned stand there by number.",
            "Bring its data.json back from a copy; without that file, the stories are read again.",
        ) from None


def _sentences(questions: list[Question]) -> Iterator[tuple[str, ...]]:
    """All that the questions tell and ask."""
    for each in questions:
        yield from (*each.facts, each.question)
