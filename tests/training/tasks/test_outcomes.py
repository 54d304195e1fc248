"""What each step answered, and what of it is trained, in a whole model that halts by its
outcomes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from act import LoopedTransformer
from halting.costs.correctness import Correctness
from halting.costs.cost import PonderCost
from halting.costs.q_learning import QLearning
from halting.rule import HaltingRule
from halting.rules.correctness_halt import CorrectnessHalt
from halting.rules.q_halt import QHalt
from training.objectives import CrossEntropy
from training.objectives.outcomes import step_outcomes
from training.tasks import IGNORE, Batch

VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)


def model_and_batch(rule: HaltingRule) -> tuple[LoopedTransformer, Batch]:
    torch.manual_seed(1)
    for parameter in rule.parameters():
        nn.init.normal_(parameter)
    model = LoopedTransformer(7, 8, 2, rule, max_steps=5).double()
    tokens, targets = torch.randint(7, (2, 3, 4))
    targets = torch.where(VALID & (torch.arange(4) != 1), targets, IGNORE)
    return model, Batch(tokens, targets, VALID, torch.zeros(3, 4))


def test_outcomes_say_what_was_asked() -> None:
    model, batch = model_and_batch(QHalt(8, explore=0.0))
    output = model(batch.tokens, batch.valid)
    outcomes = step_outcomes(output, batch.targets)
    assert torch.equal(outcomes.has_target, batch.targets != IGNORE)
    assert not outcomes.correct[~outcomes.has_target].any()
    chosen = torch.where(outcomes.has_target, outcomes.prediction[..., 0], IGNORE)
    right = step_outcomes(output, chosen)
    assert right.sequence_correct[:, 0].all(), (
        "a sequence whose every asked position is right counts as wrong"
    )


@pytest.mark.parametrize(
    ("rule", "cost"),
    [(QHalt(8, explore=0.0), QLearning()), (CorrectnessHalt(8), Correctness())],
    ids=lambda part: type(part).__name__,
)
def test_the_tasks_loss_is_the_mean_over_the_steps_up_to_the_halt(
    rule: HaltingRule, cost: PonderCost
) -> None:
    """Also where one more step was computed to look ahead."""
    model, batch = model_and_batch(rule)
    output = model(batch.tokens, batch.valid)
    terms = CrossEntropy()(output, batch, cost)
    packed, trace = output.step_logits, output.trace
    assert packed is not None
    logits = packed.unpack(packed.values, 3, 4, trace.num_steps)
    expected = 0.0
    for row in range(3):
        stopped = int((trace.mass[row, 0] == 1).nonzero()) + 1
        for token in range(4):
            if batch.targets[row, token] != IGNORE:
                losses = [
                    F.cross_entropy(logits[row, token, n], batch.targets[row, token])
                    for n in range(stopped)
                ]
                expected += sum(loss.item() for loss in losses) / stopped
    assert terms.task.item() == pytest.approx(expected, rel=1e-12)
    looked_ahead = bool((trace.steps.to(trace.mass.dtype) > rule.ponder(trace)).any())
    assert looked_ahead == isinstance(rule, QHalt)


def test_no_gradient_at_all_comes_from_the_step_that_looks_ahead() -> None:
    model, batch = model_and_batch(QHalt(8, explore=0.0))
    output = model(batch.tokens, batch.valid)
    packed, looked = output.step_logits, output.trace.aux["looks_ahead"]
    assert packed is not None and looked.any()
    terms = CrossEntropy()(output, batch, QLearning())
    (of_logits,) = torch.autograd.grad(terms.task + terms.cost, packed.values)
    ahead = looked.flatten(0, 1)[packed.index, packed.step]
    asked = (batch.targets != IGNORE).flatten()[packed.index]
    assert (of_logits[ahead] == 0).all() and (of_logits[~ahead & asked] != 0).any(-1).all()
