"""The loss of each step is that of a run with that limit."""

import pytest
import torch
from small_runs import small
from token_folders import folder_of, texts

from act.models.asked_losses import AskedLosses
from training.build import build_all
from training.config.run_config import RunConfig
from training.engine.local import LocalEngine
from training.evaluation.evaluate import EvaluationStopped, evaluate
from training.evaluation.step_losses import step_losses

RULES = {
    "GravesACT": {"bias_init": -0.5},
    "PonderNet": {},
    "ExitGate": {},
    "UniversalTransformerACT": {"bias_init": 0.0},
    "FixedSteps": {},
}


def engine_of(config: RunConfig):
    """Untrained, with a gate that tells tokens apart."""
    torch.manual_seed(0)
    built = build_all(config)
    for name, weight in built.model.recurrence.rule.named_parameters():
        if name.endswith("gate.weight"):
            torch.nn.init.normal_(weight, std=0.5)
    return LocalEngine(built.model, config.optimizer, torch.device("cpu")), built.task


@pytest.mark.parametrize(
    ("rule", "coda_layers"),
    [*((rule, 0) for rule in RULES), ("GravesACT", 1), ("ExitGate", 1)],
)
def test_they_are_those_of_runs_with_that_limit(rule, coda_layers, tmp_path):
    config = small(
        tmp_path,
        halting={"kind": rule, "options": RULES[rule]},
        model={"width": 16, "num_heads": 2, "coda_layers": coda_layers},
    )
    engine, task = engine_of(config)
    found = step_losses(engine, task, "validation", 12, 8)
    assert found is not None and found.bits_per_byte is None and found.examples == 16
    for step, loss in enumerate(found.loss, start=1):
        tally = evaluate(engine, task, "validation", 12, 8, max_steps=step)
        assert loss == pytest.approx(tally.figures()["loss"], rel=1e-5), step
    assert len(set(found.loss)) == 4, "the steps differ"


def test_bits_a_byte_of_text(tmp_path):
    folder = folder_of(tmp_path / "tokens", texts(60))
    config = small(
        tmp_path,
        data={"kind": "Tokens", "options": {"folder": [str(folder)], "length": 12}},
        model={"width": 16, "num_heads": 2},
    )
    engine, task = engine_of(config)
    found = step_losses(engine, task, "validation", 4, 4)
    assert found is not None and found.bits_per_byte is not None
    last = evaluate(engine, task, "validation", 4, 4).figures()
    assert found.bits_per_byte[-1] == pytest.approx(last["bits_per_byte"], rel=1e-5)
    assert found.figures().keys() == {"loss_by_step", "bits_per_byte_by_step"}


def test_logits_are_never_whole_and_training_goes_on_as_it_would(tmp_path, monkeypatch):
    engine, task = engine_of(small(tmp_path))
    seen = []
    forward = engine.forward

    def watched(batch, *args, **options):
        output = forward(batch, *args, **options)
        seen.append((len(output.logits), output.step_logits, options["asked"]))
        return output

    monkeypatch.setattr(engine, "forward", watched)
    engine.train()
    before = torch.get_rng_state()
    step_losses(engine, task, "validation", 4, 4)
    assert engine.model.training and torch.equal(before, torch.get_rng_state())
    ((rows, logits, asked),) = seen
    assert rows == 0 and logits is None and isinstance(asked, AskedLosses)


def test_a_stop_is_obeyed(tmp_path):
    engine, task = engine_of(small(tmp_path))

    class Asked:
        asked = True

    engine.train()
    with pytest.raises(EvaluationStopped):
        step_losses(engine, task, "validation", 16, 4, Asked())  # pyright: ignore[reportArgumentType]
    assert engine.model.training
