"""One rank: trains the tiny model in 16 bits under every ZeRO stage; rank 0 writes what was seen,
with the reference's numbers."""

import json
import sys
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent.parent / "training"))
from damaged import MarkedVectors, damaging  # pyright: ignore[reportMissingImports] — lies beside the local tests
from engine_worker import DS_CONFIGS, local, write_config
from tiny import (
    BATCH,
    MAX_STEPS,
    History,
    make_batch,
    make_config,
    make_model,
    share_of_loss,
    train,
)
from torch import Tensor

import training.loop.loop
from benchmarks.precision.halting_replay import NarrowOperations
from halting import Memory, StepDecision, StepView, StickBreaking
from training.build import build_all
from training.checkpoints.progress import Progress
from training.config.precision import Precision
from training.console.screen import Screen
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, Engine, start
from training.engine.loss_scale import LossScale
from training.objectives import CrossEntropy
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics

UPDATES, SAVED_AT = 9, 6
LOW = LossScale(scale=2.0**10, window=4)
"""Low enough for every gradient here, and raised soon."""


class Breaking(StickBreaking):
    """Has an ordinary linear layer, which autocast would narrow anywhere else."""

    def __init__(self) -> None:
        super().__init__(16)


def watched(engine: Engine, updates: range, ranks: int | None = None) -> dict:
    """Losses and norms of each update, and the loss scale after it."""
    scales, history = [], History([], [])
    for update in updates:
        now = train(engine, range(update, update + 1), ranks=ranks)
        history = History(history.losses + now.losses, history.norms + now.norms)
        scales.append(engine.scale)
    return {**asdict(history), "scales": scales}


def make_engine(path: Path, precision: Precision) -> DeepSpeedEngine:
    engine = DeepSpeedEngine(make_model(), make_config(path, precision=precision))
    lower_scale(engine)
    return engine


def lower_scale(engine: Engine) -> None:
    if engine.loss_scale is not None:
        engine.loss_scale.scale, engine.loss_scale.window = LOW.scale, LOW.window


def run(folder: Path, path: Path, precision: Precision) -> dict:
    """Trains, saves, goes on; and goes on from the checkpoint."""
    saved = folder / f"saved-{path.stem}-{precision}"
    saved.mkdir(exist_ok=True)
    collectives.barrier()
    engine = make_engine(path, precision)
    found: dict = {"before": watched(engine, range(SAVED_AT))}
    engine.save(saved)
    found["after"] = watched(engine, range(SAVED_AT, UPDATES))
    resumed = make_engine(path, precision)
    resumed.load(saved)
    found["resumed"] = watched(resumed, range(SAVED_AT, UPDATES))
    found["lost"] = [skip(resumed, micro) for micro in (0, 1)]
    if resumed.loss_scale is not None:
        resumed.loss_scale.scale = 2.0**40
        found["overflow"] = [skip(resumed, None) for _ in range(2)]
    found["dtypes"] = sorted({str(each.dtype) for each in engine.model.parameters()})
    found["narrow"] = narrow_operations(engine)
    return found


def narrow_operations(engine: Engine) -> dict[str, int]:
    """What the halting rule computes in less than float32 in a forward pass."""
    rule, found = engine.model.recurrence.rule, Counter[str]()
    plain = rule.decide

    def decide(view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        with NarrowOperations(found):
            return plain(view, memory)

    rule.decide = decide
    trace = engine.forward(make_batch(0).rows(0, 2)).trace
    del rule.decide
    assert trace.num_steps > 1
    return dict(found)


def skip(engine: Engine, micro: int | None) -> dict:
    """An update in which the loss of one rank in one micro-batch is infinite, or that overflows by
    itself."""
    rank, before = collectives.rank(), engine.weights()
    for number in range(2):
        share = share_of_loss(engine, make_batch(0), 2 * rank, 2, MAX_STEPS)
        engine.backward(share * (torch.inf if (rank, number) == (1, micro) else 1.0))
    skipped = collectives.all_gather(engine.step(1e-2).skipped, engine.device)
    after = engine.weights()
    moved = any(not torch.equal(before[name], after[name]) for name in before)
    moved = collectives.any_rank(moved, engine.device)
    return {
        "skipped": skipped,
        "moved": moved,
        "scales": collectives.all_gather(engine.scale, engine.device),
    }


def rule_under_autocast(path: Path) -> dict:
    """Whether a rule's linear layer has its float32 weights in a forward pass."""
    engine = DeepSpeedEngine(make_model(rule=Breaking), make_config(path, precision="bf16"))
    train(engine, range(2))
    rule, seen = engine.model.recurrence.rule, list[Tensor]()
    plain = rule.decide

    def decide(view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        seen.append(rule.get_parameter("hidden.weight").detach().clone())
        return plain(view, memory)

    rule.decide = decide
    engine.forward(make_batch(0).rows(0, 2))
    del rule.decide
    weight, trained = seen[0], engine.weights().get("recurrence.rule.hidden.weight")
    return {
        "rounded": bool(torch.equal(weight, weight.bfloat16().float())),
        "as trained": trained is None or bool(torch.equal(weight, trained)),
    }


def loop(folder: Path, path: Path) -> list:
    """A training in which two updates have no finite loss on rank 1 alone, and then all on both:
    what each rank says of its end, and how often it skipped before."""
    home, examples = folder / f"loop-{path.stem}", BATCH // 2
    marked = {"first": 3 * BATCH + examples, "last": 4 * BATCH - 1, "forever": 6 * BATCH}
    config = make_config(
        path,
        accumulation=1,
        data={"kind": f"{MarkedVectors.__module__}:{MarkedVectors.__name__}", "options": marked},
        model={"width": 16, "num_heads": 2},
        loop={"max_steps": 3},
        updates=20,
        eval_every=100,
        eval_examples=4,
        max_skipped=3,
    )
    home.mkdir(exist_ok=True)
    collectives.barrier()
    built = build_all(config)
    engine = DeepSpeedEngine(built.model, config)
    CrossEntropy.__call__ = damaging(torch.nan)
    context = TrainingContext(config, built, engine, home, Metrics(None), Screen(None), Progress())
    ended = training.loop.loop.Training(context).run()
    return collectives.all_gather_object(
        [ended.reason, ended.progress.update, ended.progress.skipped]
    )


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    found: dict = {"fp16": {}, "bf16_weights": {}}
    reference = local("fp16")
    lower_scale(reference)
    found["reference"] = {"fp16": watched(reference, range(UPDATES), ranks=2)}
    found["reference"]["float32"] = watched(local(), range(UPDATES), ranks=2)
    paths = {str(stage): write_config(folder, stage) for stage in range(4)}
    for name in ("zero2_offload", "zero3_offload"):
        paths[name] = DS_CONFIGS / f"{name}.json"
    for stage, path in paths.items():
        for precision in ("fp16", "bf16_weights"):
            if stage != "0" or precision == "fp16":
                found[precision][stage] = run(folder, path, precision)
    found["loop"] = {stage: loop(folder, paths[stage]) for stage in ("0", "3")}
    found["rule"] = rule_under_autocast(folder / "zero3.json")
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main()
