"""What a penalty's settings cannot be."""

from halting.errors import UsageError
from training.ponder_penalty.ramp import check_ramp
from training.ponder_penalty.step_target import steps_of


def check_penalty(
    target_steps: str | None,
    ramp: tuple[float, float] | None,
    max_steps: int,
    min_steps: int,
    on_collapse: str = "warn",
) -> None:
    """Raises UsageError for a target that no run can hold or that a recovery would move, and for a
    ramp that cannot rise."""
    if target_steps is not None:
        steps_of(target_steps, max_steps, min_steps)
        if on_collapse == "recover":
            raise UsageError(
                f"--on-collapse recover comes with --penalty.target-steps {target_steps}.",
                "A recovery lowers the penalty, and a target steers it: each would undo the "
                "other's work.",
                "Write --on-collapse stop or warn (a target lets go by itself where steps fall "
                "below it), or set --penalty.value by hand.",
            )
    if ramp is not None:
        check_ramp(ramp, target_steps is not None)
