"""One rank: what happens without one part of law 6's cure. Each in a child process, since a rank
that fails in the middle of a collective leaves its process group unusable. Arguments: the folder,
and a free port for each."""

import functools
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import tiny
import torch
from unequal_worker import task_share, with_experts

import act.loop.zero_gradient
import training.engine.zero
from act.loop.zero_gradient import attach_zero_gradient
from act.models.looped_transformer import LoopedTransformer
from benchmarks.unequal.case import (
    MAX_STEPS,
    ROWS,
    SETTINGS,
    Case,
    apart,
    make_batch,
    make_engine,
    make_model,
    whole_gradients,
)
from halting import GravesACT, Memory, StepDecision, StepView
from training.distributed import collectives
from training.engine import DeepSpeedEngine, LocalEngine, start

PATIENCE = 6
"""Seconds after which a rank that waits for another gives up."""


def not_together() -> None:
    """The loop's parameters get their gradients one by one."""
    training.engine.zero.defer_parameter_gradients = lambda recurrence: None


def untied() -> None:
    """Nor is there a zero gradient for what nobody reached."""
    act.loop.zero_gradient.attach_zero_gradient = lambda tensor, anchors: tensor
    not_together()


def without_a_way_back() -> None:
    """A rank without tokens does not go back through the steps that it took for the others'
    sake."""
    act.loop.zero_gradient.attach_zero_gradient = lambda tensor, anchors: attach_zero_gradient(
        tensor, [each for each in anchors if each.numel()]
    )


def without_a_leaf() -> None:
    import deepspeed

    deepspeed.utils.set_z3_leaf_modules = lambda model, classes: None


def without_agreement() -> None:
    DeepSpeedEngine._leaves_the_leaf_each_step = lambda *_: False


class Hasty(GravesACT):
    """Does not ask its gate what nobody needs: where all tokens leave, the mass is the constant
    1."""

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = super().decide(view, memory)
        if bool(decision.halt.all()):
            decision = StepDecision(
                torch.ones_like(decision.mass), decision.halt, decision.score.detach()
            )
        return decision, memory


def hasty_model() -> LoopedTransformer:
    model = make_model("full")
    model.recurrence.rule.__class__ = Hasty
    return model


def one_update(
    folder: Path, stage: int, update: int = 0, make: Callable[[], LoopedTransformer] = hasty_model
) -> dict:
    """Rank 0 leaves at step 1, before its gate is asked for anything, and rank 1 at the limit; at
    update 4 rank 0 has no token. This rank's steps, and how far gradients lie from those of one
    process."""
    engine = make_engine(Case(2, stage, 1, "full", "AdamW", 1), make(), folder)
    whole, rank = make_batch(update, 2), collectives.rank()
    valid = int(whole.valid.sum())
    share, steps = task_share(engine, whole.rows(rank * ROWS, (rank + 1) * ROWS), valid)
    engine.backward(share)
    gradients = whole_gradients(engine)
    engine.step(1e-3)
    act.loop.zero_gradient.attach_zero_gradient = attach_zero_gradient
    alone = LocalEngine(make(), SETTINGS, torch.device("cpu"))
    alone.backward(task_share(alone, whole, valid)[0])
    reference = {name: parameter.grad for name, parameter in alone.model.named_parameters()}
    return {"steps": steps, "gradients": apart(gradients, reference) / apart(reference)}


def empty_rank(folder: Path, stage: int) -> dict:
    """With a prelude and a coda, and no ponder cost: nothing of the loop then reaches the loss on
    rank 0."""
    return one_update(folder, stage, 4, tiny.make_model)


def one_update_with_experts(folder: Path, exchanges: bool, collective: bool) -> dict:
    model = with_experts("full", 2, exchanges=exchanges, collective=collective)
    engine = make_engine(Case(2, 0, 1, "full", "AdamW", 1), model, folder)
    whole, rank = make_batch(0, 2), collectives.rank()
    share, steps = task_share(
        engine, whole.rows(rank * ROWS, (rank + 1) * ROWS), int(whole.valid.sum())
    )
    engine.backward(share)
    engine.step(1e-3)
    return {"steps": steps}


def one_forward_that_reads_logits(folder: Path) -> dict:
    """The head is called inside the loop, and rank 0 is told to end at step 1."""
    path = folder / f"reads-logits{collectives.rank()}.json"
    path.write_text(
        json.dumps({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}})
    )
    engine = DeepSpeedEngine(tiny.make_model(tiny.SureOfItself), tiny.make_config(path))
    rank = collectives.rank()
    rows = tiny.make_batch(0).rows(2 * rank, 2 * rank + 2)
    engine.backward(engine.forward(rows, max_steps=1 if rank == 0 else MAX_STEPS).logits.sum())
    return {}


Attempt = Callable[[Path], dict]
FACTS: dict[str, tuple[Callable[[], None] | None, Attempt]] = {
    **{
        f"cured, stage {stage}": (None, functools.partial(one_update, stage=stage))
        for stage in range(4)
    },
    **{
        f"untied, stage {stage}": (untied, functools.partial(one_update, stage=stage))
        for stage in (0, 1, 2)
    },
    **{
        f"an empty rank, stage {stage}": (None, functools.partial(empty_rank, stage=stage))
        for stage in range(4)
    },
    "an empty rank, not together, stage 2": (not_together, functools.partial(empty_rank, stage=2)),
    "no leaf, stage 3": (without_a_leaf, functools.partial(one_update, stage=3)),
    "reads logits without agreement, stage 3": (without_agreement, one_forward_that_reads_logits),
    **{
        f"experts, {name}": (
            change,
            functools.partial(one_update_with_experts, exchanges=exchanges, collective=agree),
        )
        for name, change, exchanges, agree in (
            ("nothing exchanged or agreed", None, False, False),
            ("exchanged but not agreed", None, True, False),
            ("exchanged and agreed", None, True, True),
            ("without a way back", without_a_way_back, True, True),
        )
    },
}


def try_fact(name: str, port: str, folder: Path) -> dict:
    """How it ended on this rank: "done", "raised", "died" or "hung"."""
    told = folder / f"fact{own_rank()}.json"
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        os.environ["MASTER_PORT"] = port
        os.setpgid(0, 0)
        told.write_text(json.dumps(in_child(name, folder)))
        os._exit(0)
    deadline = time.monotonic() + 4 * PATIENCE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"outcome": "hung"}
        time.sleep(0.02)
    return json.loads(told.read_text()) if told.exists() else {"outcome": "died"}


def in_child(name: str, folder: Path) -> dict:
    without, attempt = FACTS[name]
    try:
        start(
            timedelta(seconds=PATIENCE),
            cpu=True,
            library_log=folder / f"library_log{own_rank()}.log",
        )
        if without is not None:
            without()
        return {"outcome": "done", **attempt(folder)}
    except Exception as error:  # noqa: BLE001 — torch and DeepSpeed raise many kinds
        return {
            "outcome": "raised",
            "says": repr(error)[:300],
            "where": traceback.format_exc()[-1500:],
        }


def own_rank() -> int:
    """This process's number, before it has joined the others."""
    return int(os.environ["RANK"])


def meet(folder: Path, number: int) -> None:
    """Waits for the other rank, which may have waited for its child."""
    (folder / f"met{number}-{own_rank()}").touch()
    while not all((folder / f"met{number}-{rank}").exists() for rank in range(2)):
        time.sleep(0.02)


def main() -> None:
    torch.set_num_threads(1)
    folder, ports = Path(sys.argv[1]), sys.argv[2:]
    os.environ["DS_ACCELERATOR"] = "cpu"
    for name in (
        "deepspeed",
        "torch._dynamo",
    ):  # what the first engine imports: once, for all children
        importlib.import_module(name)
    found = {}
    for number, (name, port) in enumerate(zip(FACTS, ports, strict=False)):
        meet(folder, number)
        found[name] = try_fact(name, port, folder)
    (folder / f"found{own_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
