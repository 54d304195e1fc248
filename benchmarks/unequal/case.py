"""Ranks that are made to loop unequally: the model, its batches, and one training against one
process.

The first channel of the embedding is large and positive for the tokens of `QUICK`, negative for
those of `SLOW`, and the gate reads that channel: a rank whose rows hold quick tokens alone leaves
at step 1, one with slow tokens goes on to the limit. Gate and embedding train like everything else,
and whether all ranks did so is counted at every update.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from act.loop.backprop import Backprop, Checkpointed, Truncated
from act.models.looped_transformer import LoopedTransformer
from halting import GravesACT, StepsPlusRemainder
from training.config.run_config import RunConfig
from training.config.sections import OptimizerConfig
from training.distributed import collectives
from training.engine import DeepSpeedEngine, Engine, LocalEngine
from training.engine.engine import MakeOptimizer
from training.engine.optimizer import build_optimizer
from training.objectives import CrossEntropy
from training.optimizers.groups import parameter_groups
from training.tasks.task import IGNORE, Batch

VOCABULARY, LENGTH, ROWS, WIDTH, MAX_STEPS = 8, 4, 4, 16, 4
"""ROWS is each rank's share of an update."""
QUICK = (0, 1, 2, 3)
SLOW = (4, 5, 6, 7)
BACKPROPS: dict[str, Backprop] = {
    "full": Backprop(),
    "checkpointed": Checkpointed(),
    "truncated": Truncated(2),
}
RATES = {"SGD": 0.05, "AdamW": 1e-3}
SETTINGS = OptimizerConfig(clip=1.0)


@dataclass(frozen=True)
class Case:
    """One training.

    Args:
        ranks: how many processes.
        stage: of ZeRO.
        accumulation: backward passes an update.
        backprop: a name of `BACKPROPS`.
        optimizer: "SGD" or "AdamW".
        updates: how many.
    """

    ranks: int
    stage: int
    accumulation: int
    backprop: str
    optimizer: str
    updates: int

    @property
    def name(self) -> str:
        return (
            f"{self.ranks} ranks, ZeRO-{self.stage}, accumulation {self.accumulation}, "
            f"{self.backprop} backprop, {self.optimizer}"
        )


@dataclass(frozen=True)
class Found:
    """How far a training lay from that of one process.

    Args:
        gradients: of the first update: the largest difference over the largest gradient.
        losses: the largest difference of an update's loss, relative to the loss.
        parameters: the largest difference after the last update.
        astray: backward passes of any rank whose tokens did not leave when they were made to.
        unequal: updates in which ranks took different numbers of steps.
    """

    gradients: float
    losses: float
    parameters: float
    astray: int
    unequal: int


def kind_of(update: int, rank: int, ranks: int) -> str:
    """What a rank's rows of an update hold: "quick" tokens or "slow" ones, changing places at every
    update; at every tenth one rank has no valid token, and after it all are quick, so that no gate
    has a gradient."""
    if update % 10 == 4 and update // 10 % ranks == rank:
        return "empty"
    if update % 10 == 5:
        return "quick"
    return "quick" if (update + rank) % 2 == 0 else "slow"


def make_batch(update: int, ranks: int) -> Batch:
    """The global batch of an update, ROWS a rank. Half of the targets follow from the token, the
    others are drawn, so that the loss stays away from 0."""
    generator = torch.Generator().manual_seed(1000 * ranks + update)
    shape = (ranks * ROWS, LENGTH)
    tokens = torch.randint(len(QUICK), shape, generator=generator)
    drawn = torch.rand(shape, generator=generator)
    lengths = torch.randint(1, LENGTH + 1, (ranks * ROWS, 1), generator=generator)
    for rank in range(ranks):
        kind = kind_of(update, rank, ranks)
        own = slice(rank * ROWS, (rank + 1) * ROWS)
        tokens[own] += (SLOW if kind == "slow" else QUICK)[0]
        lengths[own] *= kind != "empty"
    valid = torch.arange(LENGTH) < lengths
    targets = torch.where(
        drawn < 0.5, (3 * tokens + 1) % VOCABULARY, (drawn * 1000).long() % VOCABULARY
    )
    return Batch(tokens, torch.where(valid, targets, IGNORE), valid, torch.full(shape, torch.nan))


def make_model(backprop: str) -> LoopedTransformer:
    """The same weights each time."""
    torch.manual_seed(1)
    model = LoopedTransformer(
        VOCABULARY,
        WIDTH,
        2,
        GravesACT(WIDTH, bias_init=0.0),
        max_steps=MAX_STEPS,
        injection="add",
        backprop=BACKPROPS[backprop],
    )
    gate = model.recurrence.rule.get_submodule("gate")
    with torch.no_grad():
        model.embedding.weight[list(QUICK), 0], model.embedding.weight[list(SLOW), 0] = 6.0, -3.0
        gate.get_parameter("weight").normal_(std=0.05)[:, 0] = 1.0
    return model


def sgd(model: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """Gradient descent, under which rounding stays as small as it is."""
    return torch.optim.SGD(
        parameter_groups(model, settings.weight_decay), lr=settings.learning_rate
    )


OPTIMIZERS: dict[str, MakeOptimizer] = {"SGD": sgd, "AdamW": build_optimizer}


def share_of_loss(engine: Engine, rows: Batch, valid: int) -> tuple[Tensor, int]:
    """What some rows add to the loss of a batch with so many valid tokens, and how many steps they
    took."""
    output = engine.forward(rows)
    terms = CrossEntropy()(output, rows, StepsPlusRemainder())
    return (terms.task + 0.01 * terms.cost) / valid, output.trace.num_steps


@dataclass(frozen=True)
class Reference:
    """What plain PyTorch does in one process, with the whole global batch in one pass."""

    gradients: dict[str, Tensor]
    losses: list[float]
    weights: dict[str, Tensor]


@functools.cache
def refer(ranks: int, backprop: str, optimizer: str, updates: int) -> Reference:
    """The reference of all stages and accumulations."""
    engine = LocalEngine(
        make_model(backprop), SETTINGS, torch.device("cpu"), make_optimizer=OPTIMIZERS[optimizer]
    )
    gradients: dict[str, Tensor] = {}
    losses = []
    for update in range(updates):
        batch = make_batch(update, ranks)
        loss, _ = share_of_loss(engine, batch, int(batch.valid.sum()))
        engine.backward(loss)
        if not update:
            for name, parameter in engine.model.named_parameters():
                assert parameter.grad is not None
                gradients[name] = parameter.grad.clone()
        engine.step(RATES[optimizer])
        losses.append(float(loss.detach()))
    return Reference(gradients, losses, engine.weights())


def run_case(case: Case, folder: Path, alive: Callable[[], None] = lambda: None) -> Found | None:
    """Trains it on this rank among others (`launch.start` comes first); what was found on rank 0,
    None elsewhere.

    Args:
        case: the training.
        folder: where a ds_config may be written.
        alive: called at every update.
    """
    rank = collectives.rank()
    engine = make_engine(case, make_model(case.backprop), folder)
    size = ROWS // case.accumulation
    losses = []
    gradients = {}
    astray = 0
    for update in range(case.updates):
        alive()
        whole = make_batch(update, case.ranks)
        loss = torch.zeros(())
        expected = MAX_STEPS if kind_of(update, rank, case.ranks) == "slow" else 1
        for micro in range(case.accumulation):
            start = rank * ROWS + micro * size
            share, steps = share_of_loss(
                engine, whole.rows(start, start + size), int(whole.valid.sum())
            )
            engine.backward(share)
            loss += share.detach()
            astray += steps != expected
        if not update:
            gradients = whole_gradients(engine)
        engine.step(RATES[case.optimizer])
        losses.append(float(collectives.all_reduce_sum(loss)))
    weights = engine.weights()
    astray = int(sum(collectives.all_gather(astray, engine.device)))
    engine.engine.destroy()
    if rank:
        return None
    reference = refer(case.ranks, case.backprop, case.optimizer, case.updates)
    kinds = [
        {kind_of(update, each, case.ranks) for each in range(case.ranks)}
        for update in range(case.updates)
    ]
    return Found(
        gradients=apart(gradients, reference.gradients) / apart(reference.gradients),
        losses=max(
            abs(ours - its) / its for ours, its in zip(losses, reference.losses, strict=True)
        ),
        parameters=apart(weights, reference.weights),
        astray=astray,
        unequal=sum("slow" in each and len(each) > 1 for each in kinds),
    )


def make_engine(case: Case, model: LoopedTransformer, folder: Path) -> DeepSpeedEngine:
    """Wraps a model as the case says; the folder is for a ds_config."""
    # Without the threshold, so small a model stays whole on every rank and stage 3 is never
    # exercised.
    section = {
        "stage": case.stage,
        **({"stage3_param_persistence_threshold": 0} if case.stage == 3 else {}),
    }
    path = folder / f"zero{case.stage}-{collectives.rank()}.json"
    path.write_text(json.dumps({"zero_optimization": section}), encoding="utf-8")
    config = RunConfig.model_validate(
        {
            "recipe": "unequal",
            "data": {"kind": "PointerChase"},
            "batch_size": case.ranks * ROWS,
            "accumulation": case.accumulation,
            "optimizer": SETTINGS.model_dump(),
            "deepspeed_config": str(path),
        }
    )
    return DeepSpeedEngine(model, config, OPTIMIZERS[case.optimizer])


def whole_gradients(engine: Engine) -> dict[str, Tensor]:
    """The gradient that the next step takes, whatever the stage; called by all ranks."""
    from deepspeed.utils import safe_get_full_grad

    found = {}
    for name, parameter in engine.model.named_parameters():
        gradient = safe_get_full_grad(parameter)
        assert gradient is not None, f"{name} has no gradient"
        found[name] = gradient.detach().clone()
    return found


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor] | None = None) -> float:
    """The largest difference between tensors of the same names, or from 0."""
    assert theirs is None or list(ours) == list(theirs)
    return max(float((ours[name] - (theirs[name] if theirs else 0)).abs().max()) for name in ours)


def as_row(case: Case, found: Found, seconds: float) -> dict:
    """A row of results."""
    return {
        "name": case.name,
        **asdict(case),
        "outcome": "ran",
        "seconds": round(seconds, 1),
        **asdict(found),
    }
