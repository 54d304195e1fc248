"""What a run folder says of a collapse."""

import json
from pathlib import Path

from benchmarks.harness.rows import Row, read
from training.runs.metrics import read_metrics


def measure(homes: list[Path]) -> Row:
    """What a run folder says; lines of stretches that the run was taken back from are in files of
    their own."""
    (home,) = homes
    summary = json.loads((home / "summary.json").read_text(encoding="utf-8"))
    said = [*read(home / "metrics.collapsed-1.jsonl"), *read_metrics(home)]
    alarms = [line for line in said if line["kind"] == "warning"]
    collapses = [line["update"] for line in alarms if "halting collapsed" in line["says"]]
    shallow = [
        line["update"] for line in said if line["kind"] == "train" and line["mean_steps"] <= 1.02
    ]
    return {
        "accuracy": summary["accuracy"],
        "steps": summary["mean_steps"],
        "spearman": summary.get("spearman_steps_difficulty"),
        "alarms": len(alarms),
        "shallow_from": shallow[0] if shallow else None,
        "seen_at": collapses[0] if collapses else None,
        "updates": summary["updates"],
        "recoveries": sum("recovering" in line["says"] for line in read_metrics(home, "warning")),
        "says": [line["says"] for line in alarms][:4],
        "seconds": summary["train_seconds"],
    }
