"""`ponder calibrate`: the cheapest exit whose loss of quality is bounded, with a stated
confidence."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from halting.errors import UsageError
from training.cli.evaluate import check_counts
from training.console.output_files import check_absent, write_text
from training.console.screen import thousands
from training.console.table import aligned
from training.exits.answers import Answers, Examples, answer
from training.exits.exit import Exit
from training.exits.guarantee import (
    CALIBRATED,
    DEFAULT,
    Guarantee,
    TestedExit,
    fingerprint,
    keep,
    place,
)
from training.exits.learn_then_test import Tested, fewest_units, fixed_sequence, last_that_holds
from training.exits.path import OpenExit, chains, open_exit
from training.exits.quality_loss import IN_WORDS, QualityLoss, quality_loss
from training.exits.repeats import repeats_in_words
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json

FIRST = 1_000_000
"""The number of the first calibration example of a split: no test or evaluation of a run comes so
far."""
LOOKED_AT = 128
"""Training examples on which the settings to test are laid out."""
SETTINGS = 40
"""Of an exit, at most about so many."""
_SHOWN = 6


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
    json: Path | None = None
    """write the guarantee elsewhere too"""


def main(argv: Sequence[str]) -> int:
    """Calibrates; gives the exit code."""
    options = tyro.cli(
        Options, args=list(argv), prog="ponder calibrate", description=Options.__doc__
    )
    check_counts(examples=options.examples, batch_size=options.batch_size)
    check_probabilities(risk=options.risk, confidence=options.confidence)
    _check_name(options.name)
    run = load_run(Path(options.run) if options.run is not None else newest_run())
    check_absent(place(run.weights, options.name), options.json)
    exits = [open_exit(run, spec) for spec in dict.fromkeys(options.exit)]
    _check_enough_examples(
        options, level_of_each(exits, options.confidence), sum(each.num_chains for each in exits)
    )
    examples = Examples.of(run.task, options.split, FIRST, options.examples, options.batch_size)
    guarantee = calibrate(run, exits, examples, options)
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
    print(f"next: ponder eval {run.folder} --exit learned {called}")
    return 0


def calibrate(
    run: Run, exits: Sequence[OpenExit], examples: Examples, options: Options
) -> Guarantee:
    """Tests the settings of each exit on the examples, and takes the cheapest that holds, in
    executed FLOPs.

    Args:
        run: the run.
        exits: at least one; each of their chains is tested at its share of the level, so that
            taking one is covered.
        examples: the calibration sequences.
        options: what is asked for.
    """
    full, losses = measured_against_full_depth(run, examples, options.loss)
    looked_at = Examples.of(run.task, "train", 0, LOOKED_AT, options.batch_size)
    level = level_of_each(exits, options.confidence)
    held: list[TestedExit] = []
    tested: list[TestedExit] = []
    for given in exits:
        answers: dict[str, Answers] = {}

        def lost(setting: Exit, answers: dict[str, Answers] = answers) -> np.ndarray:
            if setting.name not in answers:
                answers[setting.name] = answer(run, setting, examples)
            return losses(answers[setting.name])

        for chain in chains(run, given, looked_at, SETTINGS):
            found = fixed_sequence(chain, lost, options.risk, level)
            tested += [_as_record(each, answers[each.setting.name]) for each in found]
            last = last_that_holds(found)
            held += [] if last is None else [_as_record(last, answers[last.setting.name])]
    cheaper = [each for each in held if each.flops_per_token < full.flops_per_token]
    best = min(cheaper, key=lambda each: each.flops_per_token, default=None)
    asked = int(examples.has_target.any(1).sum())
    return Guarantee(
        exit=f"fixed:{exits[0].limit}" if best is None else best.exit,
        found=best is not None,
        risk=options.risk,
        confidence=options.confidence,
        loss=options.loss,
        full_depth=exits[0].limit,
        full_flops_per_token=full.flops_per_token,
        sequences=asked,
        split=options.split,
        first_example=FIRST,
        num_examples=options.examples,
        data=run.config.data.model_dump(mode="json") | {"seed": run.config.seed},
        data_fingerprint=examples.fingerprint(),
        weights_fingerprint=fingerprint(run.weights),
        among=[each.spec for each in exits],
        tested=tested,
    )


def level_of_each(exits: Sequence[OpenExit], confidence: float) -> float:
    """The chance of an error that each chain of tests is allowed, so that all of them together keep
    the confidence."""
    return (1 - confidence) / max(1, sum(each.num_chains for each in exits))


def measured_against_full_depth(
    run: Run, examples: Examples, kind: QualityLoss
) -> tuple[Answers, Callable[[Answers], np.ndarray]]:
    """What the model answers when all tokens run to its step limit, and what sequences lose against
    that."""
    limit = run.model.recurrence.max_steps
    full = answer(run, Exit(f"fixed:{limit}", steps=limit), examples)
    targets = examples.targets
    asked = examples.has_target
    return full, lambda early: quality_loss(kind, early, full, targets, asked)


def guarantee_text(run: Run, found: Guarantee) -> str:
    """What was tested and what came of it, as text."""
    rows = [
        (
            f"fixed:{found.full_depth} (full depth)",
            "0",
            "–",
            f"{found.full_depth:.2f}",
            thousands(found.full_flops_per_token),
            "1.00",
            "",
        )
    ]
    for each in _last_of_each(found.tested):
        if isinstance(each, int):
            rows.append((f"  {each} safer ones, all hold", "", "", "", "", "", ""))
            continue
        share = each.flops_per_token / found.full_flops_per_token
        said = (
            "★"
            if found.found and each.exit == found.exit
            else ("holds" if each.holds else "not shown")
        )
        flops = thousands(each.flops_per_token)
        short = each.exit if len(each.exit) <= 44 else f"{each.exit[:43]}…"
        rows.append(
            (
                short,
                f"{each.risk:.5f}",
                f"{each.p_value:.3g}",
                f"{each.mean_steps:.2f}",
                flops,
                f"{share:.2f}",
                said,
            )
        )
    head = ("exit", "lost", "p-value", "steps", "FLOPs a token", "of full", "")
    lines = [
        f"{run.folder}, {found.sequences} fresh sequences like those of the {found.split} split\n"
        f"lost: the {IN_WORDS[found.loss]}\n",
        aligned(head, rows),
        "",
        found.in_words(),
    ]
    if (chosen := found.chosen) is not None:
        saved = 1 - chosen.flops_per_token / found.full_flops_per_token
        lines.append(
            f"★ {chosen.exit} takes {chosen.mean_steps:.2f} steps and saves {saved:.1%} of the "
            "FLOPs."
        )
    return "\n".join(lines)


def _last_of_each(tested: Sequence[TestedExit]) -> list[TestedExit | int]:
    """Of each order of tests the last few, and before them how many are left out. One ends where a
    setting fails."""
    shown: list[TestedExit | int] = []
    start = 0
    for number, each in enumerate(tested, start=1):
        last = (
            number == len(tested)
            or not each.holds
            or _kind(tested[number].exit) != _kind(each.exit)
        )
        if last:
            left_out = max(0, number - start - _SHOWN)
            shown += [left_out] * (left_out > 0) + list(tested[start + left_out : number])
            start = number
    return shown


def _kind(spec: str) -> str:
    return re.split(r"[:,]\w+=|:\d", spec)[0]


def check_probabilities(**shares: float) -> None:
    """Raises UsageError for what is no chance between 0 and 1."""
    for name, value in shares.items():
        if not 0 < value < 1:
            raise UsageError(
                f"--{name} is {value}.",
                "It is a share: nothing can be shown at 0 or at 1.",
                f"Write --{name} between 0 and 1, such as {'0.01' if name == 'risk' else '0.95'}.",
            )


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


def _as_record(tested: Tested[Exit], answers: Answers) -> TestedExit:
    return TestedExit(
        exit=tested.setting.name,
        risk=tested.risk,
        p_value=tested.p_value,
        holds=tested.holds,
        mean_steps=answers.mean_steps,
        flops_per_token=answers.flops_per_token,
    )
