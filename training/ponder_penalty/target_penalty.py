"""A penalty that finds itself: it moves until mean ponder holds a target."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from halting.errors import UsageError
from training.ponder_penalty.actuator import Actuator
from training.ponder_penalty.controller import (
    PIConstants,
    PIState,
    error,
    measured,
    reference,
    steered,
)
from training.ponder_penalty.penalty import Observed

_LEARNED = 0.1  # of the first loss: the task is learned
_FIRST_LOSSES = 10  # updates that make the first loss
_UNIT = 8.0  # updates: what the controller's times are multiples of, or 1 % of a shorter run
_TOLERANCE = 0.05
_STILL = 4.0  # integral times in which ponder has not moved by the tolerance: it is stuck
_MUCH = 10.0  # times the gain, which should have moved it
_ARRIVES = 0.5
_NEWS = 0.25  # what an evaluation counts in the ratio of evaluation to training
_FARTHEST = math.log(3.0)  # a ratio beyond it counts as it
_LAST_QUARTER = 0.75  # shares of the run: at the target, and from where it is judged

Where = Literal["waits", "steers", "too shallow", "too deep"]


@dataclass(frozen=True)
class ControllerState:
    """What is known of a run that holds a target; JSON, so that a resumed run goes on bit for bit.

    Args:
        bias, control, gain, ponder, slope: of the controller.
        begun, began_at: the update at which the steering began, and the ponder then.
        where: "waits" for the task, "steers", or has found no control that brings the target: depth
            is "too shallow" with none, or "too deep" with much.
        losses: how many task losses it has seen.
        first_loss, loss: the smoothed task loss at the start and now, nats.
        moved_at, gain_then, still: the ponder that last was news, the gain then, and updates since.
        late_ponder, late_updates: sum over the last quarter of training, and of how many updates.
        excess, looks: the smoothed logarithm of the ponder in evaluation ÷ in training, and of how
            many evaluations.
        late_evaluated, late_looks: sum over the last quarter of the ponder in evaluation, and of
            how many.
    """

    bias: float = 0.0
    control: float = 0.0
    gain: float = 1.0
    ponder: float | None = None
    slope: float = 0.0
    where: Where = "waits"
    begun: float = 0.0
    began_at: float = 0.0
    losses: int = 0
    first_loss: float = 0.0
    loss: float = 0.0
    moved_at: float = 0.0
    gain_then: float = 1.0
    still: int = 0
    late_ponder: float = 0.0
    late_updates: int = 0
    excess: float = 0.0
    looks: int = 0
    late_evaluated: float = 0.0
    late_looks: int = 0


class TargetPenalty:
    """Moves an actuator until the mean ponder of evaluation is `target`.

    It waits until the task loss is a tenth of the first, or `latest` updates have gone: a penalty
    that bites before teaches the model to stop at once. From there on a proportional-integral
    controller moves the actuator after each update (`controller`), by the ponder of training, which
    each update shows. What evaluation takes is another number: it is told now and then, and what
    training is to hold is the target divided by the ratio of the two (`aim`). Where the target is
    out of gain, it says so and stays where the ponder is nearest.

    Args:
        actuator: what it moves.
        target: mean ponder over the valid tokens of the global batch, steps.
        updates: how long the run is; the way to the target is a share of it. The controller's own
            times are not, in a long run: how soon depth answers is the optimizer's matter.
        latest: the update at which it starts at the latest.
    """

    def __init__(self, actuator: Actuator, target: float, updates: int, latest: int):
        self.actuator = actuator
        self.target = target
        self.updates = updates
        self.latest = latest
        unit = min(max(updates / 100, 3.0), _UNIT)
        self.constants = PIConstants(
            low=actuator.low,
            high=actuator.high,
            end=actuator.end,
            most=actuator.most,
            back=actuator.back,
            proportional_gain=actuator.proportional_gain,
            time=3 * unit,
            growth_time=5 * unit,
            filter_time=unit,
            lead_time=3 * unit,
        )
        self.budget = ControllerState()

    def coefficient(self, update: float) -> float:
        return self.actuator.apply(self.budget.control, self.budget.gain)

    def observe(self, update: float, observed: Observed) -> None:
        if not math.isfinite(observed.ponder) or observed.ponder <= 0:
            return
        budget = self._with_loss(observed.task_loss)
        late = update >= _LAST_QUARTER * self.updates
        if late:
            late_ponder = budget.late_ponder + observed.ponder
            late_updates = budget.late_updates + 1
            budget = replace(budget, late_ponder=late_ponder, late_updates=late_updates)
        steering = measured(self.constants, _steering(budget), observed.ponder)
        if budget.where == "waits":
            budget = replace(budget, ponder=steering.ponder, slope=steering.slope)
            self.budget = self._start(budget, update) if self._may_start(update, budget) else budget
            return
        assert steering.ponder is not None
        wanted = self.wanted(update)
        if not (
            budget.where == "too deep" and error(self.constants, steering, wanted) > 0
        ):  # more has moved nothing: stays
            steering = steered(self.constants, steering, wanted, observed.rate)
        self.budget = self._judged(replace(budget, **asdict(steering)))

    def evaluated(self, update: float, ponder: float) -> None:
        budget = self.budget
        if budget.where == "waits" or budget.ponder is None or not 0 < ponder < math.inf:
            return
        found = max(-_FARTHEST, min(_FARTHEST, math.log(ponder / budget.ponder)))
        looks = budget.looks + 1
        excess = budget.excess + max(1 / looks, _NEWS) * (found - budget.excess)
        budget = replace(budget, excess=excess, looks=looks)
        if update >= _LAST_QUARTER * self.updates:
            late_evaluated = budget.late_evaluated + ponder
            late_looks = budget.late_looks + 1
            budget = replace(budget, late_evaluated=late_evaluated, late_looks=late_looks)
        self.budget = budget

    @property
    def aim(self) -> float:
        """What the ponder of training has to be for that of evaluation to be the target, in
        steps."""
        return max(1.0, self.target * math.exp(-self.budget.excess))

    def wanted(self, update: float) -> float:
        """What the ponder should be at an update of the steering, in steps."""
        way = _ARRIVES * self.updates - self.budget.begun
        share = 1.0 if way <= 0 else (update - self.budget.begun) / way
        return reference(self.aim, self.budget.began_at, share)

    def says(self) -> str | None:
        budget = self.budget
        actuator = self.actuator
        far = f"the target of {self.target:g} steps is out of gain"
        shown = actuator.named(budget.control, budget.gain)
        if budget.where == "too shallow":
            pays = ", which pays for steps," if actuator.knob is None else ""
            return (
                f"{far}: with {shown}{pays} the ponder is {budget.ponder:.2f}; write a lower "
                "--penalty.target-steps, more --updates, or start deeper: --halting.bias-init -3"
            )
        if budget.where == "too deep":
            return (
                f"{far}: beyond {shown} the ponder stays at {budget.ponder:.2f}; write a higher "
                "--penalty.target-steps"
            )
        return None

    def summary(self) -> dict[str, Any]:
        budget = self.budget
        if budget.late_updates == 0:
            return {
                "target_steps": self.target,
                "held": None,
                "says": "ended before its last quarter",
            }
        in_training = budget.late_ponder / budget.late_updates
        held = budget.late_evaluated / budget.late_looks if budget.late_looks else in_training
        off = held / self.target - 1
        says = self.says()
        if says is None and abs(off) > _TOLERANCE:
            says = (
                f"the target of {self.target:g} steps was missed: {held:.2f} over the run's last "
                "quarter"
            )
        return {
            "target_steps": self.target,
            "held": held,
            "off": off,
            "in_training": in_training,
            "knob": self.actuator.knob or "penalty",
            "knob_at_end": self.actuator.value(budget.control, budget.gain),
            "says": says,
        }

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.budget)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {each.name for each in fields(ControllerState)}:
            raise UsageError(
                "The checkpoint holds a target that another version of ponderloop steered.",
                "What that kept of its controller says nothing to this one.",
                "Begin a run from its weights: ponder train RECIPE --start-from RUN "
                "--penalty.target-steps …",
            )
        self.budget = ControllerState(**state)

    def _with_loss(self, loss: float) -> ControllerState:
        budget = self.budget
        if not math.isfinite(loss):
            return budget
        budget = replace(budget, losses=budget.losses + 1)
        if budget.losses <= _FIRST_LOSSES:
            mean = budget.first_loss + (loss - budget.first_loss) / budget.losses
            return replace(budget, first_loss=mean, loss=mean)
        return replace(budget, loss=budget.loss + (loss - budget.loss) / self.constants.filter_time)

    def _may_start(self, update: float, budget: ControllerState) -> bool:
        learned = budget.loss <= _LEARNED * budget.first_loss or update >= self.latest
        return learned and budget.losses > _FIRST_LOSSES

    def _start(self, budget: ControllerState, update: float) -> ControllerState:
        assert budget.ponder is not None
        return _news(replace(budget, where="steers", begun=update, began_at=budget.ponder))

    def _judged(self, budget: ControllerState) -> ControllerState:
        """Whether the target is out of gain: long at the actuator's end, or long pushed harder and
        harder, and nothing moves."""
        assert budget.ponder is not None
        off = budget.ponder / self.aim - 1
        moved = budget.ponder / budget.moved_at - 1
        if abs(off) <= _TOLERANCE or abs(moved) > _TOLERANCE:
            return _news(replace(budget, where="steers"))
        budget = replace(budget, still=budget.still + 1)
        most = self.constants.most if off > 0 else self.constants.back
        at_end = abs(budget.bias) >= self.constants.end and budget.gain >= most
        hard = at_end or budget.gain > _MUCH * budget.gain_then
        pulled = budget.control <= self.constants.low and hard
        if off < 0 and pulled and budget.still > self.constants.time:
            return replace(budget, where="too shallow")
        if off > 0 and hard and budget.still > _STILL * self.constants.time:
            return replace(budget, where="too deep")
        return budget


def _news(budget: ControllerState) -> ControllerState:
    assert budget.ponder is not None
    return replace(budget, moved_at=budget.ponder, gain_then=budget.gain, still=0)


def _steering(budget: ControllerState) -> PIState:
    return PIState(budget.bias, budget.control, budget.gain, budget.ponder, budget.slope)
