"""What the words after `ponder train` ask for."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halting.errors import UsageError
from training.cli.other_trainers import check_other_trainers, with_deepspeed_flag
from training.config.code_trust import reading
from training.config.flags import given_flags, parse
from training.config.replaced_parts import replaced_parts
from training.config.run_config import RunConfig
from training.config.warmups import scaled_text, shortened
from training.console.screen import Screen, standard_screen
from training.distributed import collectives
from training.engine.ds_config import Adopted, adopt
from training.recipes.load import load_config, load_recipe, recipe_names
from training.runs.run_path import RunPath
from training.tasks.kept_data import ALLOW

_SAID_BY_FIRST = 60.0


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config.

    Args:
        config: the run.
        resume: the run to go on with: its folder, or RUN@500 or RUN@best.
        dry_run: say what would happen, and train nothing.
        ranks: for how many ranks to say it.
        allow_changed_data: the run may go on with other files than it was trained on.
    """

    config: RunConfig
    resume: Path | None
    dry_run: bool
    ranks: int
    allow_changed_data: bool = False


def read_request(argv: Sequence[str], ranks_known: bool = True) -> Request:
    """The config and what to do with it, its ds_config read.

    Args:
        argv: the words.
        ranks_known: whether this process is one of the ranks; where it only starts them, what a
            ds_config says is left to them.

    Raises:
        UsageError, SystemExit: for flags that cannot be; see `flags.parse`.
    """
    rest = list(argv)
    _take(rest, "--local-rank")  # the launcher puts it first; the environment says the same
    rest = with_deepspeed_flag(rest)
    check_other_trainers(rest)
    resume = _take(rest, "--resume")
    ranks = _take(rest, "--ranks")
    file = _take(rest, "--config")
    tuned = _take(rest, "--from-tune")
    picked = _take(rest, "--pick")
    if (picked is not None and tuned is None) or (tuned is not None and resume is not None):
        raise UsageError(
            f"--pick {picked} comes without --from-tune."
            if tuned is None
            else f"--from-tune {tuned} with --resume.",
            "A point is picked from a sweep, and for a run that begins.",
            "Write ponder train RECIPE --from-tune DIR --pick knee.",
        )
    named = [rest[0]] if rest and not rest[0].startswith("-") else []
    others = [*named, *(["--resume"] if resume else []), *(["--from-tune"] if tuned else [])]
    if file is not None and others:
        raise UsageError(
            f"--config {file} comes with {others[0]}.",
            "Each says what is trained.",
            f"Drop {others[0]}, or drop --config.",
        )
    is_dry = "--dry-run" in rest or "--dry_run" in rest
    rest = [word for word in rest if word not in ("--dry-run", "--dry_run")]
    allow_changed_data = any(word.replace("_", "-") == ALLOW for word in rest)
    rest = [word for word in rest if word.replace("_", "-") != ALLOW]
    if allow_changed_data and resume is None:
        raise UsageError(
            f"{ALLOW} comes without --resume.",
            "A run that begins takes its data as they are.",
            f"Drop {ALLOW}, or write --resume RUN.",
        )
    if ranks is not None and not (ranks.isdecimal() and int(ranks) > 0):
        raise UsageError(f"--ranks is {ranks}.", "It is a number of processes.", "Write --ranks 8.")
    if resume is not None:
        if rest and not rest[0].startswith("-"):
            raise UsageError(
                f"--resume {resume} comes with the recipe {rest[0]}.",
                "A run goes on with its own config.",
                f"Drop {rest[0]}, or drop --resume to start anew.",
            )
        from training.runs.loaded import read_config  # late: a recipe's flags need no model

        config = read_config(RunPath.parse(resume).home)
        words = rest
        config = parse(config, rest, f"ponder train --resume {resume}") if rest else config
    elif file is not None:
        config = load_config(Path(file))
        words = rest
        config = _parsed(config, rest, f"ponder train --config {file}")
    else:
        if not rest or rest[0].startswith("-"):
            raise UsageError(
                f"No recipe is named before {rest[0] if rest else 'the end'}.",
                "The recipe says what is trained; flags change it.",
                f"Write ponder train RECIPE [flags], with one of {', '.join(recipe_names())}, or "
                "your own file.py:function.",
            )
        recipe = load_recipe(rest[0])
        if tuned is not None:
            with reading(Path(tuned)):  # its words are not the user's
                words = [*_chosen(rest, tuned, picked), *rest[1:]]
                config = _parsed(recipe, words, f"ponder train {rest[0]}")
        else:
            words = rest[1:]
            config = _parsed(recipe, words, f"ponder train {rest[0]}")
    here = (
        collectives.world_size()
        if collectives.is_distributed()
        else int(os.environ.get("WORLD_SIZE", "1"))
    )
    if ranks_known:
        adopted = _adopted(config, int(ranks or here), words)
        config = adopted.config
        for line in adopted.says:
            _screen().say(line)
    return Request(
        config,
        None if resume is None else Path(resume),
        is_dry,
        int(ranks or here),
        allow_changed_data,
    )


def _adopted(config: RunConfig, ranks: int, words: Sequence[str]) -> Adopted:
    """The config with its ds_config. Of the ranks of a machine, the first says what is wrong with
    the file; the others leave it the time to, before the launcher ends all."""
    try:
        return adopt(config, ranks, given_flags(words))
    except UsageError:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(_SAID_BY_FIRST)
        raise


def _parsed(recipe: RunConfig, words: Sequence[str], prog: str) -> RunConfig:
    """The config with the flags on top, and on the screen what of it they replaced unasked."""
    if not words:
        return recipe
    config = parse(recipe, words, prog)
    if (says := replaced_parts(recipe, config)) is not None:
        _screen().say(says)
    shorter = shortened(recipe, config, words)
    if (says := scaled_text(config, shorter)) is not None:
        _screen().say(
            f"--updates {config.updates} of {recipe.updates}: warm-ups keep their share ({says})"
        )
    return shorter


def _screen() -> Screen:
    return standard_screen(0 if os.environ.get("RANK", "0") == "0" else 1)


def _chosen(rest: Sequence[str], tuned: str, picked: str | None) -> Sequence[str]:
    """The flags of a sweep's point."""
    from training.tuning.chosen import chosen  # late: a sweep's own trials come through here

    found = chosen(Path(tuned), picked or "knee", rest[0], rest[1:])
    _screen().say(found.says)
    return found.words


def _take(words: list[str], flag: str) -> str | None:
    """Removes `--flag VALUE` or `--flag=VALUE` from the words, dashes or underscores; gives the
    value."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            if not equals and number + 1 == len(words):
                raise UsageError(f"{flag} has no value.", "It takes one.", f"Write {flag} VALUE.")
            taken = value if equals else words[number + 1]
            del words[number : number + (1 if equals else 2)]
            return taken
    return None
