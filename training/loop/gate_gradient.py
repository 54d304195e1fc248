"""The gradient that reaches the halting rule: of the ponder cost alone, and of the whole loss."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halting.costs.cost import PonderCost
from training.engine.engine import Engine
from training.engine.model_inputs import extra_inputs
from training.objectives.objective import Objective, Terms
from training.tasks.task import Batch

_EXAMPLES = 8
_TOKENS = 256


@dataclass(frozen=True)
class GateGradient:
    """Norms of gradients.

    Args:
        cost: of the ponder cost alone, at the rule's parameters; None without a cost or a penalty.
        gate: of the whole loss, at the rule's parameters.
        whole: of the whole loss, at all parameters.
    """

    cost: float | None
    gate: float
    whole: float

    @property
    def share(self) -> float | None:
        """The gate's part in the whole gradient, 0 to 1; None where there is no gradient at all."""
        return self.gate / self.whole if self.whole > 0 else None


def enough(batch: Batch) -> Batch:
    """The first examples of a batch: 8, or as many as hold a few hundred tokens. Of few tokens all
    may be at one step by chance, and then their gate has no gradient, in a run that is well."""
    held = batch.valid.sum(1).cumsum(0)
    return batch.rows(0, max(_EXAMPLES, int((held < _TOKENS).sum()) + 1))


def gate_gradient(
    engine: Engine, batch: Batch, objective: Objective, cost: PonderCost | None, penalty: float
) -> GateGradient | None:
    """The gradients on a few examples, measured without touching anything: not what training draws
    next, nor what the model keeps beside its parameters.

    Args:
        engine: its model is run as in training, apart from the engine: no rank waits for another.
        batch: the examples.
        objective: what is minimised.
        cost: what thinking costs.
        penalty: its weight.

    Returns:
        None where there is nothing to check: a rule without parameters, parameters that are
        sharded, no token.
    """
    rule = engine.model.recurrence.rule
    gate = [parameter for parameter in rule.parameters() if parameter.requires_grad]
    rest = [
        each
        for each in engine.model.parameters()
        if each.requires_grad and all(each is not own for own in gate)
    ]
    if not gate or not engine.whole or not bool(batch.target_weight > 0):
        return None
    batch = batch.to(engine.device)
    model = engine.model
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [engine.device] if engine.device.type == "cuda" else []

    def terms() -> Terms:
        # Anew for each gradient: on the way back the packed path rewinds what it wrote, which can
        # be done once.
        with torch.random.fork_rng(devices=devices):
            output = model(batch.tokens, batch.valid, **extra_inputs(model, batch))
            return objective(output, batch, cost)

    alone = None
    now = terms()
    loss = now.task / batch.target_weight.to(now.task.dtype)
    if cost is not None and penalty > 0:
        alone = _norm(torch.autograd.grad(terms().cost, gate, allow_unused=True))
        loss = loss + penalty * now.cost / batch.valid.sum()
    if now.block is not None:
        loss = loss + now.block / batch.valid.sum()
    gradients = torch.autograd.grad(loss, [*gate, *rest], allow_unused=True)
    for buffer, before in kept:
        buffer.copy_(before)  # a look is no training: it must not count
    return GateGradient(alone, _norm(gradients[: len(gate)]), _norm(gradients))


def over_ranks(found: Sequence[GateGradient | None]) -> GateGradient | None:
    """The largest that any rank found: a gradient is gone where it is gone on all."""
    known = [each for each in found if each is not None]
    if not known:
        return None
    costs = [each.cost for each in known if each.cost is not None]
    most = max(known, key=lambda each: each.share or 0.0)
    return GateGradient(max(costs, default=None), most.gate, most.whole)


def _norm(gradients: Iterable[Tensor | None]) -> float:
    return math.sqrt(
        sum(float(each.double().square().sum()) for each in gradients if each is not None)
    )
