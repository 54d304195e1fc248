"""`ponder profile`: what a trained run computes, where its time goes, and what halting and packing
save."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, write_text
from training.resources.profile_text import profile_text
from training.resources.run_profile import profile
from training.runs.loaded import load_run, newest_run
from training.runs.metrics import to_json


@dataclass(frozen=True)
class Options:
    """What a trained run computes, where its time goes, and what halting and packing save."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    batch_size: int | None = None
    """examples computed at once; those of one forward pass of the run's training if left out"""
    split: Literal["train", "validation", "test"] = "test"
    """which examples"""
    repeats: int = 5
    """how often each is timed; medians are shown"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    json: Path | None = None
    """write the figures"""
    overwrite: bool = False
    """replace a file that is there already"""


def main(argv: Sequence[str]) -> int:
    """Profiles; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder profile", description=Options.__doc__)
    check_counts(batch_size=options.batch_size, repeats=options.repeats)
    check_outputs(options.json, overwrite=options.overwrite)
    run = load_run(
        Path(options.run) if options.run is not None else newest_run(),
        allow_changed_data=options.allow_changed_data,
    )
    batch_size = options.batch_size or run.config.batch_size // run.config.accumulation
    figures = profile(run, options.split, batch_size, options.repeats)
    print(profile_text(figures))
    if options.json is not None:
        write_text(options.json, to_json(figures, indent=2) + "\n")
        print(f"\nwrote {options.json}")
    return 0
