"""What a paper would say of a ponder map: mean steps by group, calibration, and wasted compute or
too early ended."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from halting.maps.calibration import Calibration, of_confidence, of_score
from halting.maps.estimate import CONFIDENCE, Estimate, mean_of, ratio, share_of
from halting.maps.grouping import grouped
from halting.maps.ponder_map import PonderMap
from halting.maps.token_types import OTHERS, token_types

_MOST_POSITIONS = 16


@dataclass(frozen=True)
class Group:
    """The tokens of one kind.

    Args:
        name: what they share.
        place: the number on an axis, such as their mean difficulty; None where the kinds have no
            order.
        steps: executed steps a token.
        ponder: the depth that the rule means, in steps.
        tokens: how many there are.
        sequences: in how many sequences.
    """

    name: str
    place: float | None
    steps: Estimate
    ponder: Estimate
    tokens: int
    sequences: int


@dataclass(frozen=True)
class Share:
    """How much of it there is.

    Args:
        compute: of the executed token-steps.
        tokens: of the tokens.
    """

    compute: Estimate
    tokens: Estimate


@dataclass(frozen=True)
class Aggregates:
    """The figures of one map; intervals hold 95 % of 1,000 bootstrap resamples of its sequences.

    Args:
        steps, ponder: a token, over all.
        accuracy: of the asked tokens.
        by: groups of tokens by "difficulty", "type", "position" and "correctness"; empty where not
            known.
        calibration: of the rule's "score" and of the answer's "confidence"; without those that
            cannot be told.
        overthinking: steps after the one from which the answer no longer changed; tokens that took
            such steps. None without a lens, like the three below.
        degraded: among the asked, tokens that left wrong although an earlier step had the right
            answer.
        still_improving: *underthinking, by the lens*: among the asked, tokens that left wrong while
            the chance of the right answer was still rising at their last step (a token of one step
            shows no rise).
        right_if_deeper: *underthinking, tried out*: among the asked, tokens that left wrong and are
            right when all tokens take `deeper_steps`; None where that was not tried.
        deeper_steps: of the map beside.
    """

    sequences: int
    tokens: int
    steps: Estimate
    ponder: Estimate
    accuracy: Estimate
    by: dict[str, list[Group]]
    calibration: dict[str, Calibration]
    overthinking: Share | None
    degraded: Share | None
    still_improving: Share | None
    right_if_deeper: Share | None
    deeper_steps: int | None

    def values(self) -> dict[str, Any]:
        """JSON values."""
        return {"confidence_level": CONFIDENCE, **asdict(self)}


def aggregate(found: PonderMap, deeper: PonderMap | None = None) -> Aggregates:
    """The figures of a map.

    Args:
        found: the map.
        deeper: the same examples when every token takes all steps, for what a token would have
            answered later: the lens of a map ends where the token left.

    Raises:
        UsageError: for a deeper map of other examples.
    """
    if deeper is not None and not np.array_equal(deeper.tokens, found.tokens):
        raise UsageError(
            "The deeper map is of other examples.",
            "It is compared token by token.",
            "Make it of the same batch.",
        )
    grouping = {
        "difficulty": _by_difficulty(found),
        "type": _by_type(found),
        "position": _by_position(found),
        "correctness": _by_correctness(found),
    }
    scores = {"score": of_score(found), "confidence": of_confidence(found)}
    lens = _at_exit(found)
    asked = bool(found.has_target.any())
    right_if_deeper = None
    if deeper is not None and deeper.final_prediction is not None:
        right_if_deeper = _share(found, found.wrong & deeper.correct, found.has_target)
    return Aggregates(
        sequences=int(found.valid.any(1).sum()),
        tokens=int(found.valid.sum()),
        steps=mean_of(found.steps, found.valid),
        ponder=mean_of(found.ponder, found.valid),
        accuracy=share_of(found.correct, found.has_target & (found.correct | found.wrong)),
        by=grouping,
        calibration={name: each for name, each in scores.items() if each is not None},
        overthinking=None if lens is None else _overthinking(found),
        degraded=None if lens is None or not asked else _degraded(found),
        still_improving=None
        if lens is None or not asked or found.target_probability is None
        else _still_improving(found),
        right_if_deeper=right_if_deeper,
        deeper_steps=None if right_if_deeper is None or deeper is None else deeper.max_steps,
    )


def settled_at(found: PonderMap) -> NDArray[np.int64]:
    """[B L]: the step from which the answer, had the token stopped, no longer changed until it
    left; 0 where nothing was read."""
    last = _at_exit(found)
    assert last is not None and found.predictions is not None
    number = np.arange(1, found.max_steps + 1)
    differs = (number <= found.steps[..., None]) & (found.predictions != last[..., None])
    return np.where(last >= 0, np.where(differs, number, 0).max(-1, initial=0) + 1, 0)


def _at_exit(found: PonderMap) -> NDArray[np.int32] | None:
    """[B L]: what was read at each token's last step, -1 where nothing was; None without a lens."""
    if found.predictions is None or found.max_steps == 0:
        return None
    last = np.maximum(found.steps.astype(int) - 1, 0)[..., None]
    read = np.take_along_axis(found.predictions, last, -1)[..., 0]
    return np.where(found.steps > 0, read, -1)


def _overthinking(found: PonderMap) -> Share:
    settled = settled_at(found)
    read = settled > 0
    steps = np.where(read, found.steps, 0)
    vain = steps - settled
    return Share(ratio(vain.sum(1), steps.sum(1)), share_of(vain > 0, read))


def _degraded(found: PonderMap) -> Share:
    assert found.predictions is not None and found.targets is not None
    was_right = ((found.predictions == found.targets[..., None]) & (found.predictions >= 0)).any(-1)
    return _share(found, found.wrong & was_right, found.has_target)


def _still_improving(found: PonderMap) -> Share:
    chance = found.target_probability
    assert chance is not None
    last = found.steps.astype(int)
    ends = [
        np.take_along_axis(chance, np.maximum(last - back, 0)[..., None], -1)[..., 0]
        for back in (1, 2)
    ]
    return _share(found, found.wrong & (last >= 2) & (ends[0] > ends[1]), found.has_target)


def _share(found: PonderMap, chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    return Share(share_of(chosen, among, found.steps), share_of(chosen, among))


def _by_difficulty(found: PonderMap) -> list[Group]:
    if found.difficulty is None:
        return []
    rated = found.valid & np.isfinite(found.difficulty)
    values = found.difficulty[rated].astype(np.float64)
    return _groups(found, rated, grouped(values), values)


def _by_position(found: PonderMap) -> list[Group]:
    positions = np.nonzero(found.valid)[1]
    together = max(1, -(-found.valid.shape[1] // _MOST_POSITIONS))
    return _groups(found, found.valid, positions // together, positions.astype(np.float64))


def _by_type(found: PonderMap) -> list[Group]:
    texts = [found.texts[row][place] for row, place in zip(*np.nonzero(found.valid), strict=True)]
    types = token_types(texts)
    counts = Counter(types)
    names = sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))
    numbers = {name: number for number, name in enumerate(names)}
    return _groups(
        found, found.valid, np.array([numbers[each] for each in types], dtype=int), None, names
    )


def _by_correctness(found: PonderMap) -> list[Group]:
    if found.final_prediction is None or not found.has_target.any():
        return []
    number = np.where(found.correct, 0, np.where(found.wrong, 1, 2))[found.valid]
    return _groups(found, found.valid, number, None, ["right", "wrong", "no target"])


def _groups(
    found: PonderMap,
    among: NDArray[np.bool_],
    numbers: NDArray[np.integer],
    values: NDArray[np.float64] | None,
    names: Sequence[str] = (),
) -> list[Group]:
    """A group for each number of the tokens `among` [B L]; named, or by the least and the most of
    their values."""
    groups = []
    as_executed = np.array_equal(found.ponder, found.steps)
    for number in np.unique(numbers):
        mine = np.zeros_like(found.valid)
        mine[among] = numbers == number
        place = None if values is None else float(values[numbers == number].mean())
        name = names[int(number)] if values is None else _range(values[numbers == number])
        steps = mean_of(found.steps, mine)
        ponder = steps if as_executed else mean_of(found.ponder, mine)
        groups.append(Group(name, place, steps, ponder, int(mine.sum()), int(mine.any(1).sum())))
    return groups


def _range(values: NDArray[np.float64]) -> str:
    least = float(values.min())
    most = float(values.max())
    return f"{least:.4g}" if least == most else f"{least:.4g}–{most:.4g}"
