"""What the page reads: the numbers of one or several ponder maps of the same examples, small, and
safe inside HTML.

Only what was run is kept: per valid token, its steps up to the last at which anything was recorded.
Mass and probabilities are kept to 1/65,534, scores to one part in 4,096; all else is exact.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from halting.maps.ponder_map import IGNORE, PonderMap
from halting.maps.viewers.caption import difficulty_name, facts
from halting.maps.viewers.visible_text import visible

VERSION = 1
MOST_CELLS = 1_500_000
"""Token-steps on a page that is not told how many sequences to show: a file of 16 MB at most."""
_UNITS = 65534  # of a probability; one more stands for NaN
_SCORE_BITS = np.uint32(0xFFFFF000)  # the sign, the exponent and 11 bits of a float32


def page_data(
    ponder_map: PonderMap,
    sequences: int | None = None,
    others: Sequence[PonderMap] = (),
    growth: Sequence[PonderMap] = (),
) -> dict[str, Any]:
    """JSON values: `about` (texts, labels, where each array lies) and `arrays` (their bytes:
    deflated, in base64).

    Args:
        ponder_map: the map that stands first.
        sequences: how many of its sequences; None for all that `MOST_CELLS` leaves room for, at
            least one.
        others: maps of the same examples by other runs, to stand beside it.
        growth: maps of the same examples at earlier updates of its training, oldest first.

    Raises:
        UsageError: for a map of other examples.
    """
    maps = [ponder_map, *others, *growth]
    for other in maps[1:]:
        _check_same_examples(ponder_map, other)
    shown = _room(maps) if sequences is None else min(max(sequences, 0), ponder_map.num_sequences)
    cut = [each.select(slice(0, shown)) for each in maps]
    first = cut[0]
    valid = cut[0].valid
    answers = _answers(cut)
    arrays: dict[str, NDArray[Any]] = {}
    if first.targets is not None:
        arrays["targets"] = _numbered(
            np.where(first.targets == IGNORE, -1, first.targets)[valid], answers
        )
    if first.difficulty is not None:
        arrays["difficulty"] = first.difficulty[valid]
    for number, each in enumerate(cut):
        arrays |= {
            f"{number}.{name}": values for name, values in _map_arrays(each, answers).items()
        }
    places, content = _laid_end_to_end(arrays)
    about = {
        "version": VERSION,
        "sequences": ponder_map.num_sequences,
        "texts": [_texts(first, row) for row in range(shown)],
        "answers": [
            "",
            *(visible(first.answer_text(int(index)), joined=True) for index in answers),
        ],
        "difficulty": difficulty_name(ponder_map) if first.difficulty is not None else None,
        "maps": [_about_map(each, whole) for each, whole in zip(cut, maps, strict=True)],
        "others": len(others),
        "growth": len(growth),
        "arrays": places,
    }
    return {"about": about, "arrays": base64.b64encode(zlib.compress(content, 6)).decode()}


def embedded(values: Any) -> str:
    """JSON that may stand inside a `<script>` element: no character of it can end the element or
    start another."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _check_same_examples(one: PonderMap, other: PonderMap) -> None:
    same = one.valid.shape == other.valid.shape and np.array_equal(one.valid, other.valid)
    if (
        same
        and np.array_equal(one.tokens[one.valid], other.tokens[one.valid])
        and one.texts == other.texts
    ):
        return
    raise UsageError(
        f"{_label(one)} and {_label(other)} are ponder maps of other examples.",
        "Side by side, and in a training that is played, each token stands in the same place.",
        "Make both maps of the same examples, in the same order.",
    )


def _room(maps: Sequence[PonderMap]) -> int:
    """How many sequences fit into `MOST_CELLS`."""
    cells = np.add.reduce([_kept_steps(each).sum(-1) for each in maps]).cumsum()
    return max(int((cells <= MOST_CELLS).sum()), min(1, maps[0].num_sequences))


def _kept_steps(one: PonderMap) -> NDArray[np.uint16]:
    """[B L]: the last step at which anything is known of a token."""
    there = (one.mass > 0) | np.isfinite(one.score)
    if one.predictions is not None:
        there |= one.predictions >= 0
    for probability in (one.confidence, one.target_probability):
        if probability is not None:
            there |= np.isfinite(probability)
    number = np.arange(1, one.max_steps + 1)
    last = (there * number).max(-1, initial=0)
    return np.where(one.valid, np.maximum(last, one.steps), 0).astype(np.uint16)


def _texts(one: PonderMap, row: int) -> list[str]:
    return [visible(one.texts[row][place], joined=True) for place in np.flatnonzero(one.valid[row])]


def _answers(maps: Sequence[PonderMap]) -> NDArray[np.integer]:
    """The vocabulary entries that are wanted or said anywhere, in order."""
    used = [np.empty(0, np.int32)]
    for one in maps:
        said = (one.predictions, one.final_prediction, one.targets)
        used += [np.unique(array[one.valid]) for array in said if array is not None]
    found = np.unique(np.concatenate(used))
    return found[found >= 0]


def _numbered(entries: NDArray[np.integer], answers: NDArray[np.integer]) -> NDArray[np.integer]:
    """Vocabulary entries as places in the page's list of answers, where 0 stands for none."""
    places = np.where(entries < 0, 0, np.searchsorted(answers, entries) + 1)
    return places.astype(np.uint16 if len(answers) < 65535 else np.uint32)


def _map_arrays(one: PonderMap, answers: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """What a map says of each of its T valid tokens, and of each of the steps kept of them."""
    kept = _kept_steps(one)
    cells = np.arange(1, one.max_steps + 1) <= kept[..., None]
    score = np.where(np.isnan(one.score[cells]), np.float32(np.nan), one.score[cells]).view(
        np.uint32
    )
    found: dict[str, NDArray[Any]] = {
        "kept": kept[one.valid],
        "steps": one.steps[one.valid].astype(np.uint16),
        "ponder": one.ponder[one.valid],
        "mass": np.rint(np.clip(one.mass[cells], 0, 1) * _UNITS).astype(np.uint16),
        "score": (score & _SCORE_BITS).view(np.float32),
    }
    if one.final_prediction is not None:
        found["final"] = _numbered(one.final_prediction[one.valid], answers)
    if one.predictions is not None:
        found["predictions"] = _numbered(one.predictions[cells], answers)
    for name in ("confidence", "target_probability"):
        if (values := getattr(one, name)) is not None:
            units = np.rint(np.clip(values[cells], 0, 1) * _UNITS)
            found[name] = np.where(np.isnan(units), _UNITS + 1, units).astype(np.uint16)
    return found


def _laid_end_to_end(
    arrays: dict[str, NDArray[Any]],
) -> tuple[dict[str, tuple[str, int, int]], bytes]:
    """Type, offset in bytes and length of each array, and the little-endian bytes of all; wide ones
    first, so that each starts where its type may."""
    places: dict[str, tuple[str, int, int]] = {}
    parts = []
    offset = 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        part = array.astype(array.dtype.newbyteorder("<")).tobytes()
        places[name] = (array.dtype.name, offset, array.size)
        parts.append(part)
        offset += len(part)
    return places, b"".join(parts)


def _about_map(shown: PonderMap, whole: PonderMap) -> dict[str, Any]:
    update = whole.metadata.get("update")
    return {
        "label": _label(whole),
        "update": update if isinstance(update, int) else None,
        "facts": facts(whole),
        "steps": shown.max_steps,
    }


def _label(one: PonderMap) -> str:
    return visible(str(one.metadata.get("run") or "a run"), keep_spaces=True)
