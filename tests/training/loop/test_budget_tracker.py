"""Which checkpoint a run with a target keeps, and how sure it is of a mean."""

import numpy as np
import pytest
import torch

from act import LoopedTransformer
from act.models.looped_model import ModelOutput
from halting.trace import LoopTrace
from training.evaluation.tally import Tally
from training.loop import budget_tracker
from training.loop.budget_tracker import BudgetTracker
from training.recipes.load import load_recipe
from training.tasks.task import IGNORE, Batch


def counted(steps: torch.Tensor, valid: torch.Tensor) -> Tally:
    """The tally of tokens that took so many steps."""
    batch, length = steps.shape
    mass = torch.nn.functional.one_hot(steps.clamp(min=1) - 1, 8).double() * valid.unsqueeze(-1)
    nothing = torch.zeros(batch, length, 8)
    trace = LoopTrace(mass, nothing, steps * valid, valid, {}, None, None)
    rule = LoopedTransformer(3, 8, 2, max_steps=8).recurrence.rule
    targets = torch.full((batch, length), IGNORE)
    unknown = torch.full((batch, length), torch.nan)
    given = Batch(targets, targets, valid, unknown)
    tally = Tally(8)
    tally.add(ModelOutput(torch.zeros(batch, length, 3), trace, None), given, rule)
    return tally


def test_the_error_of_a_mean_is_its_spread_over_samples() -> None:
    random = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(300):
        lengths = random.integers(2, 12, size=64)
        valid = torch.from_numpy(np.arange(12) < lengths[:, None])
        own = random.integers(1, 6, size=(64, 1))  # the tokens of a sequence think alike
        steps = torch.from_numpy(np.clip(own + random.integers(0, 3, size=(64, 12)), 1, 8))
        tally = counted(steps, valid)
        means.append(tally.figures()["mean_ponder"])
        errors.append(tally.ponder_error())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    half = [counted(steps[rows], valid[rows]) for rows in (slice(0, 20), slice(20, 64))]
    both = half[0].plus(half[1])
    assert both.ponder_error() == pytest.approx(errors[-1])
    assert both.figures() == pytest.approx(tally.figures(), nan_ok=True)


def test_the_last_within_one_per_cent_is_kept_else_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_recipe("parity")
    config = config.replace(penalty=config.penalty.replace(target_steps="4"))
    tracker = BudgetTracker(config)
    now = {"ponder": 4.0}

    def surely(runner, task, examples, batch_size, start, decided):
        steps = torch.full((100, 100), 4)
        more = round((now["ponder"] - 4) * 10_000)
        flat = steps.flatten()
        flat[: abs(more)] += 1 if more > 0 else -1
        return counted(flat.view(100, 100), torch.ones(100, 100, dtype=torch.bool)), examples

    monkeypatch.setattr(budget_tracker, "evaluate_surely", surely)
    kept = []
    for update, ponder in enumerate((4.0, 4.5, 4.11, 4.08, 4.1, 4.03, 4.02, 4.05, 3.97, 3.9), 70):
        now["ponder"] = ponder
        tracker.look((update - 0.5) / 100, (update + 10) / 100, update, None, None, 8)  # pyright: ignore[reportArgumentType]
        kept.append(tracker.update)
    #               4.0  4.5   4.11 4.08 4.1 4.03 4.02 4.05 3.97 3.9
    assert kept == [70, 70, 70, 70, 70, 75, 76, 76, 78, 78]
    fresh = BudgetTracker(config)
    kept = []
    for update, ponder in enumerate((4.5, 4.11, 4.08, 4.1), 70):
        now["ponder"] = ponder
        fresh.look((update - 0.5) / 100, (update + 10) / 100, update, None, None, 8)  # pyright: ignore[reportArgumentType]
        kept.append(fresh.update)
    assert kept == [None, 71, 72, 72] and fresh.off == pytest.approx(0.02)
