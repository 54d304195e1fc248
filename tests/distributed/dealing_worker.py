"""One rank: the gradient of a global batch, and whole small trainings, however its sequences are
dealt."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch

from training.build import build_all
from training.checkpoints.checkpoint import Progress, found, load
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, PenaltyConfig
from training.console.screen import Screen
from training.distributed import collectives
from training.distributed.dealing import BatchBalancer
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, LocalEngine, start
from training.loop.loop import Training
from training.objectives import CrossEntropy
from training.runs.context import TrainingContext
from training.runs.metrics import Metrics

DS_CONFIG = Path(__file__).parent.parent.parent / "ds_configs" / "zero1.json"
WAYS = ("order", "length", "difficulty", "ponder")


WEIGHTED = Path(__file__).parent.parent / "training" / "weighted_task.py"


def config_of(balance_by: str, **changes) -> RunConfig:
    """A run of 12 updates on sequences of many lengths."""
    return RunConfig.model_validate(
        {
            "recipe": "addition",
            "data": {"kind": "Addition", "options": {"digits": 5}},
            "model": {"width": 16, "num_heads": 2, "positions": "learned"},
            "loop": {"max_steps": 4},
            "penalty": {"value": 0.01, "warmup": 6},
            "updates": 12,
            "batch_size": 16,
            "accumulation": 2,
            "eval_every": 5,
            "eval_examples": 4,
            "save_every": 4,
            "deepspeed_config": str(DS_CONFIG),
            "balance_by": balance_by,
            **changes,
        }
    )


def weighted(balance_by: str) -> RunConfig:
    """The same, of targets that weigh unequally."""
    data = {"kind": f"{WEIGHTED}:Weighted", "options": {"digits": 5}}
    return config_of(balance_by, data=data)


def collapsing() -> RunConfig:
    """A run that has collapsed before it begins, and is to be taken back: at ZeRO-3, where no rank
    has all weights."""
    eager = HaltingPart(kind="GravesACT", options={"bias_init": 9.0})
    changed = {
        "halting": eager,
        "penalty": PenaltyConfig(value=0.3),
        "updates": 14,
        "on_collapse": "recover",
    }
    shared = str(DS_CONFIG.with_name("zero3.json"))
    return config_of("order").model_copy(
        update=changed
        | {"eval_every": 100, "eval_examples": 32, "keep_last": 1, "deepspeed_config": shared}
    )


def gradient(config: RunConfig) -> tuple[list[int], torch.Tensor]:
    """What each rank had to do, and the gradient of one update, summed over ranks by hand."""
    built = build_all(config)
    engine = LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    built.model.double()
    balancer = BatchBalancer(
        built.task, built.predictor, config.accumulation, config.batch_size // 4
    )
    taken = 0
    for _ in range(2):  # the second is dealt by what the first has taught
        given, taken = balancer.batches(0, torch.device("cpu")), 0
        engine.model.zero_grad()
        for batch in given.batches:
            output = engine.forward(batch)
            terms = CrossEntropy()(output, batch, built.cost)
            (terms.task / given.target_weight + 0.01 * terms.cost / given.valid).backward()
            balancer.count(batch, output.trace.steps)
            taken += int(output.trace.steps.sum())
        balancer.learn(collectives.all_reduce_sum(balancer.counted(torch.device("cpu"))))
    flat = torch.cat(
        [
            parameter.grad.flatten()
            for parameter in built.model.parameters()
            if parameter.grad is not None
        ]
    )
    return [
        int(each) for each in collectives.all_gather(taken, torch.device("cpu"))
    ], collectives.all_reduce_sum(flat)


def train(config: RunConfig, folder: Path, resumed: bool = False) -> list[dict]:
    """A training of 12 updates, or its last ones; its lines of metrics.jsonl."""
    built, first = build_all(config), collectives.rank() == 0
    engine = DeepSpeedEngine(built.model, config)
    if first:
        folder.mkdir(exist_ok=True)
    collectives.barrier()
    progress = load(found(folder / "checkpoints")[0], engine) if resumed else Progress()
    metrics = Metrics(folder if first else None, progress.update)
    ended = Training(
        TrainingContext(config, built, engine, folder, metrics, Screen(None), progress)
    ).run()
    metrics.close()
    assert ended.reason == "finished"
    return (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        if first
        else []
    )


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    gradients = {way: gradient(config_of(way)) for way in WAYS}
    reference = gradients["order"][1]
    written = {
        "taken": {way: taken for way, (taken, _) in gradients.items()},
        "apart": {
            way: float((each - reference).norm() / reference.norm())
            for way, (_, each) in gradients.items()
        },
        "runs": {way: train(config_of(way), folder / way) for way in WAYS},
    }
    written["weighted"] = {
        way: train(weighted(way), folder / f"weighted-{way}") for way in ("order", "length")
    }
    alone = weighted("order").model_copy(update={"deepspeed_config": None, "output": str(folder)})
    written["weighted"]["alone"] = alone.model_dump(mode="json")
    written["resumed"] = train(config_of("ponder"), folder / "ponder", resumed=True)
    written["recovered"] = train(collapsing(), folder / "recovered")
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(written))
    leave(0)


if __name__ == "__main__":
    main()
