"""Losses that a model gives instead of logits, against those of whole logits."""

import pytest
import torch
from torch import Tensor

from act import LoopedTransformer
from act.models import asked_losses
from halting import EveryStep, ExitGate, GravesACT, StepsPlusRemainder, WeightedMean
from halting.costs.gate_target import GateTarget
from training.evaluation.tally import Tally
from training.objectives import CrossEntropy
from training.objectives.objective import Terms, asking
from training.tasks import Parity
from training.tasks.task import IGNORE, Batch

VOCABULARY, LENGTH, ROWS, WIDTH = 23, 9, 4, 8


class Sizes(Parity):
    """A task of these sizes; its examples are not used."""

    vocab_size = VOCABULARY

    def __init__(self) -> None:
        super().__init__(length=LENGTH)


def model(parts: str, **options) -> LoopedTransformer:
    torch.manual_seed(0)
    rule = ExitGate(WIDTH) if parts == "every step" else GravesACT(WIDTH)
    readout = EveryStep() if parts == "every step" else WeightedMean()
    made = LoopedTransformer(
        VOCABULARY, WIDTH, 2, rule, readout, max_steps=4, causal=True, **options
    )
    return made.double()


def batch(weighted: bool) -> Batch:
    torch.manual_seed(1)
    valid = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    valid[1, 5:] = False
    targets = torch.randint(VOCABULARY, (ROWS, LENGTH))
    targets[:, ::3] = IGNORE
    targets[~valid] = IGNORE
    weights = torch.rand(ROWS, LENGTH, dtype=torch.double) if weighted else None
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH))
    nowhere = torch.full((ROWS, LENGTH), torch.nan)
    return Batch(tokens, targets, valid, nowhere, loss_weights=weights)


def terms(made: LoopedTransformer, given: Batch, objective: CrossEntropy, cost) -> Terms:
    asked = asking(objective, made, Sizes(), ROWS)(given)
    assert (asked is not None) == (asked_losses.LARGE == 1)
    output = made(given.tokens, given.valid, asked=asked)
    assert (output.answers is None) == (asked is None)
    return objective(output, given, cost)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ("output", {}),
        ("output", {"coda_layers": 1, "tie_embeddings": True}),
        ("every step", {}),
        ("every step", {"coda_layers": 1, "prelude_layers": 1}),
    ],
)
def test_terms_and_gradients_are_those_of_whole_logits(
    monkeypatch: pytest.MonkeyPatch, parts: str, options: dict, weighted: bool
) -> None:
    given = batch(weighted)
    objective = CrossEntropy(label_smoothing=0.1 if weighted else 0.0)
    # A cost that reads each step's loss, where there are some.
    cost = GateTarget() if parts == "every step" else StepsPlusRemainder()
    found: list[list[Tensor]] = []
    for large in (10**9, 1):
        monkeypatch.setattr(asked_losses, "LARGE", large)
        made = model(parts, **options)
        got = terms(made, given, objective, cost)
        loss = got.task + 0.1 * got.cost
        gradients = torch.autograd.grad(loss, list(made.parameters()), materialize_grads=True)
        found.append([got.task, got.cost, *gradients])
    for whole, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, whole, rtol=1e-9, atol=1e-10)


def test_an_evaluation_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch(weighted=True)
    made = model("every step").eval()
    figures = []
    for large in (10**9, 1):
        monkeypatch.setattr(asked_losses, "LARGE", large)
        tally = Tally(4)
        with torch.no_grad():
            asked = asked_losses.AskedLosses(given.targets) if large == 1 else None
            output = made(given.tokens, given.valid, asked=asked)
        tally.add(output, given, made.recurrence.rule)
        figures.append(tally.figures())
    assert figures[0] == pytest.approx(figures[1], rel=1e-9, nan_ok=True)


def test_an_objective_with_another_loss_sees_logits() -> None:
    class Squared(CrossEntropy):
        def losses(self, logits: Tensor, targets: Tensor, batch: Batch, index: Tensor) -> Tensor:
            return super().losses(logits, targets, batch, index) ** 2

    assert Squared().asked(batch(False)) is None and CrossEntropy().asked(batch(False)) is not None
