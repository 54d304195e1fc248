"""A penalty that finds itself: it moves until mean ponder holds a target."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from halting.errors import UsageError
from training.ponder_penalty.controller import Control, Steering, error, measured, reference, steered
from training.ponder_penalty.lever import Lever
from training.ponder_penalty.penalty import Observed

_LEARNED = 0.1  # of the first loss: the task is learned
_FIRST_LOSSES = 10  # updates that make the first loss
_UNIT = 8.0  # updates: what the controller's times are multiples of, or 1 % of a shorter run
_TOLERANCE = 0.05
_STILL = 4.0  # integral times in which ponder has not moved by the tolerance: it is stuck
_MUCH = 10.0  # times the reach, which should have moved it
_ARRIVES, _LAST_QUARTER = 0.5, 0.75  # shares of the run: at the target, and from where it is judged

Where = Literal["waits", "steers", "too shallow", "too deep"]


@dataclass(frozen=True)
class Budget:
    """What is known of a run that holds a target; JSON, so that a resumed run goes on bit for bit.

    Args:
        bias, push, reach, ponder, slope: of the controller.
        begun, began_at, deepest: the update at which the steering began, the ponder then, and the most since.
        where: "waits" for the task, "steers", or has found no push that brings the target: depth is "too shallow"
            with none, or "too deep" with much.
        losses: how many task losses it has seen.
        first_loss, loss: the smoothed task loss at the start and now, nats.
        moved_at, reach_then, still: the ponder that last was news, the reach then, and updates since.
        late_ponder, late_updates: sum over the last quarter of training, and of how many updates.
    """

    bias: float = 0.0
    push: float = 0.0
    reach: float = 1.0
    ponder: float | None = None
    slope: float = 0.0
    where: Where = "waits"
    begun: float = 0.0
    began_at: float = 0.0
    deepest: float = 0.0
    losses: int = 0
    first_loss: float = 0.0
    loss: float = 0.0
    moved_at: float = 0.0
    reach_then: float = 1.0
    still: int = 0
    late_ponder: float = 0.0
    late_updates: int = 0


class TargetPenalty:
    """Moves a lever until the mean ponder of training is `target`.

    It waits until the task loss is a tenth of the first, or `latest` updates have gone: a penalty that bites before
    teaches the model to stop at once. From there on a proportional-integral controller moves the lever after each
    update (`controller`). Where the target is out of reach, it says so and stays where the ponder is nearest.

    Args:
        lever: what it moves.
        target: mean ponder over the valid tokens of the global batch, steps.
        updates: how long the run is; the way to the target is a share of it. The controller's own times are not, in
            a long run: how soon depth answers is the optimizer's matter.
        latest: the update at which it starts at the latest.
    """

    def __init__(self, lever: Lever, target: float, updates: int, latest: int):
        self.lever, self.target, self.updates, self.latest = lever, target, updates, latest
        unit = min(max(updates / 100, 3.0), _UNIT)
        self.control = Control(
            low=lever.low,
            high=lever.high,
            end=lever.end,
            most=lever.most,
            back=lever.back,
            gain=lever.gain,
            time=3 * unit,
            growth_time=5 * unit,
            filter_time=unit,
            lead_time=3 * unit,
        )
        self.budget = Budget()

    def coefficient(self, update: float) -> float:
        return self.lever.pull(self.budget.push, self.budget.reach)

    def observe(self, update: float, observed: Observed) -> None:
        if not math.isfinite(observed.ponder) or observed.ponder <= 0:
            return
        budget = self._with_loss(observed.task_loss)
        late = update >= _LAST_QUARTER * self.updates
        if late:
            late_ponder, late_updates = budget.late_ponder + observed.ponder, budget.late_updates + 1
            budget = replace(budget, late_ponder=late_ponder, late_updates=late_updates)
        steering = measured(self.control, _steering(budget), observed.ponder)
        if budget.where == "waits":
            budget = replace(budget, ponder=steering.ponder, slope=steering.slope)
            self.budget = self._start(budget, update) if self._may_start(update, budget) else budget
            return
        assert steering.ponder is not None
        budget = self.budget = replace(budget, deepest=max(budget.deepest, steering.ponder))
        control = replace(self.control, low=self.low)
        wanted = self.wanted(update)
        if not (budget.where == "too deep" and error(control, steering, wanted) > 0):  # more has moved nothing: stays
            steering = steered(control, steering, wanted, observed.rate)
        self.budget = self._judged(replace(budget, **asdict(steering)))

    def wanted(self, update: float) -> float:
        """What the ponder should be at an update of the steering, in steps."""
        way = _ARRIVES * self.updates - self.budget.begun
        share = 1.0 if way <= 0 else (update - self.budget.begun) / way
        return reference(self.target, self.budget.began_at, share)

    @property
    def low(self) -> float:
        """The low end of the push: steps are paid for only where depth has come from above the target."""
        deeper = self.budget.deepest > (1 + _TOLERANCE) * self.target
        return -self.lever.end if deeper else self.lever.low

    def says(self) -> str | None:
        budget, lever = self.budget, self.lever
        far = f"the target of {self.target:g} steps is out of reach"
        shown = lever.named(budget.push, budget.reach)
        if budget.where == "too shallow" and lever.value(budget.push, budget.reach) < 0:
            return (
                f"{far}: the ponder has fallen to {budget.ponder:.2f} and does not come back, with {shown}; write more "
                "--updates, so that it falls more slowly"
            )
        if budget.where == "too shallow":
            with_none = "no penalty" if lever.knob is None else shown
            return (
                f"{far}: with {with_none} the ponder is {budget.ponder:.2f}; write a lower --penalty.target-steps, or "
                "start deeper: --halting.bias-init -3"
            )
        if budget.where == "too deep":
            return (
                f"{far}: beyond {shown} the ponder stays at {budget.ponder:.2f}; write a higher --penalty.target-steps"
            )
        return None

    def summary(self) -> dict[str, Any]:
        budget = self.budget
        if budget.late_updates == 0:
            return {"target_steps": self.target, "held": None, "says": "ended before its last quarter"}
        held = budget.late_ponder / budget.late_updates
        off = held / self.target - 1
        says = self.says()
        if says is None and abs(off) > _TOLERANCE:
            says = f"the target of {self.target:g} steps was missed: {held:.2f} over the last quarter of training"
        return {
            "target_steps": self.target,
            "held": held,
            "off": off,
            "knob": self.lever.knob or "penalty",
            "knob_at_end": self.lever.value(budget.push, budget.reach),
            "says": says,
        }

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.budget)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {each.name for each in fields(Budget)}:
            raise UsageError(
                "The checkpoint holds a target that another version of ponderloop steered.",
                "What that kept of its controller says nothing to this one.",
                "Begin a run from its weights: ponder train RECIPE --start-from RUN --penalty.target-steps …",
            )
        self.budget = Budget(**state)

    def _with_loss(self, loss: float) -> Budget:
        budget = self.budget
        if not math.isfinite(loss):
            return budget
        budget = replace(budget, losses=budget.losses + 1)
        if budget.losses <= _FIRST_LOSSES:
            mean = budget.first_loss + (loss - budget.first_loss) / budget.losses
            return replace(budget, first_loss=mean, loss=mean)
        return replace(budget, loss=budget.loss + (loss - budget.loss) / self.control.filter_time)

    def _may_start(self, update: float, budget: Budget) -> bool:
        learned = budget.loss <= _LEARNED * budget.first_loss or update >= self.latest
        return learned and budget.losses > _FIRST_LOSSES

    def _start(self, budget: Budget, update: float) -> Budget:
        assert budget.ponder is not None
        return _news(replace(budget, where="steers", begun=update, began_at=budget.ponder))

    def _judged(self, budget: Budget) -> Budget:
        """Whether the target is out of reach: long at the lever's end, or long pushed harder and harder, and nothing
        moves."""
        assert budget.ponder is not None
        off, moved = budget.ponder / self.target - 1, budget.ponder / budget.moved_at - 1
        if abs(off) <= _TOLERANCE or abs(moved) > _TOLERANCE:
            return _news(replace(budget, where="steers"))
        budget = replace(budget, still=budget.still + 1)
        most = self.control.most if off > 0 else self.control.back
        at_end = abs(budget.bias) >= self.control.end and budget.reach >= most
        hard = at_end or budget.reach > _MUCH * budget.reach_then
        pulled = budget.push <= self.low and (hard or self.low == 0)
        if off < 0 and pulled and budget.still > self.control.time:
            return replace(budget, where="too shallow")
        if off > 0 and hard and budget.still > _STILL * self.control.time:
            return replace(budget, where="too deep")
        return budget


def _news(budget: Budget) -> Budget:
    assert budget.ponder is not None
    return replace(budget, moved_at=budget.ponder, reach_then=budget.reach, still=0)


def _steering(budget: Budget) -> Steering:
    return Steering(budget.bias, budget.push, budget.reach, budget.ponder, budget.slope)
