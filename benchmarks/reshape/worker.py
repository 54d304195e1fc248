"""One rank of `python -m benchmarks.reshape`: trains sources in this number of ranks, or goes on
from them in it."""

import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from training.build import Built, build_all
from training.checkpoints import checkpoint
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.config.sections import OptimizerConfig, Part, PenaltyConfig
from training.console.screen import standard_screen
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, Engine, LocalEngine, start
from training.engine.checkpoint_format import OPTIMIZER, WEIGHTS
from training.loop.loop import Training
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics

SAVED_AT = 4
AGAIN_AT = 8
UPDATES = 12
FOLLOWING = UPDATES - SAVED_AT


@dataclass(frozen=True, order=True)
class Shape:
    """How a run is trained.

    Args:
        ranks: how many.
        stage: ZeRO's; None: plain PyTorch, without DeepSpeed.
    """

    ranks: int
    stage: int | None

    def __str__(self) -> str:
        return "plain PyTorch" if self.stage is None else f"ZeRO {self.stage} on {self.ranks}"

    @property
    def folder(self) -> str:
        return f"{self.ranks}-{'local' if self.stage is None else self.stage}"


PLAIN = Shape(1, None)


class Losses(Metrics):
    """Keeps the losses of a training, and writes nothing."""

    def __init__(self) -> None:
        super().__init__(None)
        self.losses: list[float] = []

    def write(self, kind: str, update: int, **values: Any) -> None:
        if kind == "train":
            self.losses.append(values["loss"])


def config_of(shape: Shape, folder: Path) -> RunConfig:
    """Twelve updates of a small model, the same for any shape: two backward passes each, a penalty
    that warms up."""
    path = None
    if shape.stage is not None:
        # Without the threshold, so small a model stays whole on every rank and stage 3 is never
        # exercised.
        section = {
            "stage": shape.stage,
            **({"stage3_param_persistence_threshold": 0} if shape.stage == 3 else {}),
        }
        path = folder / f"{shape.folder}-{collectives.rank()}.json"
        path.write_text(json.dumps({"zero_optimization": section}), encoding="utf-8")
    return RunConfig.model_validate(
        {
            "recipe": "pointer_chase",
            "data": {"kind": "PointerChase", "options": {"length": 7}},
            "model": {"width": 20, "num_heads": 2, "positions": "learned", "prelude_layers": 1},
            "loop": {"max_steps": 4},
            "updates": UPDATES,
            "batch_size": 12,
            "accumulation": 2,
            "save_every": SAVED_AT,
            "keep_last": UPDATES,
            "eval_every": 10 * UPDATES,
            "eval_examples": 6,
            "optimizer": OptimizerConfig(clip=0.5),
            "schedule": Part(kind="WarmupCosine", options={"warmup": 2}),
            "penalty": PenaltyConfig(value=0.01, warmup=6),
            "deepspeed_config": None if path is None else str(path),
        }
    )


def engine_of(shape: Shape, config: RunConfig, built: Built) -> Engine:
    """A fresh engine of this shape."""
    if shape.stage is None:
        return LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    return DeepSpeedEngine(built.model, config)


def train(
    config: RunConfig, built: Built, engine: Engine, folder: Path, progress: Progress
) -> list[float]:
    """The losses from there to the last update, by the trainer itself; checkpoints go into the
    folder."""
    metrics = Losses()
    Training(
        TrainingContext(config, built, engine, folder, metrics, standard_screen(1), progress)
    ).run()
    return metrics.losses


def made(folder: Path) -> Path:
    """A run folder, made by the first rank; a checkpoint goes into one that is there."""
    if collectives.rank() == 0:
        folder.mkdir(exist_ok=True)
    collectives.barrier()
    return folder


def save_source(shape: Shape, folder: Path) -> None:
    """Trains all updates in one go, with checkpoints on the way; the losses stand in
    losses.json."""
    config = config_of(shape, folder)
    built = build_all(config)
    engine = engine_of(shape, config, built)
    home = made(folder / shape.folder)
    losses = train(config, built, engine, home, Progress())
    if collectives.rank() == 0:
        (home / "losses.json").write_text(json.dumps(losses), encoding="utf-8")
    let_go(engine)


def go_on(source: Shape, target: Shape, folder: Path) -> dict[str, Any]:
    """Loads a source's checkpoint in another shape, and trains to the end; once more from the
    checkpoint that the new shape writes on the way."""
    kept = checkpoint.folder_of(folder / source.folder / "checkpoints", SAVED_AT)
    whole = json.loads((folder / source.folder / "losses.json").read_text(encoding="utf-8"))[
        SAVED_AT:
    ]
    home = made(folder / "target")
    config = config_of(target, folder)
    built = build_all(config)
    engine = engine_of(target, config, built)
    progress = checkpoint.load(kept, engine)
    copy = checkpoint.save(home / "copies", engine, progress, keep_last=1)
    same = all(
        (copy / name).read_bytes() == (kept / name).read_bytes() for name in (WEIGHTS, OPTIMIZER)
    )
    collectives.barrier()
    losses = train(config, built, engine, home, progress)
    progress = checkpoint.load(checkpoint.folder_of(home / "checkpoints", AGAIN_AT), engine)
    again = train(config, built, engine, home, progress)
    let_go(engine)
    collectives.barrier()
    if collectives.rank() == 0:
        shutil.rmtree(home)
    collectives.barrier()
    apart = [abs(ours - theirs) / abs(theirs) for ours, theirs in zip(losses, whole, strict=True)]
    assert all(map(math.isfinite, apart))
    return {
        "from": str(source),
        "to": str(target),
        "first": apart[0],
        "following": max(apart),
        "same_bytes": same,
        "resumable": again == losses[AGAIN_AT - SAVED_AT :],
    }


def let_go(engine: Engine) -> None:
    """Frees what DeepSpeed holds, but stays in the process group."""
    if isinstance(engine, DeepSpeedEngine):
        engine.engine.destroy()


def main(argv: Sequence[str]) -> None:
    """`save FOLDER SHAPES`, or `load FOLDER PAIRS ROWS`: shapes and pairs as JSON, rows go to the
    end of a file."""
    what = argv[0]
    folder = Path(argv[1])
    given = json.loads(argv[2])
    torch.set_num_threads(1)
    start(
        timedelta(seconds=60),
        cpu=True,
        library_log=folder / f"library_log-{collectives.rank()}.log",
    )
    if what == "save":
        for each in given:
            save_source(Shape(**each), folder)
    else:
        for source, target in given:
            row = go_on(Shape(**source), Shape(**target), folder)
            if collectives.rank() == 0:
                with Path(argv[3]).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**row, **json.loads(argv[4])}) + "\n")
    leave(0)


def to_json(given: Sequence[Any]) -> str:
    """Shapes, or pairs of them, for the command line."""
    return json.dumps(
        [
            asdict(each) if isinstance(each, Shape) else [asdict(one) for one in each]
            for each in given
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
