"""`ponder train`, `python -m training.train`, `deepspeed --module training.train`: one entry, one
run folder."""

import sys
from collections.abc import Sequence

from halting.errors import UsageError
from training.cli.train_request import USAGE, read_request
from training.console.entry import run_entry
from training.distributed import process_group as launch
from training.distributed import slurm
from training.recipes.load import recipe_names
from training.start import train


def main(argv: Sequence[str]) -> int:
    """Trains; gives the exit code: 0 for a run that ended as asked (also one stopped by a signal),
    1 for a lost one."""
    slurm.adopt()
    rest = list(argv)
    if not rest or rest in (["-h"], ["--help"]):
        print(USAGE.format(recipes=", ".join(recipe_names())))
        return 0
    request = read_request(rest)
    if request.dry_run:
        from training.resources.dry_run_text import dry_run_text

        print(dry_run_text(request.config, request.ranks))
        return 0
    try:
        return train(request.config, request.resume)
    except UsageError:
        launch.stop()  # a rank that has met the others and does not leave them may end in an abort
        raise


if __name__ == "__main__":
    code = run_entry(main, sys.argv[1:])
    if launch.under_launcher():
        launch.leave(code)
    sys.exit(code)
