"""Warnings in plain words, each with the flag that mends."""

import math

import torch

from halting.costs.cost import PonderCost
from training.engine.engine import Engine
from training.objective import objective
from training.tally import Tally
from training.tasks.task import Batch

MIN_TOKENS = 64
_ALMOST_ALL = 0.99
_RANKS_APART = 3.0


def single_step(tally: Tally) -> int | None:
    """The step before the limit at which almost all tokens leave; None where they leave at several, or at the limit."""
    share = tally.steps / tally.steps.sum().clamp(min=1)
    step = int(share.argmax())
    return step if 0 < step < tally.max_steps and float(share[step]) >= _ALMOST_ALL else None


def alarms(tally: Tally, *, adaptive: bool, gate_gradient: float | None, steps_of_ranks: list[float]) -> list[str]:
    """What seems wrong after an evaluation.

    Args:
        tally: of the evaluation.
        adaptive: the rule decides (it is not a fixed depth).
        gate_gradient: norm of the ponder cost's gradient at the gate; None when there is nothing to check.
        steps_of_ranks: mean executed steps of each rank's training tokens.
    """
    said: list[str] = []
    figures = tally.figures()
    if adaptive and tally.max_steps > 1 and float(tally.steps.sum()) >= MIN_TOKENS:
        if figures["share_at_step_1"] >= _ALMOST_ALL:
            said.append(
                f"halting collapsed: {figures['share_at_step_1']:.0%} of tokens stop at step 1; try "
                "--halting.bias-init -3 or a lower --penalty.value"
            )
        elif figures["share_at_max"] >= _ALMOST_ALL:
            said.append(
                f"nothing halts before max_steps: {figures['share_at_max']:.0%} of tokens take all {tally.max_steps} "
                "steps; try a higher --penalty.value or --halting.bias-init"
            )
    if gate_gradient is not None and not gate_gradient > 0:
        said.append(
            "the penalty's gradient is zero: the ponder cost does not reach the gate, so the penalty trains nothing; "
            "try --halting.bias-init -3, so that tokens take more than one step"
        )
    lowest, highest = min(steps_of_ranks), max(steps_of_ranks)
    if lowest > 0 and highest / lowest >= _RANKS_APART:
        said.append(
            f"mean steps differ {highest / lowest:.1f}× between ranks ({lowest:.2f} to {highest:.2f}): the others wait "
            "for the slowest; try --deal-by ponder, or lower --loop.max-steps"
        )
    return said


def penalty_gradient(engine: Engine, batch: Batch, cost: PonderCost | None, penalty: float) -> float | None:
    """The norm of the ponder cost's own gradient at the halting rule's parameters.

    Args:
        engine: its model is run as in training, apart from the engine: no rank waits for another.
        batch: a few examples.
        cost: what thinking costs.
        penalty: its weight.

    Returns:
        None where there is nothing to check: no cost, no weight, a rule without parameters, or parameters that are
            sharded.
    """
    gate = [parameter for parameter in engine.model.recurrence.rule.parameters() if parameter.requires_grad]
    if cost is None or penalty == 0 or not gate or not engine.whole or not bool(batch.valid.any()):
        return None
    batch = batch.to(engine.device)
    rule = engine.model.recurrence.rule
    schedules = {name: buffer.clone() for name, buffer in rule.named_buffers()}
    terms = objective(engine.model(batch.tokens, batch.valid), batch, cost)
    for name, buffer in rule.named_buffers():
        buffer.copy_(schedules[name])  # a look is no training: it must not count
    gradients = torch.autograd.grad(terms.cost, gate, allow_unused=True)
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None))
