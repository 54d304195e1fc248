"""What the dry run says of activations where a model is asked for losses instead of logits."""

import pytest
import torch
from echo_runs import LENGTH, NEVER, make

from act.accounting.activation_memory import activation_bytes
from act.models import asked_losses
from benchmarks.memory.live_tensors import LiveTensors
from training.build import build_all
from training.config.run_config import RunConfig
from training.config.sections import Part
from training.objectives import CrossEntropy
from training.resources.dry_run import plan

KINDS, EXAMPLES, STEPS = 2000, 16, 4


@pytest.fixture(autouse=True)
def large_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked_losses, "LARGE", EXAMPLES * LENGTH * KINDS)


def config_of(readout: str, shape: str = "whole", **others) -> RunConfig:
    data = {"kinds": KINDS}
    return make(
        shape, NEVER, STEPS, data, batch_size=EXAMPLES, readout=Part(kind=readout), **others
    )


def held(config: RunConfig) -> int:
    """Bytes between a forward pass that was asked for losses and its backward pass."""
    built = build_all(config)
    batch = built.task.batch("train", 0, config.batch_size)
    live = LiveTensors(built.model.parameters())
    objective = CrossEntropy()
    with live:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            output = built.model(batch.tokens, asked=objective.asked(batch))
        terms = objective(output, batch, built.cost)
    assert output.answers is not None
    assert terms.task.requires_grad
    return live.bytes()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("shape", ["plain", "whole", "tied"])
@pytest.mark.parametrize("readout", ["WeightedMean", "EveryStep"])
def test_activations_are_near_what_autograd_holds(readout, shape, precision):
    config = config_of(readout, shape, precision=precision, device="cpu")
    assert plan(config).activations.full == pytest.approx(held(config), rel=0.1)


@pytest.mark.parametrize("readout", ["WeightedMean", "EveryStep"])
def test_only_large_logits_are_counted_as_losses(readout, monkeypatch):
    config = config_of(readout)
    fused = plan(config).activations
    monkeypatch.setattr(asked_losses, "LARGE", 1 + EXAMPLES * LENGTH * KINDS * STEPS)
    whole = plan(config).activations
    logits = 4 * EXAMPLES * LENGTH * KINDS
    assert whole.full - fused.full > logits
    assert whole.checkpointed - fused.checkpointed == whole.full - fused.full


def test_an_objective_that_wants_logits_gets_them_counted():
    wants = config_of("WeightedMean", objective=Part(kind=f"{__file__}:Own"))
    model = build_all(wants).model
    tokens = EXAMPLES * LENGTH
    assert plan(wants).activations.full == activation_bytes(model, tokens, STEPS)
    assert plan(config_of("WeightedMean")).activations.full == activation_bytes(
        model, tokens, STEPS, losses=True
    )


class Own(CrossEntropy):
    """Another loss, of logits."""

    def losses(self, logits, targets, batch, index):
        return 2 * super().losses(logits, targets, batch, index)
