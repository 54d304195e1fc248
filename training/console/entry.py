"""How a command ends: bad input is said in three parts with exit code 2, Ctrl-C with 130."""

import errno
import sys
from collections.abc import Callable, Sequence

from halting.errors import UsageError, UsageErrors


def run_entry(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command; gives its exit code."""
    try:
        return main(argv)
    except SystemExit as ended:  # --help, and flags that cannot be read
        return ended.code if isinstance(ended.code, int) else 1
    except UsageError as error:
        sys.stdout.flush()
        print(in_three_parts(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has gone, as `ponder show | head` does
        sys.stderr.close()
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
    """What a person reads: what is wrong, why, and what to write; each of several reasons."""
    if isinstance(error, UsageErrors):
        return "\n".join(map(in_three_parts, error.errors))
    return f"error: {error.what}\n  why:  {error.why}\n  fix:  {error.write}"
