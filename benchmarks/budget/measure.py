"""What the run folder of a training says of its mean ponder."""

import json
import statistics
from pathlib import Path

from benchmarks.harness.rows import Row
from training.runs.metrics import read_metrics


def measure(homes: list[Path]) -> Row:
    """What the run folder says of the last quarter, and of the test split."""
    summary = json.loads((homes[-1] / "summary.json").read_text(encoding="utf-8"))
    lines = read_metrics(homes[-1], "train")
    evaluations = read_metrics(homes[-1], "evaluation")
    begin = 0.75 * lines[-1]["update"]
    weights = {line["update"]: line["penalty"] for line in lines}
    budget = summary.get("budget", {})
    return {
        "task": summary["recipe"],
        "accuracy": summary["accuracy"],
        "ponder": summary["mean_ponder"],
        "executed": summary["mean_steps"],
        "held": statistics.fmean(line["mean_ponder"] for line in lines if line["update"] > begin),
        "late_evaluations": [each["mean_ponder"] for each in evaluations if each["update"] > begin],
        "target": budget.get("target_steps"),
        "says": budget.get("says"),
        "penalty_at_end": lines[-1]["penalty"],
        "path": [
            [each["update"], weights[each["update"]], each["mean_ponder"], each["accuracy"]]
            for each in evaluations
            if each["update"] in weights
        ],
        "seconds": summary["train_seconds"],
    }
