"""A trial of a sweep, in a process of its own: trains a config and measures it on the validation
split."""

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from act.accounting.flops import count_flops
from training.config.run_config import RunConfig
from training.console.entry import run_entry
from training.distributed.process_end import end_process
from training.evaluation.evaluate import evaluate
from training.loop.alarms import single_step
from training.runs.context import TrainingContext
from training.runs.metrics import to_json
from training.start import train

FIGURES = "trial.json"


def main(argv: Sequence[str]) -> int:
    """Trains the config in a file; gives the exit code. Ends at once when whoever started it has
    gone: its standard input is a pipe that only that process holds."""
    threading.Thread(target=_end_without_parent, daemon=True).start()
    return train(RunConfig.from_json(Path(argv[0]).read_text(encoding="utf-8")), finishing=measure)


def measure(context: TrainingContext) -> dict[str, Any]:
    """Writes what the sweep compares, of as many validation examples as the run's test has: what is
    chosen by a sweep has then not been chosen by the test split."""
    config = context.config
    engine = context.engine
    progress = context.progress
    context.screen.progress("measuring …")
    tally = evaluate(
        engine, context.built.task, "validation", config.evaluation.test_examples, config.batch_size
    )
    figures = tally.figures()
    flops = count_flops(engine.model, context.built.task.max_length, inference=True)
    adaptive = any(True for _ in engine.model.recurrence.rule.parameters())
    found = {
        **figures,
        "flops_per_token": flops.forward(figures["mean_steps"]),
        "max_steps": config.loop.max_steps,
        "collapsed": adaptive and single_step(tally) is not None,
        "updates": progress.update,
        "train_seconds": progress.train_seconds,
        "training_flops": progress.flops,
    }
    (context.folder / FIGURES).write_text(to_json(found, indent=2) + "\n", encoding="utf-8")
    return found


def read_figures(folder: Path) -> dict[str, Any] | None:
    """What `measure` wrote; None where it did not come to that."""
    try:
        return json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _end_without_parent() -> None:
    os.read(
        0, 1
    )  # not through sys.stdin, whose lock this thread would hold when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    end_process(run_entry(main, sys.argv[1:]))
