"""`ponder show`: the ponder map of a run, in the terminal, as a picture, a page or numbers."""

import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from halting.errors import UsageError
from halting.maps.aggregates import aggregate
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page import page
from halting.maps.viewers.picture import aggregates as picture_aggregates
from halting.maps.viewers.picture import map as picture
from halting.maps.viewers.terminal import map as terminal
from training.cli import aggregates_text as aggregating
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, new_file, write_text
from training.resources.compute_saved import draw_saved
from training.resources.compute_savings import measure_saved
from training.runs import growth
from training.runs.loaded import Run, load_run, newest_run
from training.runs.map_json import map_json, map_metadata
from training.runs.metrics import to_json
from training.runs.run_path import RunPath
from training.tasks.task import SPLITS, Batch
from training.tuning.pareto_file import read_points
from training.tuning.pareto_picture import draw_pareto

_SHOWN = 3
_AGGREGATED = 256
_HEAD = 2048
_TITLE = b"<title>Ponder map: "


@dataclass(frozen=True)
class Options:
    """The ponder map of a run: who thought how long."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    text: str | None = None
    """a text to think about, instead of the run's own examples"""
    split: str | None = None
    """fresh examples of train, validation or test, instead of the map that the run kept"""
    allow_changed_data: bool = False
    """fresh examples may come from other files than the run was trained on"""
    examples: int | None = None
    """how many sequences to show, 3 if left out; with --split also how many to run, 256 with
    --aggregates"""
    max_steps: int | None = None
    """another step limit"""
    png: Path | None = None
    """write a picture"""
    pareto: Path | None = None
    """the folder of a sweep, for the picture; or a JSON list of points with label, accuracy and
    compute"""
    measure: bool = True
    """measure, for the picture, what halting saves against a fixed depth"""
    html: Path | None = None
    """write a page"""
    json: Path | None = None
    """write the numbers"""
    overwrite: bool = False
    """replace files that are there already"""
    open: bool = False
    """open the page in a browser; RUN.html in this folder where --html names no other"""
    aggregates: bool = False
    """instead of the map, what a paper would print of it: mean steps by group with intervals,
    calibration, compute spent in vain; as a table, with --png as a picture, with --json as
    numbers"""
    bars: bool = False
    """histograms of steps, and of steps by difficulty"""
    ascii: bool = False
    """no character beyond ASCII"""
    width: int | None = None
    """characters a line; the terminal's if left out"""


def main(argv: Sequence[str]) -> int:
    """Shows a map; gives the exit code."""
    check_examples_flag(argv, "show")
    options = tyro.cli(Options, args=list(argv), prog="ponder show", description=Options.__doc__)
    points = [] if options.pareto is None else read_points(options.pareto)
    folder = Path(options.run) if options.run is not None else newest_run()
    page_file = options.html
    if options.open and page_file is None:
        page_file = Path(f"{RunPath.parse(folder).name}.html")
        overwrite = options.overwrite or _is_page(page_file)
    else:
        overwrite = options.overwrite
    check_outputs(page_file, overwrite=overwrite)
    check_outputs(options.png, options.html, options.json, overwrite=options.overwrite)
    found = find_map(folder, options)
    plain = options.ascii or "utf" not in (sys.stdout.encoding or "").lower()
    if options.aggregates:
        figures = aggregate(found, _deeper(folder, options, found))
        print(aggregating.text(figures, found, ascii_only=plain))
    else:
        figures = None
        print(
            terminal.render(
                found,
                options.examples or _SHOWN,
                options.width,
                ascii_only=plain,
                bars=options.bars,
            )
        )
    if options.png is not None and figures is not None:
        with new_file(options.png) as beside_it:
            picture_aggregates.save_aggregates_picture(figures, found, beside_it)
    elif options.png is not None:
        beside: list[picture.Panel] = []
        if points:
            beside.append(partial(draw_pareto, points=points))
        if options.measure:
            run = load_run(folder, allow_changed_data=options.allow_changed_data)
            if (batch := _measured_batch(run, options)) is not None:
                saved = measure_saved(run, batch)
                beside.append(partial(draw_saved, ponder_map=found, saved=saved))
        with new_file(options.png) as beside_it:
            picture.save_map_picture(found, beside_it, beside=beside)
    if page_file is not None:
        latest, before = _grown(folder, options, found)
        write_text(page_file, page.to_html(latest, growth=before))
    if options.json is not None:
        numbers = (
            map_json(found)
            if figures is None
            else {"metadata": map_metadata(found), **figures.values()}
        )
        write_text(options.json, to_json(numbers) + "\n")
    for path in (options.png, page_file, options.json):
        if path is not None:
            print(f"wrote {path}")
    if options.open and page_file is not None:
        _open(page_file)
    return 0


def find_map(folder: Path, options: Options) -> PonderMap:
    """The map that the options ask for: the kept one, or one made now."""
    check_counts(examples=options.examples, max_steps=options.max_steps)
    if options.text is not None and options.split is not None:
        raise UsageError(
            "Both --text and --split are given.",
            "Each says what the model shall read.",
            "Keep one of the two.",
        )
    kept = folder / "ponder_map.npz"
    if (
        options.text is None
        and options.split is None
        and options.max_steps is None
        and kept.is_file()
    ):
        return PonderMap.load(folder / "ponder_map")
    run = load_run(folder, allow_changed_data=options.allow_changed_data)
    if options.text is not None:
        return run.ponder_map(options.text, options.max_steps)
    split = options.split or "test"
    if split not in SPLITS:
        raise UsageError(
            f"--split is {split}.", f"The splits are {', '.join(SPLITS)}.", "Write one of them."
        )
    number = options.examples or (_AGGREGATED if options.aggregates else _SHOWN)
    return run.ponder_map(run.task.batch(split, 0, number), options.max_steps)


def _grown(folder: Path, options: Options, found: PonderMap) -> tuple[PonderMap, list[PonderMap]]:
    """The map, and how it grew where it is the one that the run kept."""
    if options.text is not None or options.split is not None or options.max_steps is not None:
        return found, []
    maps, wrong = growth.read_growth(folder)
    for says in wrong:
        print(f"left out: {says}", file=sys.stderr)
    return growth.grown(found, maps)


def _measured_batch(run: Run, options: Options) -> Batch | None:
    """The typed text, or as many examples as an update of its training has; None where the files
    that they are made from are gone."""
    if options.text is not None:
        return run.batch_of(options.text)
    return _examples(run, options, run.config.batch_size // run.config.accumulation)


def _examples(run: Run, options: Options, number: int) -> Batch | None:
    """The run's own examples, for what comes beside a map; None, and a word, without its files."""
    try:
        return run.task.batch(options.split or "test", 0, number)
    except UsageError as error:
        print(f"left out what takes the run's own examples: {error.what}", file=sys.stderr)
        return None


def _deeper(folder: Path, options: Options, found: PonderMap) -> PonderMap | None:
    """The same examples with all steps for every token; None for a text, to which no right answer
    is known."""
    if options.text is not None:
        return None
    run = load_run(folder, allow_changed_data=options.allow_changed_data)
    batch = _examples(run, options, found.num_sequences)
    if batch is None or found.targets is None:
        return None
    same = np.array_equal(batch.targets.numpy(), found.targets)
    return aggregating.deeper_map(run, batch, found.max_steps) if same else None


def _is_page(path: Path) -> bool:
    """Whether a page of ours stands there, which was made to be opened and can be made again."""
    try:
        with path.open("rb") as file:
            return _TITLE in file.read(_HEAD)
    except OSError:
        return False


def _open(path: Path) -> None:
    try:
        opened = webbrowser.open(path.absolute().as_uri())
    except (OSError, subprocess.SubprocessError):
        opened = False
    if not opened:
        print(f"no browser could be started; open {path} yourself", file=sys.stderr)
