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
        accuracy: of the tokens that have a target.
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


def aggregate(ponder_map: PonderMap, deeper: PonderMap | None = None) -> Aggregates:
    """The figures of a map.

    Args:
        ponder_map: the map.
        deeper: the same examples when every token takes all steps, for what a token would have
            answered later: the lens of a map ends where the token left.

    Raises:
        UsageError: for a deeper map of other examples.
    """
    if deeper is not None and not np.array_equal(deeper.tokens, ponder_map.tokens):
        raise UsageError(
            "The deeper map is of other examples.",
            "It is compared token by token.",
            "Make it of the same batch.",
        )
    grouping = {
        "difficulty": _by_difficulty(ponder_map),
        "type": _by_type(ponder_map),
        "position": _by_position(ponder_map),
        "correctness": _by_correctness(ponder_map),
    }
    scores = {"score": of_score(ponder_map), "confidence": of_confidence(ponder_map)}
    lens = _at_exit(ponder_map)
    any_target = bool(ponder_map.has_target.any())
    right_if_deeper = None
    if deeper is not None and deeper.final_prediction is not None:
        right_if_deeper = _share(
            ponder_map, ponder_map.wrong & deeper.correct, ponder_map.has_target
        )
    return Aggregates(
        sequences=int(ponder_map.valid.any(1).sum()),
        tokens=int(ponder_map.valid.sum()),
        steps=mean_of(ponder_map.steps, ponder_map.valid),
        ponder=mean_of(ponder_map.ponder, ponder_map.valid),
        accuracy=share_of(
            ponder_map.correct, ponder_map.has_target & (ponder_map.correct | ponder_map.wrong)
        ),
        by=grouping,
        calibration={name: each for name, each in scores.items() if each is not None},
        overthinking=None if lens is None else _overthinking(ponder_map),
        degraded=None if lens is None or not any_target else _degraded(ponder_map),
        still_improving=None
        if lens is None or not any_target or ponder_map.target_probability is None
        else _still_improving(ponder_map),
        right_if_deeper=right_if_deeper,
        deeper_steps=None if right_if_deeper is None or deeper is None else deeper.max_steps,
    )


def settled_at(ponder_map: PonderMap) -> NDArray[np.int64]:
    """[B L]: the step from which the answer, had the token stopped, no longer changed until it
    left; 0 where nothing was read."""
    last = _at_exit(ponder_map)
    assert last is not None and ponder_map.predictions is not None
    number = np.arange(1, ponder_map.max_steps + 1)
    differs = (number <= ponder_map.steps[..., None]) & (ponder_map.predictions != last[..., None])
    return np.where(last >= 0, np.where(differs, number, 0).max(-1, initial=0) + 1, 0)


def _at_exit(ponder_map: PonderMap) -> NDArray[np.int32] | None:
    """[B L]: what was read at each token's last step, -1 where nothing was; None without a lens."""
    if ponder_map.predictions is None or ponder_map.max_steps == 0:
        return None
    last = np.maximum(ponder_map.steps.astype(int) - 1, 0)[..., None]
    read = np.take_along_axis(ponder_map.predictions, last, -1)[..., 0]
    return np.where(ponder_map.steps > 0, read, -1)


def _overthinking(ponder_map: PonderMap) -> Share:
    settled = settled_at(ponder_map)
    read = settled > 0
    steps = np.where(read, ponder_map.steps, 0)
    vain = steps - settled
    return Share(ratio(vain.sum(1), steps.sum(1)), share_of(vain > 0, read))


def _degraded(ponder_map: PonderMap) -> Share:
    assert ponder_map.predictions is not None and ponder_map.targets is not None
    was_right = (
        (ponder_map.predictions == ponder_map.targets[..., None]) & (ponder_map.predictions >= 0)
    ).any(-1)
    return _share(ponder_map, ponder_map.wrong & was_right, ponder_map.has_target)


def _still_improving(ponder_map: PonderMap) -> Share:
    chance = ponder_map.target_probability
    assert chance is not None
    last = ponder_map.steps.astype(int)
    ends = [
        np.take_along_axis(chance, np.maximum(last - back, 0)[..., None], -1)[..., 0]
        for back in (1, 2)
    ]
    return _share(
        ponder_map, ponder_map.wrong & (last >= 2) & (ends[0] > ends[1]), ponder_map.has_target
    )


def _share(ponder_map: PonderMap, chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    return Share(share_of(chosen, among, ponder_map.steps), share_of(chosen, among))


def _by_difficulty(ponder_map: PonderMap) -> list[Group]:
    if ponder_map.difficulty is None:
        return []
    rated = ponder_map.valid & np.isfinite(ponder_map.difficulty)
    values = ponder_map.difficulty[rated].astype(np.float64)
    return _groups(ponder_map, rated, grouped(values), values)


def _by_position(ponder_map: PonderMap) -> list[Group]:
    positions = np.nonzero(ponder_map.valid)[1]
    together = max(1, -(-ponder_map.valid.shape[1] // _MOST_POSITIONS))
    return _groups(
        ponder_map, ponder_map.valid, positions // together, positions.astype(np.float64)
    )


def _by_type(ponder_map: PonderMap) -> list[Group]:
    texts = [
        ponder_map.texts[row][place]
        for row, place in zip(*np.nonzero(ponder_map.valid), strict=True)
    ]
    types = token_types(texts)
    counts = Counter(types)
    names = sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))
    numbers = {name: number for number, name in enumerate(names)}
    return _groups(
        ponder_map,
        ponder_map.valid,
        np.array([numbers[each] for each in types], dtype=int),
        None,
        names,
    )


def _by_correctness(ponder_map: PonderMap) -> list[Group]:
    if ponder_map.final_prediction is None or not ponder_map.has_target.any():
        return []
    number = np.where(ponder_map.correct, 0, np.where(ponder_map.wrong, 1, 2))[ponder_map.valid]
    return _groups(ponder_map, ponder_map.valid, number, None, ["right", "wrong", "no target"])


def _groups(
    ponder_map: PonderMap,
    among: NDArray[np.bool_],
    numbers: NDArray[np.integer],
    values: NDArray[np.float64] | None,
    names: Sequence[str] = (),
) -> list[Group]:
    """A group for each number of the tokens `among` [B L]; named, or by the least and the most of
    their values."""
    groups = []
    as_executed = np.array_equal(ponder_map.ponder, ponder_map.steps)
    for number in np.unique(numbers):
        mine = np.zeros_like(ponder_map.valid)
        mine[among] = numbers == number
        place = None if values is None else float(values[numbers == number].mean())
        name = names[int(number)] if values is None else _range(values[numbers == number])
        steps = mean_of(ponder_map.steps, mine)
        ponder = steps if as_executed else mean_of(ponder_map.ponder, mine)
        groups.append(Group(name, place, steps, ponder, int(mine.sum()), int(mine.any(1).sum())))
    return groups


def _range(values: NDArray[np.float64]) -> str:
    least = float(values.min())
    most = float(values.max())
    return f"{least:.4g}" if least == most else f"{least:.4g}–{most:.4g}"
