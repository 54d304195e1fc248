"""Points of a Pareto front: of a sweep's folder, or read from JSON."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.console.text_file import read_json
from training.tuning.pareto import ParetoPoint

_KNOWN = {field.name for field in fields(ParetoPoint)}
_NEEDED = {"label", "accuracy", "compute"}


def read_points(path: Path) -> list[ParetoPoint]:
    """The points of a sweep's folder (`ponder tune`), or of a JSON file: a list of objects, or an
    object whose `points` is one, each with the fields of a `ParetoPoint`; others are passed over.

    Raises:
        UsageError: for a path that is not there or holds something else.
    """
    if path.is_dir():
        return _of_sweep(path)
    asked = f"--pareto {path}"
    told = read_json(path, asked, "The points of the front are read from it.", "a sweep's folder")
    try:
        rows = told["points"] if isinstance(told, dict) else told
        points = [_point(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refusal(path, str(error)) from None
    if not points:
        raise _refusal(path, "it holds none")
    return points


def _of_sweep(folder: Path) -> list[ParetoPoint]:
    from training.tuning.measured import measured  # here, because optuna is slow to import
    from training.tuning.sweep import Sweep

    sweep = Sweep(folder)
    points = [each.as_point("mean_steps") for each in measured(sweep)] if sweep.exists else []
    if not points:
        raise _refusal(
            folder, "no trial of it is done" if sweep.exists else "it is no sweep's folder"
        )
    return points


def _point(row: dict[str, Any]) -> ParetoPoint:
    if missing := _NEEDED - row.keys():
        raise ValueError(f"a point lacks {', '.join(sorted(missing))}")
    given = {name: value for name, value in row.items() if name in _KNOWN}
    for name in ("interval", "compute_interval"):
        if given.get(name) is not None:
            low, high = given[name]
            given[name] = (float(low), float(high))
    if given.get("seeds") is not None:
        given["seeds"] = int(given["seeds"])
    given["details"] = tuple((str(name), str(value)) for name, value in given.get("details") or ())
    return ParetoPoint(
        **{**given, "accuracy": float(row["accuracy"]), "compute": float(row["compute"])}
    )


def _refusal(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--pareto {path} holds no points of a front: {why}.",
        "Each point is an object with label, accuracy and compute, in a list or under the key "
        "points.",
        "Write such a file, or the folder of a sweep: ponder tune RECIPE --penalty.value 0 1e-3 "
        "1e-2 1e-1",
    )
