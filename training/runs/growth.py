"""How a ponder map grew: maps of the same few examples, recorded while a run trains and kept in its
folder."""

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.terminal import map as terminal
from training.config.run_config import RunConfig
from training.console.screen import Screen
from training.distributed import collectives
from training.engine.engine import Engine
from training.runs.recording import about_run, record_map
from training.tasks.task import Task

FOLDER = "growth"
MAP_EXAMPLES = 64
"""Sequences of the map that a run ends with."""
_MOST_TOKENS = 4096
_MOST_LOGITS = (
    2**27
)  # half a gigabyte of float32: beyond it, what each step would have said is not recorded
_MOST_MAPS = 64
_NAME = re.compile(r"update-(\d+)\.json")
_SHOWN_TOKENS = 64


class Growth:
    """The maps of one run, `growth/update-000500.npz` and `.json`.

    They are of the first test examples, as the map is that the run ends with: looked at, never
    trained on, and nothing is chosen by them. As many as have 4,096 positions together, at most 64.
    Where there come to be more than 64 maps, every second one goes.

    Args:
        config: of the run.
        engine: runs the model.
        task: what it learns.
        folder: the run folder.
        update: updates done; maps of later ones, which a killed run left behind its last
            checkpoint, are removed.
        warn: told of a map that cannot be kept.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        task: Task,
        folder: Path,
        update: int,
        warn: Callable[[str], None] = lambda text: None,
    ):
        self.config = config
        self.engine = engine
        self.task = task
        self.home = folder
        self.warn = warn
        self.size = min(
            MAP_EXAMPLES, config.evaluation.test_examples, max(1, _MOST_TOKENS // task.max_length)
        )
        if collectives.rank() == 0:
            for late, path in _found(folder):
                if late > update:
                    with contextlib.suppress(OSError):  # a map too many is only left out
                        _remove(path)

    def record(self, update: int) -> PonderMap:
        """The map at this moment; called by all ranks, as under ZeRO-3 a forward pass is something
        that they do together. The first writes it."""
        found = record(self.config, self.engine, self.task, self.home.name, self.size, update)
        if collectives.rank() == 0:
            try:
                self._keep(found, update)
            except OSError as error:  # nothing is learned from it
                self.warn(f"the map of update {update} is not kept: {error.strerror}")
        return found

    def _keep(self, found: PonderMap, update: int) -> None:
        (self.home / FOLDER).mkdir(exist_ok=True)  # in a run folder that is there
        found.save(self.home / FOLDER / f"update-{update:06d}")
        kept = _found(self.home)
        if len(kept) > _MOST_MAPS:
            for _, path in kept[1:-1:2]:
                _remove(path)


@torch.no_grad()
def record(
    config: RunConfig, engine: Engine, task: Task, name: str, size: int, update: int
) -> PonderMap:
    """The map of the first test examples, in evaluation mode; called by all ranks. What training
    draws next stays as it is.

    Args:
        config: of the run.
        engine: runs the model.
        task: what it learns.
        name: of the run's folder.
        size: how many examples.
        update: updates done.
    """
    recurrence = engine.model.recurrence
    device = engine.device
    was_training = engine.model.training
    batch = task.batch("test", 0, size)
    lens = (
        math.prod((int(batch.valid.sum()), recurrence.max_steps, task.vocab_size)) <= _MOST_LOGITS
    )
    engine.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        found = record_map(
            lambda given: engine.forward(given, record_lens=lens),
            recurrence.rule,
            task,
            batch.to(device),
            recurrence.max_steps,
            {**about_run(config, name), "update": update},
        )
    if was_training:
        engine.train()
    return found


def read_growth(folder: Path) -> tuple[list[PonderMap], list[str]]:
    """The maps of a run folder, oldest first, and what is wrong with those that cannot be read."""
    maps = []
    wrong = []
    for _, path in _found(folder):
        try:
            maps.append(PonderMap.load(path))
        except UsageError as error:
            wrong.append(str(error))
    return maps, wrong


def grown(final: PonderMap, maps: list[PonderMap]) -> tuple[PonderMap, list[PonderMap]]:
    """The final map cut to the examples of those before it, and these without any of other examples
    (of a run whose task was changed when it went on) or later than it.

    Args:
        final: the map that the run ended with.
        maps: of the first of its examples, oldest first.
    """
    last = final.metadata.get("update", math.inf)
    fits = [
        each
        for each in maps
        if each.metadata.get("update", 0) < last and _starts_alike(each, final)
    ]
    if not fits:
        return final, []
    size = min(each.num_sequences for each in fits)
    return final.select(slice(size)), [each.select(slice(size)) for each in fits]


def _starts_alike(before: PonderMap, final: PonderMap) -> bool:
    size = before.num_sequences
    if size > final.num_sequences or before.valid.shape[1] != final.valid.shape[1]:
        return False
    start = final.select(slice(size))
    return bool((before.tokens == start.tokens).all()) and before.texts == start.texts


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Update and path of each, oldest first."""
    paths = (folder / FOLDER).glob("update-*.json")
    return sorted((int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name)))


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".npz")):
        each.unlink(missing_ok=True)


def show_fixed_example(found: PonderMap, screen: Screen) -> None:
    """The first sequence of a map, on the first rank's screen."""
    if screen.out is None:
        return
    one = found.sequence(0).first_tokens(_SHOWN_TOKENS)
    text = terminal.render(
        one,
        1,
        width=screen.width,
        colour=screen.colour,
        ascii_only=not screen.unicode,
        heading=False,
    )
    screen.say(text + "\n")
