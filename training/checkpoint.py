"""Checkpoints: written beside, then renamed, and everything that an exact resume needs is in them."""

import json
import random
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from halting.errors import UsageError
from training import agreement
from training.engine.engine import Engine

_NAME = re.compile(r"update-(\d+)")


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Args:
        update: updates done.
        examples: training examples read, over all ranks: the next update starts at this example.
        train_seconds: spent training, evaluation left out.
        penalty: state of the ponder penalty.
        best: the best validation accuracy so far.
        dealing: what the dealer has learned.
    """

    update: int = 0
    examples: int = 0
    train_seconds: float = 0.0
    penalty: dict | None = None
    best: float = -1.0
    dealing: dict | None = None


def folder_of(checkpoints: Path, update: int) -> Path:
    """Where the checkpoint of an update stands."""
    return checkpoints / f"update-{update:06d}"


def found(checkpoints: Path) -> list[Path]:
    """The finished checkpoints, oldest first."""
    named = [(int(match[1]), path) for path in checkpoints.glob("update-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named) if (path / "progress.json").is_file()]


def save(checkpoints: Path, engine: Engine, progress: Progress, keep_last: int) -> Path:
    """Writes a checkpoint; called by all ranks. It appears under its name only when it is whole, and older ones are
    removed only after that."""
    final = folder_of(checkpoints, progress.update)
    partial = checkpoints / f".partial-{final.name}"
    if agreement.rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    agreement.barrier()
    engine.save(partial)
    write_weights(engine, partial)
    torch.save(_random_state(), partial / f"random-{agreement.rank():04d}.pt")
    agreement.barrier()
    if agreement.rank() == 0:
        about = {**asdict(progress), "ranks": agreement.world_size(), "stage": engine.stage, "shapes": shapes(engine)}
        (partial / "progress.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        for old in found(checkpoints)[: -max(1, keep_last)]:
            shutil.rmtree(old)
    agreement.barrier()
    return final


def has_finite_weights(engine: Engine) -> bool:
    """Whether every weight is finite, on all ranks; each looks at what it holds."""
    held = [getattr(parameter, "ds_tensor", parameter) for parameter in engine.model.parameters()]
    broken = not all(bool(tensor.detach().isfinite().all()) for tensor in held)
    return not agreement.any_rank(broken, engine.device)


def write_weights(engine: Engine, folder: Path) -> None:
    """Writes `model.safetensors`, whole even where parameters are sharded; called by all ranks."""
    weights = engine.weights()
    if agreement.rank() == 0:
        # Cloned, because tied parameters share their storage, and the format holds each name for itself.
        save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors")


def load(folder: Path, engine: Engine) -> Progress:
    """Restores engine and random state; gives the progress. Called by all ranks.

    Raises:
        UsageError: for a checkpoint of another model, or of another number of ranks or ZeRO stage.
    """
    about = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    ranks, stage, saved = about.pop("ranks"), about.pop("stage"), about.pop("shapes")
    refuse_other_model(saved, shapes(engine), folder)
    if (ranks, stage) != (agreement.world_size(), engine.stage):
        raise UsageError(
            f"{folder} was written by {ranks} rank(s) at ZeRO stage {stage}; this is {agreement.world_size()} rank(s) "
            f"at stage {engine.stage}.",
            "Optimizer state is sharded by rank and stage, and an exact resume needs the same.",
            f"Start {ranks} rank(s) with the ds_config of the first run.",
        )
    engine.load(folder)
    _restore_random_state(torch.load(folder / f"random-{agreement.rank():04d}.pt", weights_only=True))
    return Progress(**about)


def shapes(engine: Engine) -> dict[str, list[int]]:
    """The name and shape of every parameter, whole even where it is sharded."""
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in engine.model.named_parameters()}


def refuse_other_model(saved: dict[str, list[int]], wanted: dict[str, list[int]], source: Path) -> None:
    """Raises UsageError naming the first parameter in which a checkpoint and a model differ."""
    for name in sorted({*saved, *wanted}):
        if saved.get(name) != wanted.get(name):
            raise UsageError(
                f"{source} is of another model: parameter {name} is {saved.get(name, 'missing')} there and "
                f"{wanted.get(name, 'missing')} here.",
                "Its weights cannot be put into this one.",
                "Resume with the run's own config (ponder train --resume RUN), or train from scratch.",
            )


def _random_state() -> dict:
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), python_gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, words, python_gauss = state["python"]
    random.setstate((version, tuple(words), python_gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
