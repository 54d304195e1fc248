"""`ponder calibrate`: the cheapest exit whose loss of quality is bounded, with a stated
confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from halting.errors import UsageError
from training.console.command_text import command_text
from training.console.examples_flag import check_examples_flag
from training.console.flag_values import check_counts, check_probabilities
from training.console.output_files import check_outputs, write_text
from training.exits.answers import Examples
from training.exits.calibration import CalibrationPlan, calibrate, level_of_each
from training.exits.guarantee import CALIBRATED, DEFAULT, keep, place
from training.exits.guarantee_text import guarantee_text
from training.exits.learn_then_test import fewest_units
from training.exits.path import open_exit
from training.exits.quality_loss import QualityLoss
from training.exits.repeats import repeats_in_words
from training.runs.loaded import load_run, newest_run
from training.runs.metrics import to_json


@dataclass(frozen=True)
class Options:
    """The cheapest threshold of an exit that loses a bounded quality against full depth, with a
    stated confidence."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    risk: float = 0.01
    """the expected loss of a sequence that is allowed"""
    confidence: float = 0.95
    """the chance, over calibration sequences, that the risk is kept"""
    exit: tuple[str, ...] = ("learned",)
    """what is to find its threshold, such as learned, convergence, convergence:kl, confidence,
    confidence:gap, or fixed, whose depth is found; of several the cheapest is taken, and each is
    allowed its share of the errors"""
    loss: QualityLoss = "lost"
    """what a sequence loses: the share of its answers that are right at full depth and wrong at the
    exit (lost), that are not those of full depth (changed), or nats an answer, at most 1 (nats)"""
    split: Literal["validation", "test"] = "validation"
    """the kind of examples; fresh ones of it, which are neither trained on nor part of a test"""
    examples: int = 2000
    """how many sequences"""
    batch_size: int = 256
    """sequences computed at once"""
    name: str = DEFAULT
    """of the file beside the weights, so that several can be kept: ponder eval --exit
    calibrated:NAME"""
    allow_changed_data: bool = False
    """examples may come from other files than the run was trained on"""
    json: Path | None = None
    """write the guarantee elsewhere too"""
    overwrite: bool = False
    """replace files that are there already"""


def main(argv: Sequence[str]) -> int:
    """Calibrates; gives the exit code."""
    check_examples_flag(argv, "calibrate")
    options = tyro.cli(
        Options, args=list(argv), prog="ponder calibrate", description=Options.__doc__
    )
    check_counts(examples=options.examples, batch_size=options.batch_size)
    check_probabilities(risk=options.risk, confidence=options.confidence)
    _check_name(options.name)
    run = load_run(
        Path(options.run) if options.run is not None else newest_run(),
        allow_changed_data=options.allow_changed_data,
    )
    kept = place(run.weights, options.name)
    check_outputs(kept, options.json, overwrite=options.overwrite)
    exits = [open_exit(run, spec) for spec in dict.fromkeys(options.exit)]
    _check_enough_examples(
        options, level_of_each(exits, options.confidence), sum(each.num_chains for each in exits)
    )
    plan = CalibrationPlan(
        options.risk,
        options.confidence,
        options.loss,
        options.split,
        options.examples,
        options.batch_size,
    )
    examples = plan.examples(run.task)
    guarantee = calibrate(run, exits, examples, plan)
    kept = keep(guarantee, run.weights, options.name)
    print(guarantee_text(run, guarantee))
    of_training = min(options.examples, run.config.updates * run.config.batch_size)
    trained = Examples.of(run.task, "train", 0, of_training, options.batch_size)
    if (repeated := repeats_in_words(examples, trained)) is not None:
        print(f"\n{repeated}")
    print(f"\nwrote {kept}")
    if options.json is not None:
        write_text(options.json, to_json(guarantee.model_dump(mode="json"), indent=2) + "\n")
        print(f"wrote {options.json}")
    called = CALIBRATED if options.name == DEFAULT else f"{CALIBRATED}:{options.name}"
    changed = ("--allow-changed-data",) if options.allow_changed_data else ()
    words = ("ponder", "eval", run.path, "--exit", "learned", called, *changed)
    print(f"next: {command_text(*words)}")
    return 0


def _check_enough_examples(options: Options, level: float, num_chains: int) -> None:
    fewest = fewest_units(options.risk, level)
    if options.examples < fewest:
        raise UsageError(
            f"--examples {options.examples} are too few for --risk {options.risk:g} with "
            f"--confidence {options.confidence:g}.",
            "Even an exit that lost nothing on them could not be told from one that breaks the "
            f"risk; with {num_chains} order{'s' if num_chains > 1 else ''} of tests it takes "
            f"{fewest} sequences at least.",
            f"Write --examples {2 * fewest} or more, or a larger --risk.",
        )


def _check_name(name: str) -> None:
    if Path(name).name != name or name in ("", ".", "..", "config", "progress", "manifest"):
        raise UsageError(
            f"--name {name!r} cannot be the name of a guarantee.",
            "It becomes a file beside the weights, NAME.json, and must not be one of the run's "
            "own.",
            f"Write a word of your own, such as --name {DEFAULT}-5-percent.",
        )
