"""How a command ends: bad input is said in three parts with exit code 2, Ctrl-C with 130."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from halting.errors import UsageError, UsageErrors
from training.console.output_files import FULL
from training.console.steady_output import replace_unknown_characters, steady_output, to_nowhere

DRY_RUN = frozenset(("--dry-run", "--dry_run"))


def run_entry(
    main: Callable[[Sequence[str]], int], argv: Sequence[str], *, is_long: bool = False
) -> int:
    """Runs a command; gives its exit code.

    Args:
        main: the command.
        argv: its words.
        is_long: it works for long, and goes on when nobody reads its output any more; others end.
    """
    replace_unknown_characters()
    # OpenMP's threads spin by itself while they wait, and starve whatever else has work on their
    # cores, each other too: 40 times slower beside one busy process. Before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with steady_output() if is_long else contextlib.nullcontext():
        return _run(main, argv)


def _run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    try:
        code = main(argv)
        sys.stdout.flush()
        return code
    except SystemExit as ended:  # --help, and flags that cannot be read
        return ended.code if isinstance(ended.code, int) else 1
    except UsageError as error:
        sys.stdout.flush()
        print(in_three_parts(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has gone, as `ponder show | head` does
        to_nowhere(sys.stdout)  # or Python would try to write the rest at its end
        return 0
    except OSError as error:
        # A file or a disk that does not do what is asked is no fault of the program.
        if error.filename is None and error.errno not in FULL:
            raise
        print(in_three_parts(_file_error(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _file_error(error: OSError) -> UsageError:
    if error.errno in FULL:
        return UsageError(
            f"The disk is full{f' ({error.filename})' if error.filename else ''}.",
            "What a run measures and learns is written as it goes.",
            "Make room; a run goes on from its last checkpoint: ponder train --resume RUN",
        )
    return UsageError(
        f"{error.filename}: {error.strerror}.",
        "The file, or its folder, cannot be used as it is.",
        "See that it is there, and that you may read and write it.",
    )


@contextlib.contextmanager
def told_if_dry(words: Sequence[str]) -> Iterator[None]:
    """What is refused within it is said to be refused of a dry run, if the words ask for one."""
    try:
        yield
    except UsageError:
        if not DRY_RUN.isdisjoint(words):
            says = "dry run: nothing was trained or written; a training would be refused so:"
            print(says, file=sys.stderr)
        raise


def in_three_parts(error: UsageError) -> str:
    """What a person reads: what is wrong, why, and what to write; each of several reasons."""
    if isinstance(error, UsageErrors):
        return "\n".join(map(in_three_parts, error.errors))
    return f"error: {error.what}\n  why:  {error.why}\n  fix:  {error.write}"
