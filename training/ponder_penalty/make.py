"""From a config to its penalty."""

from typing import TYPE_CHECKING, Any

from halting.costs.cost import PonderCost
from halting.errors import UsageError
from training.ponder_penalty.budget import TargetPenalty
from training.ponder_penalty.constant import ConstantPenalty, coefficient
from training.ponder_penalty.lever import lever_of
from training.ponder_penalty.penalty import Penalty
from training.ponder_penalty.ramp import RampPenalty, check_ramp
from training.ponder_penalty.step_target import steps_of

if TYPE_CHECKING:
    from training.config.run_config import PenaltyConfig, RunConfig


def check_penalty(penalty: "PenaltyConfig", max_steps: int, min_steps: int, on_collapse: str = "warn") -> None:
    """Raises UsageError for a target that no run can hold or that a recovery would move, and for a ramp that cannot
    rise."""
    if penalty.target_steps is not None:
        steps_of(penalty.target_steps, max_steps, min_steps)
        if on_collapse == "recover":
            raise UsageError(
                f"--on-collapse recover comes with --penalty.target-steps {penalty.target_steps}.",
                "A recovery lowers the penalty, and a target steers it: each would undo the other's work.",
                "Write --on-collapse stop or warn (a target lets go by itself where steps fall below it), or set "
                "--penalty.value by hand.",
            )
    if penalty.ramp is not None:
        check_ramp(penalty.ramp, penalty.target_steps is not None)


def make_penalty(config: "RunConfig", cost: PonderCost | None, state: dict[str, Any] | None = None) -> Penalty:
    """The penalty of a run.

    Args:
        config: the run.
        cost: what it weighs; a target may move its prior.
        state: where it stood, from a checkpoint; None at the start.

    Raises:
        UsageError: for a target or a ramp that this run cannot have.
    """
    penalty = _new(config, cost)
    if state:  # empty where the penalty was set by hand before
        penalty.load_state_dict(state)
    return penalty


def _new(config: "RunConfig", cost: PonderCost | None) -> Penalty:
    given, weight = config.penalty, coefficient(config.penalty, cost)
    if given.target_steps is not None:
        target = steps_of(given.target_steps, config.loop.max_steps, config.halting.min_steps)
        lever = lever_of(cost, weight, target, config.halting.kind)
        if config.loop.train_depth != "fixed":
            raise UsageError(
                f"--penalty.target-steps comes with --loop.train-depth {config.loop.train_depth}.",
                "A random step limit cuts the ponder that is measured, and evaluation, at the full limit, would show "
                "another.",
                "Write --loop.train-depth fixed, or set --penalty.value by hand.",
            )
        return TargetPenalty(lever, target, config.updates, given.warmup or config.updates // 3)
    if given.ramp is not None:
        if cost is None or cost.unit != "steps":
            raise UsageError(
                f"--penalty.ramp comes with {'no ponder cost' if cost is None else f'the cost {type(cost).__name__}'}.",
                "A rising weight takes away steps only where the cost is counted in steps.",
                "Use a cost in steps, such as that of --halting.rule GravesACT, or drop the ramp.",
            )
        return RampPenalty(*given.ramp, given.warmup, config.updates)
    return ConstantPenalty(weight, given.warmup)


def described(config: "RunConfig", cost: PonderCost | None) -> str:
    """The penalty in a few words, for headers."""
    given = config.penalty
    if cost is None:
        return "no ponder cost"
    if given.target_steps is not None:
        target = steps_of(given.target_steps, config.loop.max_steps, config.halting.min_steps)
        return f"{cost.steered_by or 'penalty'} steered to {target:g} steps"
    if given.ramp is not None:
        return f"penalty {given.ramp[0]:g} to {given.ramp[1]:g}"
    return f"penalty {coefficient(given, cost):g}"
