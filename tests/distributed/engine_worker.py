"""One rank: trains the tiny model under every ZeRO stage; rank 0 writes what was seen, with the
reference's numbers."""

import copy
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from tiny import (
    BATCH,
    MAX_STEPS,
    Balanced,
    History,
    SureOfItself,
    make_batch,
    make_config,
    make_model,
    share_of_loss,
    train,
)
from torch import Tensor

from act.models import asked_losses
from halting import EveryStep
from training.config.precision import Precision
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, Engine, LocalEngine, start
from training.tasks.task import Batch

DS_CONFIGS = Path(__file__).parent.parent.parent / "ds_configs"
UPDATES, SAVED_AT = 20, 16


@dataclass(frozen=True)
class Reference:
    """What plain PyTorch does with the same global batches: after UPDATES, and one update later."""

    history: History
    engine: LocalEngine
    later: History
    steps: list[list[int]]


def local(precision: Precision = "float32", **options) -> LocalEngine:
    return LocalEngine(
        make_model(**options), make_config("unused").optimizer, torch.device("cpu"), precision
    )


def refer() -> Reference:
    engine = local()
    steps = [
        [engine.forward(rank_rows(rank, make_batch(update))).trace.num_steps for rank in (0, 1)]
        for update in range(8)
    ]
    history = train(engine, range(UPDATES), ranks=2)
    further = copy.deepcopy(engine)
    return Reference(history, engine, train(further, range(UPDATES, UPDATES + 1), ranks=2), steps)


def rank_rows(rank: int, batch: Batch) -> Batch:
    """What a rank gets in the first of two micro-batches."""
    return batch.rows(rank * BATCH // 4, (rank + 1) * BATCH // 4)


def write_config(folder: Path, stage: int) -> Path:
    # Without the threshold, so small a model stays whole on every rank and stage 3 is never
    # exercised.
    section = {"stage": stage, **({"stage3_param_persistence_threshold": 0} if stage == 3 else {})}
    path = folder / f"zero{stage}.json"
    path.write_text(json.dumps({"zero_optimization": section}))
    return path


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float | None:
    """The largest between two state dicts with the same names; None where ours is empty, as on
    other ranks than 0."""
    assert not ours or list(ours) == list(theirs)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) if ours else None


@torch.no_grad()
def evaluated(engine: Engine, reference: Engine) -> dict[str, float]:
    """The largest difference of logits, and of what each step would have said, in evaluation."""
    engine.eval()
    reference.eval()
    rows = rank_rows(collectives.rank(), make_batch(5))  # rank 1 has no token there
    ours, theirs = (each.forward(rows, record_lens=True) for each in (engine, reference))
    engine.train()
    reference.train()
    assert ours.step_logits is not None and theirs.step_logits is not None
    pairs = ((ours.logits, theirs.logits), (ours.step_logits.values, theirs.step_logits.values))
    largest = [float((mine - its).abs().max()) if mine.numel() else 0.0 for mine, its in pairs]
    logits, lens = (max(collectives.all_gather(value, engine.device)) for value in largest)
    return {"logits": logits, "lens": lens}


def skip_bad_gradient(engine: Engine) -> dict:
    """An update in which one rank, in one of two micro-batches, has a gradient that is no
    number."""
    rank, batch, before = collectives.rank(), make_batch(0), engine.weights()
    for micro in range(2):
        share = share_of_loss(engine, batch, 2 * rank, 2, MAX_STEPS)
        engine.backward(share * (torch.nan if (rank, micro) == (1, 0) else 1.0))
    skipped = collectives.all_gather(engine.step(1e-2).skipped, engine.device)
    return {"skipped": skipped, "moved": difference(engine.weights(), before)}


def load_damaged(engine: Engine, folder: Path) -> list[float]:
    """Has rank 1 read from a copy whose end is cut off, as if its own disk had lost it; says which
    ranks noticed."""
    if collectives.rank() == 1:
        copy = folder.with_name(f"{folder.name}-damaged")
        shutil.copytree(folder, copy)
        path, folder = copy / "optimizer.safetensors", copy
        path.write_bytes(path.read_bytes()[:-100])
    before = engine.weights()
    try:
        engine.load(folder)
    except Exception:  # noqa: BLE001 — torch and DeepSpeed raise many kinds
        unchanged = not difference(engine.weights(), before)
        return collectives.all_gather(float(unchanged), engine.device)
    return collectives.all_gather(0.0, engine.device)


def run_stage(folder: Path, stage: int, reference: Reference) -> dict:
    config, saved = make_config(write_config(folder, stage)), folder / f"saved{stage}"
    saved.mkdir(exist_ok=True)
    collectives.barrier()
    engine = DeepSpeedEngine(make_model(), config)
    found: dict = {
        "whole": engine.whole,
        "stage": engine.stage,
        "before": asdict(train(engine, range(SAVED_AT))),
    }
    engine.save(saved)
    found["after"] = asdict(train(engine, range(SAVED_AT, UPDATES)))
    weights = engine.weights()
    found["weights"] = difference(weights, reference.engine.weights())
    found["num_weights"] = collectives.all_gather(len(weights), engine.device)

    resumed = DeepSpeedEngine(make_model(), config)
    resumed.load(saved)
    found["resumed"] = asdict(train(resumed, range(SAVED_AT, UPDATES)))
    found["evaluated"] = evaluated(resumed, reference.engine)
    found["bad_gradient"] = skip_bad_gradient(resumed)
    resumed.save(saved)
    found["later"] = asdict(train(resumed, range(UPDATES, UPDATES + 1)))
    after_skip = DeepSpeedEngine(make_model(), config)
    after_skip.load(saved)
    found["resumed_after_skip"] = asdict(train(after_skip, range(UPDATES, UPDATES + 1)))
    found["damage_noticed"] = load_damaged(resumed, saved)
    return found


def run_optimizer(folder: Path, stage: int, **optimizer) -> dict:
    """Another optimizer than AdamW: trained, and gone on with, also by plain PyTorch."""
    config = make_config(folder / f"zero{stage}.json", optimizer={"clip": 0.5, **optimizer})
    saved = folder / f"{optimizer['kind']}{stage}"
    saved.mkdir(exist_ok=True)
    collectives.barrier()
    engine = DeepSpeedEngine(make_model(), config)
    engine.save(saved)  # before the first step
    fresh = DeepSpeedEngine(make_model(), config)
    fresh.load(saved)
    found: dict = {
        "before": asdict(train(engine, range(4))),
        "fresh": asdict(train(fresh, range(4))),
    }
    collectives.barrier()
    engine.save(saved)
    found["after"] = asdict(train(engine, range(4, 6)))
    resumed = DeepSpeedEngine(make_model(), config)
    resumed.load(saved)
    found["resumed"] = asdict(train(resumed, range(4, 6)))
    alone = LocalEngine(make_model(), config.optimizer, torch.device("cpu"))
    alone.load(saved)
    found["alone"] = asdict(train(alone, range(4, 6), ranks=2))
    reference = LocalEngine(make_model(), config.optimizer, torch.device("cpu"))
    found["reference"] = asdict(train(reference, range(6), ranks=2))
    return found


def run_variant(config_path: Path, precision: Precision = "float32", **options) -> dict:
    reference = local(precision, **options)
    engine = DeepSpeedEngine(make_model(**options), make_config(config_path, precision=precision))
    found: dict = {
        "history": asdict(train(engine, range(6))),
        "reference": asdict(train(reference, range(6), ranks=2)),
    }
    found["weights"] = difference(engine.weights(), reference.weights())
    if precision == "float32":
        found["evaluated"] = evaluated(engine, reference)
    found["buffers"] = {
        name: each.tolist() for name, each in engine.model.recurrence.rule.named_buffers()
    }
    found["score"] = str(engine.forward(make_batch(0).rows(0, 2)).trace.score.dtype)
    return found


def run_asked(zero2: Path, zero3: Path) -> dict:
    """Losses instead of logits, also where each step has its own."""
    asked_losses.LARGE, small = 1, asked_losses.LARGE
    found: dict = {}
    for stage, path, options in (
        ("2", zero2, {}),
        ("3", zero3, {}),
        ("every_step", zero3, {"readout": EveryStep}),
        ("tied", zero3, {"tied": True}),
    ):
        engine = DeepSpeedEngine(make_model(**options), make_config(path))
        found[stage] = asdict(train(engine, range(6)))
    asked_losses.LARGE = small
    return found


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    reference = refer()
    found: dict = {str(stage): run_stage(folder, stage, reference) for stage in range(4)}
    found["reference"] = {
        "history": asdict(reference.history),
        "later": asdict(reference.later),
        "steps": reference.steps,
    }
    found["optimizers"] = {
        f"{kind} {stage}": run_optimizer(folder, stage, kind=kind)
        for kind, stage in (("SGD", 2), ("SGD", 3), ("AdamW", 2), ("Muon", 0))
    }
    zero2, zero3 = folder / "zero2.json", folder / "zero3.json"
    found["tied"] = run_variant(zero3, tied=True)
    found["reads_logits"] = run_variant(zero3, rule=SureOfItself)
    found["every_step"] = run_variant(zero3, readout=EveryStep)
    found["balanced"] = run_variant(zero3, rule=Balanced)
    found["asked"] = run_asked(zero2, zero3)
    found["bf16_zero2"], found["bf16_zero3"] = (
        run_variant(path, "bf16") for path in (zero2, zero3)
    )
    for name in ("zero2_offload", "zero3_offload"):
        found[name] = run_variant(DS_CONFIGS / f"{name}.json")
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main()
