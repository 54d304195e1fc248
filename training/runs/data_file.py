"""data.json: what a run folder keeps of the data that the run was trained on."""

import json
import shutil
from pathlib import Path

from halting.errors import UsageError
from training.console.text_file import read_json
from training.tasks.data_identity import DataIdentity
from training.tasks.kept_data import ALLOW, KeptData
from training.tasks.task import Task

DATA = "data.json"


def write_data(folder: Path, kind: str, task: Task, after: str | None = None) -> None:
    """Writes data.json; one that a resumed run replaces is kept beside.

    Args:
        folder: of the run.
        kind: the task's, as the config names it.
        task: whose data.
        after: the name of the checkpoint that a run goes on from.
    """
    identity = task.identity()
    values = {
        "kind": kind,
        "identity": None if identity is None else identity.values(),
        "vocabulary": task.vocabulary(),
    }
    text = json.dumps(values, indent=1) + "\n"
    path = folder / DATA
    before = None if after is None else read_data(folder)
    then = None if before is None else before.identity
    if then is not None and (identity is None or identity.changes(then)):
        shutil.copyfile(path, folder / f"data.before-{after}.json")
    beside = folder / f".{DATA}"
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def read_data(folder: Path, allow_changed: bool = False) -> KeptData | None:
    """What a run folder keeps of its data; None where it keeps nothing, as runs did before there
    was a data.json.

    Args:
        folder: of the run.
        allow_changed: other data may be read instead.

    Raises:
        UsageError: for a damaged one.
    """
    path = folder / DATA
    if not path.is_file():
        return None
    about = "A run meets its own data again by what stands there."
    values = read_json(path, str(path), about, f"{folder}/{DATA}")
    try:
        given = values["identity"]
        identity = None if given is None else DataIdentity.of_values(given)
        return KeptData(
            str(folder), str(values["kind"]), identity, values["vocabulary"], allow_changed
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged: {type(error).__name__}: {error}.",
            about,
            "Bring it back from a copy; without that file nothing is compared, and the task reads "
            "its data anew.",
        ) from None


def check_data_of(checkpoint: Path, task: Task) -> None:
    """Refuses to go on from a checkpoint that was trained on other data than are there now.

    Raises:
        UsageError: with both digests.
    """
    identity = task.identity()
    try:
        about = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
        then = about.get("data")
    except (OSError, ValueError, AttributeError):
        return  # damaged, which is said where the checkpoint is read
    if then is None or identity is None or then == identity.digest:
        return
    raise UsageError(
        f"{checkpoint} was trained on data with the digest {then}, and {identity.place} has "
        f"{identity.digest}.",
        "The run went on with changed data after it, which was allowed then.",
        f"Bring the earlier data back, or write {ALLOW}.",
    )
