"""A small looped model, and batches that make its ranks loop unequally: what the engines are
compared on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from act.models.asked_losses import is_large
from act.models.looped_transformer import LoopedTransformer
from halting import (
    GravesACT,
    HaltingRule,
    Memory,
    Readout,
    StepDecision,
    StepsPlusRemainder,
    StepView,
    TokenChoiceRouter,
    WeightedMean,
)
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.engine import Engine
from training.objectives import CrossEntropy
from training.tasks.task import IGNORE, Batch

VOCABULARY, LENGTH, BATCH, MAX_STEPS = 11, 6, 8, 6
RATE = 3e-3


class SureOfItself(HaltingRule):
    """Spends the probability of its best guess: a rule that reads logits, with gradient."""

    spreads_mass = reads_logits = True
    default_readout = WeightedMean
    default_cost = StepsPlusRemainder

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        sure = view.logits().float().softmax(-1).amax(-1)
        return StepDecision(mass=sure, halt=view.remaining - sure <= 0.3, score=sure), None


class Balanced(TokenChoiceRouter):
    """Keeps a bias beside its parameters that moves with the load of all ranks, after a warm-up of
    one update."""

    def __init__(self) -> None:
        super().__init__(16, MAX_STEPS, balance="bias", bias_rate=0.05, warmup=1)


def make_config(ds_config: Path | str, accumulation: int = 2, **others) -> RunConfig:
    values = {
        "recipe": "tiny",
        "data": {"kind": "PointerChase"},
        "batch_size": BATCH,
        "optimizer": {"clip": 0.5},
    }
    return RunConfig(
        **{**values, "accumulation": accumulation, "deepspeed_config": str(ds_config), **others}
    )


def make_model(
    rule: type[HaltingRule] = GravesACT, readout: type[Readout] | None = None, tied: bool = False
) -> LoopedTransformer:
    """The same weights each time; a gate that tells tokens apart from the start."""
    torch.manual_seed(1)
    made = GravesACT(16, bias_init=1.0) if rule is GravesACT else rule()
    model = LoopedTransformer(
        VOCABULARY,
        16,
        2,
        made,
        readout and readout(),
        max_steps=MAX_STEPS,
        prelude_layers=1,
        coda_layers=1,
        tie_embeddings=tied,
    )
    if isinstance(made, GravesACT):
        torch.nn.init.normal_(made.gate.weight, std=0.5)
    return model


def make_batch(update: int) -> Batch:
    """The global batch of an update: ragged rows; at updates 3 and 5 the last ones hold no token at
    all."""
    generator = torch.Generator().manual_seed(100 + update)
    tokens, targets = torch.randint(VOCABULARY, (2, BATCH, LENGTH), generator=generator)
    lengths = torch.randint(1, LENGTH + 1, (BATCH, 1), generator=generator)
    if update == 3:
        lengths[-2:] = 0  # rank 1 of 2 in the last of 2 micro-batches
    if update == 5:
        lengths[2:4] = lengths[-2:] = 0  # rank 1 of 2 in both
    valid = torch.arange(LENGTH) < lengths
    return Batch(
        tokens, torch.where(valid, targets, IGNORE), valid, torch.full((BATCH, LENGTH), torch.nan)
    )


def step_limit(engine: Engine, update: int, rank: int) -> int:
    """At update 4 all tokens of rank 0 leave at step 1, so that its gate gets no gradient. (Where
    ranks have to agree on their steps, their limits cannot differ.)"""
    recurrence = engine.model.recurrence
    agree = recurrence.rule.reads_logits or recurrence.readout.keeps_states
    return 1 if update == 4 and rank == 0 and not agree else MAX_STEPS


@dataclass(frozen=True)
class History:
    """Global loss and gradient norm of each update."""

    losses: list[float]
    norms: list[float]


def train(
    engine: Engine, updates: range, accumulation: int = 2, ranks: int | None = None
) -> History:
    """Trains as the trainer does: every rank and micro-batch adds its share of the global loss.

    Args:
        engine: what trains.
        updates: which.
        accumulation: backward passes an update.
        ranks: compute the shares of so many ranks in this process; None: this rank's alone.
    """
    losses, norms = [], []
    num_ranks = ranks or collectives.world_size()
    size = BATCH // (num_ranks * accumulation)
    for update in updates:
        whole = make_batch(update)
        loss = torch.zeros(())
        for micro in range(accumulation):
            shares = [
                share_of_loss(
                    engine,
                    whole,
                    (micro * num_ranks + rank) * size,
                    size,
                    step_limit(engine, update, rank),
                )
                for rank in (range(ranks) if ranks else [collectives.rank()])
            ]
            engine.backward(torch.stack(shares).sum())
            loss += torch.stack(shares).detach().sum()
        norms.append(engine.step(RATE * (update + 1) / 20).gradient_norm)
        engine.model.recurrence.rule.end_update(collectives.all_reduce_sum)
        losses.append(float(loss if ranks else collectives.all_reduce_sum(loss)))
    return History(losses, norms)


def share_of_loss(engine: Engine, whole: Batch, start: int, size: int, max_steps: int) -> Tensor:
    rows = whole.rows(start, start + size)
    objective = CrossEntropy()
    large = is_large(size * LENGTH * MAX_STEPS, VOCABULARY)
    asked = objective.asked(rows) if large else None
    output = engine.forward(rows, max_steps=max_steps, asked=asked)
    terms = objective(output, rows, StepsPlusRemainder())
    return (terms.task + 0.01 * terms.cost) / whole.valid.sum()
