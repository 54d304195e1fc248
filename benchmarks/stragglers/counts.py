"""Step counts of sequences as a training met them, with what each way to deal would have expected:
recorded, kept."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.updates import UpdatesAlone
from training.build import build_all
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.screen import Screen
from training.distributed.dealing import (
    BatchBalancer,
    ByDifficulty,
    ByLength,
    ByPonder,
    Predictor,
    RankBatches,
)
from training.engine.local import LocalEngine
from training.recipes.load import load_recipe
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics
from training.tasks.task import Batch

_EVERY = 4  # updates between two that are kept


@dataclass(frozen=True)
class Counts:
    """One entry a sequence, in the order of training.

    Args:
        update: when it was trained on.
        updates: of the whole training, [1].
        steps: executed token-steps, in training mode.
        length, difficulty, ponder: what these predictors expected beforehand; difficulty is NaN
            where there is none.
    """

    update: NDArray
    updates: NDArray
    steps: NDArray
    length: NDArray
    difficulty: NDArray
    ponder: NDArray

    def last(self, share: float) -> "Counts":
        """Those of the last part of the training."""
        chosen = self.update >= (1 - share) * self.updates[0]
        return Counts(
            **{
                name: value if name == "updates" else value[chosen]
                for name, value in vars(self).items()
            }
        )

    @property
    def spread(self) -> float:
        """Standard deviation of a sequence's token-steps ÷ their mean."""
        return float(self.steps.std() / self.steps.mean())


def counts_of(recipe: str, path: Path | None, *, quick: bool, again: bool) -> Counts:
    """The counts of a recipe, from the file where they are kept, else from a training of some
    minutes.

    The counts are data, like those of a published trace: other code doesn't make them wrong, so
    they are recorded again only where that is asked for.

    Args:
        recipe: its name.
        path: of the file; None: nothing is kept.
        quick: 60 updates.
        again: record them although they are there.
    """
    if path is not None and path.exists() and not again:
        with np.load(path) as kept:
            return Counts(**{field.name: kept[field.name] for field in fields(Counts)})
    shorter = {"updates": 60} if quick else {}
    config = RunConfig(**{**load_recipe(recipe).model_dump(), **shorter, "threads": 1})
    found = record(config)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **vars(found))
    return found


def record(config: RunConfig) -> Counts:
    """Trains in this process and on one thread, and keeps the counts of every fourth update."""
    torch.set_num_threads(1)
    config = config.model_copy(update={"eval_every": 10**6, "save_every": 10**6})
    built = build_all(config)
    predictors: list[Predictor | None] = [ByLength(), None, ByPonder(built.task)]
    if built.task.difficulty_name is not None:
        predictors[1] = ByDifficulty(built.task)
    engine = LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        training = UpdatesAlone(
            TrainingContext(
                config, built, engine, Path(folder), Metrics(None), Screen(None), Progress()
            )
        )
        training.balancer = balancer = _Listening(training.balancer, predictors)
        ended = training.run()
    assert ended.reason == "finished", ended
    expected = [np.concatenate(column) for column in zip(*balancer.expected, strict=True)]
    update = np.repeat(np.arange(len(balancer.steps)) * _EVERY, config.batch_size)
    return Counts(
        update.astype(np.int32),
        np.array([config.updates]),
        np.concatenate(balancer.steps).astype(np.int32),
        *(column.astype(np.float32) for column in expected),
    )


class _Listening(BatchBalancer):
    """Deals by order, and keeps what predictors expect and what then is executed."""

    def __init__(self, balancer: BatchBalancer, predictors: Sequence[Predictor | None]):
        super().__init__(balancer.task, None, balancer.micro_batches, balancer.size)
        self.predictors = predictors
        self.number = 0
        self.steps: list[NDArray] = []
        self.expected: list[list[NDArray]] = []

    def batches(self, first: int, device: torch.device) -> RankBatches:
        given = super().batches(first, device)
        if self.number % _EVERY == 0:
            unknown = torch.full((self.size,), torch.nan)
            (batch,) = given.batches
            self.expected.append(
                [
                    (unknown if each is None else each.costs(batch)).numpy()
                    for each in self.predictors
                ]
            )
        return given

    def count(self, batch: Batch, steps: Tensor) -> None:
        if self.number % _EVERY == 0:
            self.steps.append((steps * batch.valid).sum(1).numpy())
        self.number += 1
        for each in self.predictors:
            if each is not None:
                each.learn(each.count(batch, steps))
