"""Files that a person asked for: checked before any work starts, written beside and renamed, and
nothing that exists is overwritten unasked."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from halting.errors import UsageError
from training.console.printable import check_visible

FULL = (errno.ENOSPC, errno.EDQUOT)


def check_outputs(*paths: Path | None, overwrite: bool = False) -> None:
    """Checks that files can be written, before any work starts.

    Args:
        paths: where to; None for one that was not asked for.
        overwrite: files that are there may be replaced.

    Raises:
        UsageError: for the first path at which something stands, that cannot be written, or that
            holds characters which cannot be seen, and for one that is given twice.
    """
    given = [path for path in paths if path is not None]
    for number, path in enumerate(given):
        check_visible("The output", str(path))
        try:
            _check(path, overwrite)
        except OSError as error:
            raise cannot_write(path, error) from None
        if any(path.absolute() == other.absolute() for other in given[:number]):
            raise UsageError(
                f"{path} is given for two outputs.",
                "The second would replace the first.",
                "Write another name for one of them.",
            )


def _check(path: Path, overwrite: bool) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if mode is not None and stat.S_ISREG(mode) and not overwrite:
        raise UsageError(
            f"{path} exists already.",
            "Nothing that exists is overwritten unasked.",
            "Write another name, add --overwrite, or remove it.",
        )
    parent = next(each for each in path.absolute().parents if each.exists())
    code = None
    if not parent.is_dir():
        code = errno.ENOTDIR
    elif not os.access(parent, os.W_OK | os.X_OK):
        read_only = os.statvfs(parent).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
    if code is not None and (mode is None or stat.S_ISREG(mode)):
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at a path: a file beside it, which takes its place when all
    is written, so that nothing half written stays. The folder is made where it is missing. What is
    no file, such as /dev/stdout, is written to as it is.

    Raises:
        UsageError: where it cannot be written.
    """
    if path.exists() and not path.is_file():
        beside = path
    else:
        beside = path.with_name(f".partial-{os.getpid()}-{path.name}"[:255])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if beside is not path:
            beside.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if beside is not path:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all, and makes the folder where it is missing.

    Raises:
        UsageError: where it cannot be written.
    """
    with new_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def cannot_write(path: Path, error: OSError) -> UsageError:
    """The error for a file that cannot be written, by what the system says of it."""
    fixes = {
        errno.EISDIR: "Write the name of a file in it, or move the folder away.",
        errno.ENOTDIR: "A part of the path is a file; write a path through folders.",
        errno.ENAMETOOLONG: "Write a shorter name.",
        errno.EFBIG: "Raise the limit on the size of files (ulimit -f unlimited).",
        **dict.fromkeys(FULL, "Make room there, or write to another disk."),
    }
    return UsageError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Nothing of it is left there.",
        fixes.get(error.errno or 0, "Write a path in a folder that you may write to."),
    )
