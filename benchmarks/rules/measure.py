"""What the run folders of a training say."""

import json
import statistics
from pathlib import Path

from benchmarks.harness.rows import Row
from training.runs.metrics import read_metrics


def measure(homes: list[Path]) -> Row:
    """What the run folders of a training's stages say: figures of the last, seconds of all."""
    summaries = [json.loads((home / "summary.json").read_text(encoding="utf-8")) for home in homes]
    last = summaries[-1]
    executed = [line["mean_steps"] for line in read_metrics(homes[-1], "train")]
    return {
        "task": last["recipe"],
        "accuracy": last["accuracy"],
        "ponder": last["mean_ponder"],
        "executed_training": statistics.fmean(executed[-max(1, len(executed) // 4) :]),
        "executed_evaluation": last["mean_steps"],
        "tokens": last.get("spearman_steps_difficulty"),
        "ponder_of_tokens": last.get("spearman_ponder_difficulty"),
        "sequences": last.get("spearman_sequences"),
        "seconds": sum(summary["train_seconds"] for summary in summaries),
    }
