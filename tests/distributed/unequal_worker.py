"""One rank: the short form of benchmarks/unequal, and a loop in which ranks exchange tokens at
every step."""

import functools
import itertools
import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
from experts import ExpertBlock
from torch import Tensor

from act.models.looped_transformer import LoopedTransformer
from benchmarks.unequal.case import (
    BACKPROPS,
    RATES,
    ROWS,
    SETTINGS,
    WIDTH,
    Case,
    apart,
    as_row,
    make_batch,
    make_engine,
    make_model,
    run_case,
    sgd,
    whole_gradients,
)
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import Engine, LocalEngine, start
from training.objectives import CrossEntropy
from training.tasks.task import Batch

UPDATES = 6


def short_cases(ranks: int) -> list[Case]:
    """On two ranks every combination; on three the stages, each with another backprop."""
    if ranks == 2:
        chosen = itertools.product(range(4), (1, 2), BACKPROPS, ("SGD",))
    else:
        chosen = (
            (stage, 1 + stage % 2, kind, "SGD")
            for stage, kind in zip(range(4), itertools.cycle(BACKPROPS))
        )
    adam = [(3, 2, "checkpointed", "AdamW")]
    return [Case(ranks, *numbers, UPDATES) for numbers in (*chosen, *adam)]


def with_experts(backprop: str, ranks: int, **options: bool) -> LoopedTransformer:
    """The model of the cases, each loop step of which asks an expert a rank."""
    model = make_model(backprop)
    model.recurrence.block = ExpertBlock(WIDTH, ranks, **options)
    return model


def task_share(
    engine: Engine, rows: Batch, valid: int, max_steps: int | None = None
) -> tuple[Tensor, int]:
    """Without a ponder cost: the mass of steps without a token then has no gradient to hand on."""
    output = engine.forward(rows, max_steps=max_steps)
    return CrossEntropy()(output, rows, None).task / valid, output.trace.num_steps


@functools.cache
def refer_experts(backprop: str, ranks: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the first update and final weights of one process that holds all experts."""
    model = with_experts(backprop, ranks, exchanges=False, collective=False)
    engine = LocalEngine(model, SETTINGS, torch.device("cpu"), make_optimizer=sgd)
    gradients: dict[str, Tensor] = {}
    for update in range(UPDATES):
        batch = make_batch(update, ranks)
        engine.backward(task_share(engine, batch, int(batch.valid.sum()))[0])
        gradients = gradients or {
            name: each.grad.clone() for name, each in model.named_parameters()
        }
        engine.step(RATES["SGD"])
    return gradients, engine.weights()


def run_experts(case: Case, folder: Path) -> dict | None:
    """Steps of every rank at each update; on rank 0 also how far the training lay from that of one
    process."""
    rank, steps = collectives.rank(), []
    engine = make_engine(
        case, with_experts(case.backprop, case.ranks, exchanges=True, collective=True), folder
    )
    gradients: dict[str, Tensor] = {}
    for update in range(case.updates):
        whole = make_batch(update, case.ranks)
        share, taken = task_share(
            engine, whole.rows(rank * ROWS, (rank + 1) * ROWS), int(whole.valid.sum())
        )
        engine.backward(share)
        gradients = gradients or whole_gradients(engine)
        engine.step(RATES["SGD"])
        steps.append(collectives.all_gather(taken, engine.device))
    weights = engine.weights()
    engine.engine.destroy()
    if rank:
        return None
    its_gradients, its_weights = refer_experts(case.backprop, case.ranks)
    return {
        "stage": case.stage,
        "backprop": case.backprop,
        "steps": steps,
        "gradients": apart(gradients, its_gradients) / apart(its_gradients),
        "expert_gradient": float(gradients["recurrence.block.experts"].abs().amax((1, 2)).min()),
        "parameters": apart(weights, its_weights),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    ranks = collectives.world_size()
    rows = [(case, run_case(case, folder)) for case in short_cases(ranks)]
    chosen = itertools.product(range(4), BACKPROPS) if ranks == 2 else [(2, "full")]
    experts = [
        run_experts(Case(ranks, stage, 1, kind, "SGD", UPDATES), folder) for stage, kind in chosen
    ]
    if collectives.rank() == 0:
        cases = [as_row(case, found, 0.0) for case, found in rows if found is not None]
        (folder / "found.json").write_text(json.dumps({"cases": cases, "experts": experts}))
    leave(0)


if __name__ == "__main__":
    main()
