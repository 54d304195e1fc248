"""`ponder ablate`: a trained run at fixed depths, also beyond the trained maximum."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from halting.errors import UsageError
from training.console.amounts import counted
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, write_text
from training.console.table import aligned
from training.exits.evaluate_exit import evaluate_exit
from training.exits.exit import Exit
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json


@dataclass(frozen=True)
class Options:
    """A trained run at fixed depths: where more steps help, stop helping, hurt."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    """the depths"""
    split: Literal["train", "validation", "test"] = "test"
    """which examples"""
    examples: int | None = None
    """how many; as many as the run's own test if left out"""
    batch_size: int = 64
    """examples computed at once"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    json: Path | None = None
    """write the figures"""
    overwrite: bool = False
    """replace a file that is there already"""


def main(argv: Sequence[str]) -> int:
    """Ablates; gives the exit code."""
    check_examples_flag(argv, "ablate")
    options = tyro.cli(Options, args=list(argv), prog="ponder ablate", description=Options.__doc__)
    if not options.steps or min(options.steps) < 1:
        raise UsageError(
            f"--steps {' '.join(map(str, options.steps))}.",
            "A depth is one step or more.",
            "Write --steps 1 2 4 8 16.",
        )
    check_counts(examples=options.examples, batch_size=options.batch_size)
    check_outputs(options.json, overwrite=options.overwrite)
    run = load_run(
        Path(options.run) if options.run is not None else newest_run(),
        allow_changed_data=options.allow_changed_data,
    )
    num_examples = options.examples or run.config.evaluation.test_examples
    rows = ablate(run, options.steps, options.split, num_examples, options.batch_size)
    about = (
        f"{options.split} split, {counted(num_examples, 'example')}, trained with at most "
        f"{counted(run.config.loop.max_steps, 'step')}"
    )
    print(f"{run.path}, {about}\n")
    print(table(rows))
    print(
        "\nstopped: had all tokens stopped at that step, by the model's own readout with the "
        "remaining mass on it."
        "\nbare: the state of that step alone, which a model trained to be averaged was never "
        "asked to answer from."
    )
    if options.json is not None:
        write_text(options.json, to_json(rows, indent=2) + "\n")
        print(f"\nwrote {options.json}")
    return 0


def ablate(
    run: Run, steps: Sequence[int], split: str, num_examples: int, batch_size: int
) -> list[dict[str, Any]]:
    """A row a depth, and one for the learned exit: figures by the model's own readout, and of the
    bare state."""
    rows: list[dict[str, Any]] = []
    exits = [Exit("learned"), *(Exit(f"fixed:{depth}", depth) for depth in sorted(set(steps)))]
    for each in exits:
        row: dict[str, Any] = {"exit": each.name, "depth": each.steps, "beyond": _beyond(run, each)}
        row["stopped"] = evaluate_exit(run, each, split, num_examples, batch_size).figures()
        if each.steps is not None:
            bare = Exit(each.name, each.steps, bare=True)
            row["bare"] = evaluate_exit(run, bare, split, num_examples, batch_size).figures()
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of `ablate`, aligned."""
    lines = []
    for row in rows:
        stopped = row["stopped"]
        bare = row.get("bare")
        lines.append(
            (
                row["exit"] + (" *" if row["beyond"] else ""),
                f"{stopped['mean_steps']:.2f}",
                f"{stopped['accuracy']:.2%}",
                f"{stopped['loss']:.4f}",
                f"{bare['accuracy']:.2%}" if bare else "",
                f"{bare['loss']:.4f}" if bare else "",
            )
        )
    text = aligned(("exit", "executed", "stopped: tokens", "loss", "bare: tokens", "loss"), lines)
    return text + (
        "\n* beyond the steps it was trained with" if any(row["beyond"] for row in rows) else ""
    )


def _beyond(run: Run, each: Exit) -> bool:
    return each.steps is not None and each.steps > run.config.loop.max_steps
