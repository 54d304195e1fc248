"""What a map is of, in a few plain words: the same facts above every viewer's picture."""

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.visible_text import visible


def facts(ponder_map: PonderMap) -> list[str]:
    """Run, task, rule, date, "at most 10 steps", "4.21 steps a token", "99.7 % right"; without what
    is unknown."""
    metadata = ponder_map.metadata
    named = [str(metadata[key]) for key in ("run", "task", "rule", "date") if metadata.get(key)]
    found = [visible(name, keep_spaces=True) for name in dict.fromkeys(named)]
    found.append(f"at most {metadata.get('max_steps', ponder_map.max_steps)} steps")
    if ponder_map.mean_steps is not None:
        found.append(f"{ponder_map.mean_steps:.2f} steps a token")
    if ponder_map.accuracy is not None:
        found.append(f"{percent(ponder_map.accuracy)} right")
    return found


def percent(share: float) -> str:
    """ "99.7 %"; never "100 %" for less than all, nor "0 %" for more than none."""
    shown = min(max(round(share * 100, 1), 0.1), 99.9) if 0 < share < 1 else share * 100
    return f"{shown:.3g} %"


def difficulty_name(ponder_map: PonderMap) -> str:
    """What the task's difficulty counts, such as "hops"; "difficulty" where it doesn't say."""
    return visible(
        str(ponder_map.metadata.get("difficulty_name") or "difficulty"), keep_spaces=True
    )
