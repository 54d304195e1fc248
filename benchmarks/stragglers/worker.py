"""One of the ranks of `benchmarks.stragglers --measure`: trains by each way in turns, and writes
what it did."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch

from benchmarks.harness.digest import ROOT
from benchmarks.harness.updates import UpdatesAlone
from training.build import build_all
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.screen import Screen
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, start
from training.recipes.load import load_recipe
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics, read_metrics
from training.runs.rank_report import Ranks

WAYS = ("order", "ponder")


def config_of(way: str, updates: int, micro_batch: int) -> RunConfig:
    """Additions of 1 to 63 digits: few sequences a rank, of very unequal cost, and enough to
    compute that it shows."""
    return RunConfig.model_validate(
        {
            **load_recipe("addition").model_dump(),
            "data": {"kind": "Addition", "options": {"digits": 63}},
            "model": {"width": 256, "num_heads": 4, "positions": "learned"},
            "optimizer": {"learning_rate": 5e-4},
            "schedule": {"kind": "WarmupCosine", "options": {"warmup": 0}},
            "updates": updates,
            "batch_size": micro_batch * collectives.world_size(),
            "eval_every": 10**6,
            "save_every": 10**6,
            "deepspeed_config": str(ROOT / "ds_configs" / "zero1.json"),
            "balance_by": way,
        }
    )


class _Listening(Ranks):
    """Keeps each update."""

    def __init__(self, device: torch.device):
        super().__init__(device)
        self.updates: list[tuple[float, float, float]] = []

    @contextmanager
    def update(self) -> Iterator[None]:
        before = (self._steps, self._computing, self._waiting)
        with super().update():
            yield
        steps, computing, waiting = before
        self.updates.append(
            (self._steps - steps, self._computing - computing, self._waiting - waiting)
        )


def main(folder: Path, updates: int, repeats: int, micro_batch: int) -> None:
    """Writes rank-N.json: for each way a list of its repeats, each of which has (token-steps,
    seconds computing, seconds waiting) of every update; and the losses of each way."""
    torch.set_num_threads(1)
    start(timedelta(minutes=10), cpu=True, library_log=folder / f"log-{collectives.rank()}.txt")
    kept: dict = {way: [] for way in WAYS}
    losses: dict = {}
    for _ in range(repeats):
        for way in WAYS:
            config = config_of(way, updates, micro_batch)
            built = build_all(config)
            engine = DeepSpeedEngine(built.model, config)
            with tempfile.TemporaryDirectory() as place:
                metrics = Metrics(Path(place))
                training = UpdatesAlone(
                    TrainingContext(
                        config, built, engine, Path(place), metrics, Screen(None), Progress()
                    )
                )
                training.ranks = listening = _Listening(engine.device)
                training.run()
                metrics.close()
                losses[way] = [line["loss"] for line in read_metrics(Path(place), "train")]
            kept[way].append(listening.updates)
    written = json.dumps({"updates": kept, "losses": losses})
    (folder / f"rank-{collectives.rank()}.json").write_text(written, encoding="utf-8")
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
