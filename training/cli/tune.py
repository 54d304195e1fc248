"""`ponder tune`: many short trainings, accuracy against compute, and the setting to train for
good."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from halting.errors import UsageError
from training.build import build_all
from training.config import code_trust
from training.config.precision import check_precision
from training.console.amounts import counted
from training.console.entry import DRY_RUN, run_entry, told_if_dry
from training.console.extras import check_extra
from training.engine.ds_config import adopt, check_with_deepspeed, on_gpu
from training.recipes.load import recipe_names
from training.resources.dry_run import check_here
from training.resources.dry_run_text import dry_run_text
from training.runs.folder import base_name
from training.runs.loaded import load_run
from training.runs.start_from import read_start
from training.tuning.display import Display
from training.tuning.space import Point, Space, without_overridden
from training.tuning.sweep import Sweep, setting_of
from training.tuning.trial_budget import TrialBudget
from training.tuning.worker import Keep, Worker

_USAGE = """usage: ponder tune RECIPE --penalty.value 0 1e-3 1e-2 1e-1 [flags]
       ponder tune --out DIR [flags]   go on with a sweep, or add to it
       ponder tune … --dry-run         check every setting, and train nothing

Any flag of ponder train with several values is swept: all combinations are trained, each under
every seed. One range, LOW..HIGH or LOW..HIGH:log, has Optuna draw values instead (--trials says how
many). A flag with one value is for all trials. Recipes: {recipes}, or path/to/file.py:function."""
_LARGE = 20_000_000  # parameters: above this, only the first setting is built beforehand


@dataclass(frozen=True)
class Options:
    """Accuracy against compute over penalties, or whatever is swept."""

    trial_budget: str | None = None
    """what a trial may spend: 30s, 2000updates or 1e12flops, with the recipe's whole schedule laid
    over it; the recipe's updates if left out"""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """trainings of each setting"""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """trials at a time, each in a process of its own"""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 20
    """settings that are drawn in all, where a range is swept"""
    quality: Literal["accuracy", "sequence_accuracy", "bits"] = "accuracy"
    """what is to be high (bits: low), on the validation split"""
    keep: Keep = "figures"
    """what stays of a trial: its config, metrics and log; the whole run folder with weights; or
    nothing"""
    out: Path | None = None
    """the sweep's folder; runs/tune-RECIPE if left out"""


def main(argv: Sequence[str]) -> int:
    """Sweeps; gives the exit code: 0 when all trials are done, 1 when some failed, 130 when it was
    stopped."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE.format(recipes=", ".join(recipe_names())) + "\n")
        tyro.cli(Options, args=["--help"], prog="ponder tune RECIPE", description=Options.__doc__)
    check_extra("tune", "ponder tune")
    with told_if_dry(words):
        rest = [word for word in words if word not in DRY_RUN]
        return _tune(rest, is_dry=len(rest) < len(words))


def _tune(words: list[str], is_dry: bool) -> int:
    recipe = None if not words or words[0].startswith("-") else words.pop(0)
    own, rest = _parted(words)
    options = tyro.cli(Options, args=own, prog="ponder tune RECIPE", description=Options.__doc__)
    _check_counts(options)
    sweep, space, options = _joined(recipe, rest, options)
    budget = None if options.trial_budget is None else TrialBudget.read(options.trial_budget)
    _check(space)
    if is_dry:
        print(_dry_text(sweep, space, options))
        return 0
    sweep.begin(space, budget, options.quality)
    code_trust.remember(
        [path for spec in space.base().named_code() for path in code_trust.files_of(spec)]
    )
    return _work(sweep, space, budget, options)


def _check(space: Space) -> None:
    """Refuses what a trial would be refused for, before a folder is made.

    Raises:
        UsageError: for the first setting that cannot be.
    """
    for place, point in enumerate(space.probes() or [{}]):
        config = adopt(space.config(point), 1).config
        built = build_all(config)
        built.objective.prepare(built.task, load_run)
        if config.start_from is not None:
            read_start(config, built.model, built.task)
        for error in check_here(config):
            raise error
        zero = config.launch.deepspeed_config is not None
        check_precision(config.precision, torch.device("cuda" if on_gpu(config) else "cpu"), zero)
        if zero:
            check_with_deepspeed(config)
        if place == 0 and sum(each.numel() for each in built.model.parameters()) > _LARGE:
            break


def _dry_text(sweep: Sweep, space: Space, options: Options) -> str:
    """How many trials there would be, and the dry run of the first setting."""
    settings = f"at most {counted(options.trials, 'setting')}, drawn"
    if not any(axis.is_range for axis in space.axes):
        settings = counted(len(space.grid() or _points_there(sweep)), "setting")
    config = space.config((space.probes() or [{}])[0])
    return (
        f"Dry run of a sweep in {sweep.folder}: {settings}, {counted(options.seeds, 'seed')} each; "
        f"every one can be trained. The first:\n\n{dry_run_text(config)}"
    )


def _work(sweep: Sweep, space: Space, budget: TrialBudget | None, options: Options) -> int:
    display = Display(sweep)
    seeds = range(options.seeds)
    draws = any(axis.is_range for axis in sweep.axes().values())
    new = 0 if draws else sweep.queue(space.grid() or _points_there(sweep), seeds)
    counts = sweep.counts()
    to_come = (
        f"{options.trials} settings are drawn in all"
        if draws
        else f"{counts['waiting']} to come, {new} new"
    )
    spends = budget.in_words() if budget else "the updates of the recipe"
    display.say(
        f"{sweep.folder} · {space.recipe} · {spends} a trial · "
        f"{counts['done']} trials done, {to_come} · {options.jobs} at a time"
    )
    with display:
        worker = Worker(
            sweep,
            space,
            budget,
            seeds=seeds,
            drawn=options.trials if draws else 0,
            jobs=options.jobs,
            keep=options.keep,
            tell=display.tell,
            look=display.look,
        )
        finished = worker.run()
    return display.end(None if finished else worker.asked)


def _joined(recipe: str | None, rest: list[str], options: Options) -> tuple[Sweep, Space, Options]:
    """The sweep that is meant, what it varies, and the options that it was begun with where it is
    there already."""
    if recipe is None and options.out is None:
        raise UsageError(
            "Neither a recipe nor a sweep is named.",
            "The recipe says what is trained; a sweep that is there knows its own.",
            "Write ponder tune RECIPE --penalty.value 0 1e-3 1e-2 1e-1, or ponder tune --out DIR "
            "to go on.",
        )
    if recipe is None:
        assert options.out is not None
        sweep = Sweep(options.out)
        about = sweep.settings()
        with code_trust.reading(options.out):  # the recipe is named there, and not by the user
            space = Space.read(
                about.recipe, [*without_overridden(about.fixed, rest), *rest], list(sweep.axes())
            )
        kept = {"trial_budget": options.trial_budget or about.budget, "quality": about.quality}
        return sweep, space, Options(**{**vars(options), **kept})
    first = Space.read(recipe, rest)
    sweep = Sweep(options.out or Path(first.base().output) / f"tune-{base_name(first.base())}")
    there = list(sweep.axes()) if sweep.exists else []
    space = Space.read(recipe, rest, there)
    if not space.axes and not there:
        raise UsageError(
            "Nothing is swept.",
            "A sweep compares settings, and no flag has several values.",
            f"Write ponder tune {recipe} --penalty.value 0 1e-3 1e-2 1e-1",
        )
    return sweep, space, options


def _points_there(sweep: Sweep) -> list[Point]:
    """The settings that were tried before, where the command names no new ones: they get the seeds
    that they lack."""
    return list(
        {
            repr(sorted(point.items())): point
            for trial in sweep.trials()
            for point in [setting_of(trial)[0]]
        }.values()
    )


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sweep's own flags with their values, and the run's."""
    ours = {name.replace("_", "-") for name in Options.__dataclass_fields__} | {"help"}
    own: list[str] = []
    rest: list[str] = []
    into = rest
    for word in words:
        if word.startswith("--"):
            into = own if word[2:].partition("=")[0].replace("_", "-") in ours else rest
        into.append(word)
    return own, rest


def _check_counts(options: Options) -> None:
    for name in ("seeds", "jobs", "trials"):
        if getattr(options, name) < 1:
            raise UsageError(
                f"--{name} is {getattr(options, name)}.",
                "It counts something.",
                f"Write --{name} 1 or more.",
            )


if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:], is_long=True))
