"""`ponder report`: was learned halting worth it? On one checkpoint, at equal executed compute,
against what needs no training: exits put on afterwards, one depth for all, and a model trained at a
fixed depth if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from halting.errors import UsageError
from training.console.amounts import counted
from training.console.command_text import command_text
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, new_file, write_text
from training.exits.answers import Examples
from training.exits.exit import parse_exit
from training.reports.halting_report import examine, report_figures, usable_exits
from training.reports.report_text import draw_report, report_page, report_text
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json

_FEWEST = 16
_EXITS = ("convergence", "convergence:kl", "confidence")


@dataclass(frozen=True)
class Options:
    """Was learned halting worth it? The learned rule against what needs no training, at equal
    executed compute."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    fixed: tuple[str, ...] = ()
    """runs of the same task that were trained from scratch at a fixed depth (--halting.kind
    FixedSteps)"""
    exit: tuple[str, ...] = _EXITS
    """exits to put on the trained model, without their thresholds, of which several are tried"""
    split: Literal["validation", "test"] = "test"
    """which examples"""
    examples: int | None = None
    """how many; as many as the run's own test if left out"""
    batch_size: int = 256
    """examples computed at once"""
    points: int = 12
    """settings of each exit, spread out, at most; a few more lie close to what the learned rule
    takes"""
    repeats: int = 3
    """how often each setting is timed; medians are shown"""
    name: str | None = None
    """of the files in the run folder; halting_report, or halting_report-update-000500 for that
    checkpoint, if left out"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    overwrite: bool = False
    """replace files that are there already"""


def main(argv: Sequence[str]) -> int:
    """Reports; gives the exit code."""
    check_examples_flag(argv, "report")
    options = tyro.cli(Options, args=list(argv), prog="ponder report", description=Options.__doc__)
    check_counts(
        examples=options.examples,
        batch_size=options.batch_size,
        points=options.points,
        repeats=options.repeats,
    )
    for spec in options.exit:
        parse_exit(spec)
    if options.name is not None and (Path(options.name).name != options.name or not options.name):
        raise UsageError(
            f"--name {options.name!r} is no name of a file.",
            "The files stand in the run folder.",
            "Write a word.",
        )
    run = load_run(
        Path(options.run) if options.run is not None else newest_run(),
        allow_changed_data=options.allow_changed_data,
    )
    of = "" if run.path == str(run.folder) else f"-{run.weights.parent.name}"
    name = options.name or f"halting_report{of}"
    files = [run.folder / f"{name}.{ending}" for ending in ("md", "json", "png")]
    check_outputs(*files, overwrite=options.overwrite)
    scratch = [
        load_run(Path(folder), allow_changed_data=options.allow_changed_data)
        for folder in options.fixed
    ]
    exits, left_out = usable_exits(run, options.exit)
    number = options.examples or run.config.evaluation.test_examples
    if number < _FEWEST:
        raise UsageError(
            f"--examples {number} are too few.",
            "Intervals are made by drawing sequences again and again, and so few say nothing.",
            f"Write --examples {_FEWEST} or more; a thousand tell differences of a percentage "
            "point.",
        )
    examples = Examples.of(run.task, options.split, 0, number, options.batch_size)
    for other in scratch:
        _check_same_task(run, other, options.split)
    report = examine(run, scratch, exits, examples, options.points, options.repeats)
    figures = report_figures(run, report, examples, options.split)
    print(f"{run.path}, {options.split} split, {counted(number, 'example')}\n")
    print(report_text(report, figures))
    for note in left_out:
        print(note)
    write_text(files[0], report_page(run, report, figures, files[2].name, left_out))
    write_text(files[1], to_json(figures, indent=2) + "\n")
    with new_file(files[2]) as beside:
        draw_report(beside, run, report, figures)
    print("\nwrote " + ", ".join(str(path) for path in files))
    return 0


def _check_same_task(run: Run, other: Run, split: str) -> None:
    same = other.task.vocab_size == run.task.vocab_size and (
        Examples.of(other.task, split, 0, 2, 2).fingerprint()
        == Examples.of(run.task, split, 0, 2, 2).fingerprint()
    )
    if not same:
        raise UsageError(
            f"--fixed {other.folder} was trained on other examples than {run.folder}.",
            "Two models are compared on the same sequences, so task, its options and the seed have "
            "to agree.",
            f"Train one on them: {command_text('ponder', 'train', run.config.recipe)} "
            "--halting.kind FixedSteps "
            f"--loop.max-steps N --seed {run.config.seed}",
        )
