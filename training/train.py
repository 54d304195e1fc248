"""`ponder train`, `python -m training.train`, `deepspeed --module training.train`: one entry, one
run folder."""

import contextlib
import os
import sys
from collections.abc import Sequence

from halting.errors import UsageError
from training.console import startup_sign
from training.console.entry import run_entry, told_if_dry
from training.distributed.process_end import end_process
from training.distributed.stop_request import heard_from_the_start
from training.recipes.load import recipe_names

_USAGE = """usage: ponder train RECIPE [flags]        train a recipe
       ponder train RECIPE --dry-run      parameters, FLOPs, memory per rank, conflicts; trains
                                          nothing (--ranks N)
       ponder train --config FILE [flags]  train a run's config.json, or YAML
       ponder train --resume RUN [flags]  go on with a run; RUN@500 or RUN@best from there
                                          (--allow-changed-data: with other files)
       ponder train --resume RUN --trust-code     run the code of others that its config names
       ponder train RECIPE --from-tune DIR --pick knee    the setting that a sweep found
       ponder train RECIPE --help         every flag of a recipe

A recipe is a name ({recipes}) or your own: path/to/file.py:function."""


def main(argv: Sequence[str]) -> int:
    """Trains; gives the exit code: 0 for a run that ended as asked (also one stopped by a signal),
    1 for a lost one."""
    if not argv or list(argv) in (["-h"], ["--help"]):
        print(_USAGE.format(recipes=", ".join(recipe_names())))
        return 0
    speaks = os.environ.get("RANK", "0") == "0" and not {"--quiet", "--dry-run"} & set(argv)
    with startup_sign.shown() if speaks else contextlib.nullcontext():
        return _train(argv)


def _train(argv: Sequence[str]) -> int:
    # What follows imports torch, and is imported once it is needed: the usage in no time, a
    # recipe's flags before the engines.
    from training.config import code_trust

    words, trusts = code_trust.take_flag(argv)
    with code_trust.trusting(trusts), told_if_dry(words):
        return _train_or_plan(words)


def _train_or_plan(words: Sequence[str]) -> int:
    from training.cli.train_request import read_request
    from training.distributed import slurm

    slurm.adopt()
    request = read_request(words)
    if request.dry_run:
        from training.resources.dry_run_text import dry_run_text
        from training.runs.run_path import RunPath

        resume = None if request.resume is None else RunPath.parse(request.resume)
        changed = request.allow_changed_data
        print(dry_run_text(request.config, request.ranks, resume, changed))
        return 0
    from training.distributed import process_group
    from training.start import train

    try:
        return train(request.config, request.resume, allow_changed_data=request.allow_changed_data)
    except UsageError:
        # A rank that has met the others and does not leave them may end in an abort.
        process_group.stop()
        raise


if __name__ == "__main__":
    with heard_from_the_start():
        code = run_entry(main, sys.argv[1:], is_long=True)
    end_process(code)
