"""Sweeps whose trials are told rather than trained."""

from pathlib import Path
from typing import Any

from training.tuning.space import Space, label
from training.tuning.sweep import Sweep
from training.tuning.trial_budget import TrialBudget


def space_of(*words: str, recipe: str = "pointer_chase") -> Space:
    return Space.read(recipe, words)


def sweep_of(folder: Path, *words: str, budget: str | None = "5updates") -> tuple[Sweep, Space]:
    sweep, space = Sweep(folder), space_of(*words)
    sweep.begin(space, None if budget is None else TrialBudget.read(budget), "accuracy")
    return sweep, space


def figures(accuracy: float, steps: float, collapsed: bool = False) -> dict[str, Any]:
    names = (
        "sequence_accuracy",
        "loss",
        "bits",
        "std_steps",
        "mean_ponder",
        "share_at_step_1",
        "share_at_max",
    )
    known = {
        "flops_per_token": 1000 * steps,
        "max_steps": 10,
        "collapsed": collapsed,
        "spearman_steps_difficulty": None,
    }
    return {**dict.fromkeys(names, 0.0), "accuracy": accuracy, "mean_steps": steps, **known}


def measure_all(sweep: Sweep, found: dict[str, dict[str, Any]]) -> None:
    while claim := sweep.claim():
        sweep.finish(claim, found[label(claim.point)])


FOUND = {
    "0": figures(0.999, 5.0),
    "0.001": figures(0.998, 3.0),
    "0.01": figures(0.99, 2.0),
    "0.1": figures(0.98, 2.5),
    "1": figures(0.7, 1.0, collapsed=True),
}
