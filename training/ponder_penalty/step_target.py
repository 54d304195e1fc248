"""A target for the mean ponder: a number of steps, or a share of the step limit."""

from halting.errors import UsageError

FLAG = "--penalty.target-steps"
WITHIN = 0.01
"""How near the mean ponder of the model that is kept is to be to the target, relative to it."""


def read_target(given: str | float) -> str:
    """A target as a config keeps it: "4" steps, or "40%" of the step limit.

    Raises:
        UsageError: for anything else.
    """
    if isinstance(given, str) and given.strip().endswith("%"):
        share = _number(given.strip()[:-1])
        if share is not None and 0 < share <= 100:
            return f"{share:.12g}%"
    elif (steps := _number(given)) is not None:
        return f"{steps:.12g}"
    raise UsageError(
        f"{FLAG} is {given!r}.",
        "It is the mean ponder to hold: a number of steps, or a share of --loop.max-steps in per "
        "cent.",
        f"Write {FLAG} 4, or {FLAG} 40%.",
    )


def steps_of(target: str, max_steps: int, min_steps: int = 1) -> float:
    """A target in steps.

    Args:
        target: as `read_target` gave it.
        max_steps: N, the step limit.
        min_steps: no token leaves before it.

    Raises:
        UsageError: for one that no run can hold.
    """
    is_share = target.endswith("%")
    steps = float(target[:-1]) / 100 * max_steps if is_share else float(target)
    said = f"{FLAG} {target} is {steps:g} steps," if is_share else f"{FLAG} {target} is"
    if steps < min_steps:
        least = (
            "every token takes one step at least"
            if min_steps == 1
            else f"--halting.min-steps is {min_steps}"
            + (", or --halting.one-ahead takes a second step" if min_steps == 2 else "")
        )
        raise UsageError(
            f"{said} below {min_steps}.",
            f"No penalty can bring the mean there: {least}.",
            f"Write {FLAG} with a number between {min_steps} and {max_steps}.",
        )
    if steps > max_steps:
        raise UsageError(
            f"{said} above --loop.max-steps {max_steps}.",
            "Every token leaves at the step limit at the latest, so no mean lies above it.",
            f"Write {FLAG} with a number between {min_steps} and {max_steps}, or raise "
            "--loop.max-steps.",
        )
    return steps


def _number(given: str | float) -> float | None:
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None
