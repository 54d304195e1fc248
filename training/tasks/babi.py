"""bAbI: questions about short stories, and how many facts each takes."""

from functools import cached_property

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.babi_stories import Question, find_folder, read_questions
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import IGNORE, SPLITS, Batch, Task

_QUESTION = "?"


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

    Raises:
        UsageError: for files that are not there, tasks that do not exist, and a length that leaves
            a task too little.
    """

    difficulty_name = "supporting facts"

    def __init__(
        self,
        folder: str | None = None,
        tasks: tuple[int, ...] = (1, 2, 3),
        length: int = 64,
        seed: int = 0,
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
        where = find_folder(folder)
        every = {task: read_questions(where, task) for task in tasks}
        found = [question for of_task in every.values() for question in of_task]
        self.answers = sorted({question.answer for question in found})
        self.words = sorted(
            {
                word
                for each in found
                for sentence in (*each.facts, each.question)
                for word in sentence
            }
        )
        self.most_words = max(
            len(sentence) for each in found for sentence in (*each.facts, each.question)
        )
        self.vocab_size = len(self.answers)
        self.size = self.vector_size = self.most_words * len(self.words)
        self._pools = {
            split: [self._pool(every[task], split, task) for task in tasks] for split in SPLITS
        }

    def batch(self, split: str, index: int, size: int) -> Batch:
        draws = Draws(self.seed, split, index, size)
        of_task = draws.integers(len(self.tasks), 1)[:, 0]
        number = draws.bits(1)[:, 0]
        pools = self._pools[split]
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
