"""What the run folder of a training says."""

import json
from pathlib import Path

from benchmarks.harness.rows import Row
from training.runs.metrics import read_metrics


def measure(homes: list[Path]) -> Row:
    """What the run folder says of both splits: like training (validation), and with more non-zero
    elements (test)."""
    summary = json.loads((homes[-1] / "summary.json").read_text(encoding="utf-8"))
    within = read_metrics(homes[-1], "evaluation")[-1]
    return {
        "within": within["accuracy"],
        "beyond": summary["accuracy"],
        "beyond_by_count": summary["accuracy_by_difficulty"],
        "steps_within": within["mean_steps"],
        "steps_beyond": summary["mean_steps"],
        "ponder_within": within["mean_ponder"],
        "ponder_beyond": summary["mean_ponder"],
        "seconds": summary["train_seconds"],
    }
