"""`ponder compare`: two or more runs, or checkpoints of one, on the same examples."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from halting.errors import UsageError
from halting.maps.comparison import Comparison, compare
from halting.maps.estimate import Estimate
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name
from halting.maps.viewers.page import page
from halting.maps.viewers.picture import comparison as picture_comparison
from halting.maps.viewers.terminal import comparison as terminal_comparison
from halting.maps.viewers.terminal.comparison import LETTERS
from training.config.sections import Part
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts
from training.console.output_files import check_outputs, new_file, write_text
from training.console.table import aligned
from training.runs.loaded import Run, load_run
from training.runs.metrics import to_json
from training.tasks.task import Batch

_MOST = 6


@dataclass(frozen=True)
class Options:
    """Runs on the same examples, side by side: where they differ in steps and in answers."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """two to six run folders or checkpoints; RUN@500 is the checkpoint of update 500"""
    split: Literal["train", "validation", "test"] = "test"
    """which examples, of the first run's task"""
    examples: int = 64
    """how many"""
    text: str | None = None
    """a text to think about, instead"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    sequences: int = 3
    """how many are shown token by token"""
    png: Path | None = None
    """write a picture"""
    html: Path | None = None
    """write a page with the maps side by side"""
    json: Path | None = None
    """write the numbers"""
    overwrite: bool = False
    """replace files that are there already"""
    ascii: bool = False
    """no character beyond ASCII"""
    width: int | None = None
    """characters a line; the terminal's if left out"""


def main(argv: Sequence[str]) -> int:
    """Compares; gives the exit code."""
    check_examples_flag(argv, "compare")
    options = tyro.cli(Options, args=list(argv), prog="ponder compare", description=Options.__doc__)
    if not 2 <= len(options.runs) <= _MOST:
        raise UsageError(
            f"{len(options.runs)} runs are given.",
            f"Two to {_MOST} can be compared; checkpoints of one run count as runs.",
            "Write ponder compare runs/A runs/B, or ponder compare runs/A@500 runs/A.",
        )
    check_counts(examples=options.examples, sequences=options.sequences)
    check_outputs(options.png, options.html, options.json, overwrite=options.overwrite)
    maps = maps_of(options)
    found = [compare(maps[0], other) for other in maps[1:]]
    plain = options.ascii or "utf" not in (sys.stdout.encoding or "").lower()
    print(terminal_comparison.render(maps, options.sequences, options.width, ascii_only=plain))
    said = "\n\n".join(("", overview(maps), *differences(found), by_difficulty(maps))).rstrip()
    print(said.replace("–", "-").replace("·", "|") if plain else said)
    if options.png is not None:
        with new_file(options.png) as beside:
            picture_comparison.save_comparison_picture(maps, beside)
    if options.html is not None:
        write_text(options.html, page.to_html(maps[0], others=maps[1:]))
    if options.json is not None:
        write_text(options.json, to_json(as_json(maps, found), indent=2) + "\n")
    for path in (options.png, options.html, options.json):
        if path is not None:
            print(f"wrote {path}")
    return 0


def maps_of(options: Options) -> list[PonderMap]:
    """The map of each run, of the same examples.

    Raises:
        UsageError: for runs that have learned other tasks.
    """
    runs = [
        load_run(given, allow_changed_data=options.allow_changed_data) for given in options.runs
    ]
    for given, run in zip(options.runs, runs, strict=True):
        _check_same_task(runs[0], run, given)
    first = runs[0]
    batch = (
        first.task.batch(options.split, 0, options.examples)
        if options.text is None
        else first.batch_of(options.text)
    )
    for given, run in zip(options.runs, runs, strict=True):
        _check_length(run, batch, given)
    names = labels(options.runs)
    found = [run.ponder_map(batch) for run in runs]
    return [
        replace(each, metadata={**each.metadata, "run": name})
        for each, name in zip(found, names, strict=True)
    ]


def labels(given: Sequence[str]) -> list[str]:
    """A short name for each: the folder's, with a checkpoint's update; as it was given where two
    would be alike."""
    short = []
    for text in given:
        path = Path(text)
        update = path.name.rpartition("-")[2].lstrip("0") or "0"
        short.append(
            f"{path.parent.parent.name}@{update}"
            if path.parent.name == "checkpoints"
            else path.name
        )
    return short if len(set(short)) == len(short) else list(given)


def overview(maps: Sequence[PonderMap]) -> str:
    """A row a map."""
    rows = []
    for letter, each in zip(LETTERS, maps, strict=False):
        summary = each.summary()
        figures = (
            summary["accuracy"],
            summary["mean_ponder"],
            summary["mean_steps"],
            summary["spearman"],
        )
        shown = [
            "–" if value is None else form.format(value)
            for value, form in zip(figures, _FORMS, strict=True)
        ]
        rows.append(
            (
                f"{letter}  {each.metadata['run']}",
                str(each.metadata["rule"]),
                *shown,
                str(each.max_steps),
            )
        )
    return aligned(("run", "rule", "right", "ponder", "executed", "spearman", "at most"), rows)


_FORMS = ("{:.2%}", "{:.2f}", "{:.2f}", "{:.2f}")


def differences(found: Sequence[Comparison]) -> list[str]:
    """A column for each map but the first; intervals in brackets."""
    head = ("against A (95 % of 1,000 resamples of the sequences)", *LETTERS[1 : 1 + len(found)])
    rows = [("executed steps a token, more or fewer", *(f"{each.steps:+.2f}" for each in found))]
    named = (
        ("tokens that took longer", "longer"),
        ("tokens that took less long", "shorter"),
        ("tokens with another answer", "answers"),
        ("tokens with a target right in both", "both"),
        ("right in A alone", "only_first"),
        ("right in the other alone", "only_second"),
        ("right in neither", "neither"),
    )
    rows += [(name, *(_percent(getattr(each, key)) for each in found)) for name, key in named]
    agreement = ("–" if each.agreement is None else f"{each.agreement:.2f}" for each in found)
    return [aligned(head, [*rows, ("rank correlation of the steps", *agreement)])]


def by_difficulty(maps: Sequence[PonderMap]) -> str:
    """Mean steps of each map at each difficulty; nothing where none is known."""
    groups = [each.steps_by_difficulty() for each in maps]
    if not groups[0]:
        return ""
    rows = [
        (
            f"{level[0].difficulty:.4g}",
            f"{level[0].tokens:,}",
            *(f"{group.steps:.2f}" for group in level),
        )
        for level in zip(*groups, strict=True)
    ]
    return aligned(
        (
            difficulty_name(maps[0]),
            "tokens",
            *(f"{letter}: steps" for letter in LETTERS[: len(maps)]),
        ),
        rows,
    )


def as_json(maps: Sequence[PonderMap], found: Sequence[Comparison]) -> dict[str, Any]:
    """Figures of each map, its differences from the first, and the tokens that differ."""
    entries = []
    for number, each in enumerate(maps):
        about = {key: value for key, value in each.metadata.items() if key != "answers"}
        against = {} if number == 0 else {"against_first": found[number - 1].values()}
        steps = [each.steps[row][each.valid[row]].tolist() for row in range(each.num_sequences)]
        answers = each.final_prediction
        said = (
            []
            if answers is None
            else [answers[row][each.valid[row]].tolist() for row in range(each.num_sequences)]
        )
        entries.append(
            {
                "metadata": about,
                "summary": each.summary(),
                **against,
                "steps": steps,
                "answers": said,
            }
        )
    return {
        "texts": [maps[0].sequence(row).texts[0] for row in range(maps[0].num_sequences)],
        "maps": entries,
    }


def _percent(of: Estimate) -> str:
    if of.value is None:
        return "–"
    limits = "" if of.low is None or of.high is None else f" [{of.low:.1%}, {of.high:.1%}]"
    return f"{of.value:.1%}{limits}"


def _named(task: Part) -> str:
    return f"{task.kind} {task.options}" if task.options else task.kind


def _check_same_task(first: Run, run: Run, given: str) -> None:
    mine = first.config.data
    other = run.config.data
    if (
        mine.kind != other.kind
        or first.task.vocab_size != run.task.vocab_size
        or first.task.vocabulary() != run.task.vocabulary()
    ):
        raise UsageError(
            f"{given} learned {_named(other)}, and the first run {_named(mine)}.",
            "The runs are shown the same examples, which one of them would not understand.",
            "Compare runs of one task.",
        )


def _check_length(run: Run, batch: Batch, given: str) -> None:
    length = batch.valid.shape[1]
    longest = run.model.max_length
    if longest is not None and length > longest:
        raise UsageError(
            f"{given} has learned {longest} positions, and the examples have {length}.",
            "It knows nothing about the others.",
            "Name the run with the shorter sequences first, whose examples are used.",
        )
