"""The file of a sweep's Optuna study: looked at before it is opened, so that what is no sweep is
never written into."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from halting.errors import UsageError
from training.console.extras import check_extra

if TYPE_CHECKING:  # optuna is slow to import
    from optuna import Study

DATABASE = "sweep.db"
_STUDY = "sweep"
_WAIT = 60.0  # seconds that SQLite waits for another process's write
_OPTUNAS = ("studies", "study_", "trials", "trial_", "version_info", "alembic_version")


def holds_study(path: Path) -> bool:
    """Whether a sweep's study is in a file. Reads alone: a file that is not there is not made.

    Raises:
        UsageError: for a file that is damaged or no database, and for a database of something else.
    """
    if not path.is_file():
        return False
    with (
        _said(path),
        closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT)
        ) as opened,
    ):
        if opened.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        tables = [
            name
            for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        # Optuna makes its tables one by one, so a sweep that is just beginning may lack some.
        others = [name for name in tables if not name.startswith((*_OPTUNAS, "sqlite_"))]
        studies = (
            opened.execute("SELECT study_name FROM studies").fetchall()
            if "studies" in tables
            else []
        )
    names = [name for (name,) in studies]
    if others or (names and _STUDY not in names):
        raise UsageError(
            f"{path} is the database of something else ({', '.join(others or names)[:80]}).",
            "A sweep never writes into what is there.",
            "Write another --out.",
        )
    return _STUDY in names


def open_study(path: Path, begin: bool) -> "Study":
    """The study of a sweep: maximise the quality, minimise the compute.

    Args:
        path: of the file.
        begin: makes the study where it is not there.

    Raises:
        UsageError: for a file that cannot be read.
    """
    check_extra("tune", f"The sweep {path}")
    import optuna
    from sqlalchemy.engine import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(multivariate=False, n_startup_trials=6)
    with _said(path):
        # Not by formatting a text: a folder's name may hold what a URL gives a meaning (? # %20).
        where = URL.create("sqlite", database=str(path.absolute()))
        storage = optuna.storages.RDBStorage(
            where.render_as_string(), engine_kwargs={"connect_args": {"timeout": _WAIT}}
        )
        if not begin:
            return optuna.load_study(study_name=_STUDY, storage=storage, sampler=sampler)
        return optuna.create_study(
            study_name=_STUDY, storage=storage, directions=["maximize", "minimize"], sampler=sampler
        )


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Says in three parts why a file cannot be read."""
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (
        sqlite3.Error,
        DatabaseError,
        RuntimeError,
    ) as error:  # RuntimeError: another version's tables
        says = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
        raise UsageError(
            f"{path} cannot be read: {says}.",
            "A sweep's trials are in it; begun anew in its place, they would be lost for good.",
            "Bring it back from a copy; or leave the folder as it is (each trial's figures are in "
            "trials/*/trial.json) and begin another sweep: --out DIR.",
        ) from error
