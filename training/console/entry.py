"""How a command ends: bad input is said in three parts with exit code 2, Ctrl-C with 130."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence

from halting.errors import UsageError
from training.console.steady_output import replace_unknown_characters, steady_output, to_nowhere


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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"error: the disk is full{where}.\n  why:  what a run measures and learns is written "
            "as it goes.\n"
            "  fix:  make room; a run goes on from its last checkpoint: ponder train --resume RUN",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def in_three_parts(error: UsageError) -> str:
    """What a person reads: what is wrong, why, and what to write."""
    return f"error: {error.what}\n  why:  {error.why}\n  fix:  {error.write}"
