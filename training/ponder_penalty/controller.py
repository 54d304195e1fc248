"""The constants of a budget: how hard it pushes towards fewer steps after each update, as pure
functions."""

import math
from dataclasses import dataclass, replace

_FURTHEST = 0.5  # an error beyond this counts as this: a far target is approached, not jumped at
_SHRINKS = 0.2  # times as fast as it grew


@dataclass(frozen=True)
class PIConstants:
    """A proportional-integral controller with a filtered measurement that looks ahead, and a gain
    that adapts.

    Errors are logarithms of ponder ÷ wanted ponder, so the proportional_gain has no unit. What the
    control means is the actuator's matter (`actuator`), in units of the gain.

    Args:
        low, high: the ends of the control; a low end of 0 never pulls towards more steps.
        end: the end of the bias, on both sides.
        most, back: the largest gain, and that to which it grows while it pulls towards more steps.
        proportional_gain: control per error.
        time: the integral time, in updates.
        growth_time: updates in which the gain grows e-fold while the bias is at its end.
        filter_time: updates over which the measurement is smoothed.
        lead_time: updates that it is extrapolated by: depth goes on moving for a while after the
            control has changed.
    """

    low: float
    high: float
    end: float
    most: float
    back: float
    proportional_gain: float
    time: float
    growth_time: float
    filter_time: float = 8.0
    lead_time: float = 0.0


@dataclass(frozen=True)
class PIState:
    """Where a controller stands.

    Args:
        bias: what the control would be at no error.
        control: towards fewer steps, in reaches.
        gain: how far a control of 1 moves the actuator; 1 at the start.
        ponder: the smoothed measurement, in steps; None before the first.
        slope: the smoothed change of its logarithm, an update.
    """

    bias: float = 0.0
    control: float = 0.0
    gain: float = 1.0
    ponder: float | None = None
    slope: float = 0.0


def measured(constants: PIConstants, steering: PIState, ponder: float) -> PIState:
    """With one more measurement, and the control as it was."""
    if steering.ponder is None:
        return replace(steering, ponder=ponder)
    share = 1.0 / constants.filter_time
    smooth = steering.ponder + share * (ponder - steering.ponder)
    change = math.log(smooth / steering.ponder)
    return replace(
        steering, ponder=smooth, slope=steering.slope + share * (change - steering.slope)
    )


def reference(target: float, begin: float, share: float) -> float:
    """What the ponder should be on the way from where it began, in steps: its logarithm falls
    slowly at first, while the task is being learned, and slowly at last, so that it does not fall
    past the target.

    A model that has come to answer with fewer steps is not pulled back up by its task. A target
    above the beginning is approached by taking nothing away, so there it is the target at once.

    Args:
        target, begin: in steps.
        share: of the way, in updates; 1 and more is the end.
    """
    done = min(1.0, max(0.0, share))
    left = 1.0 - done * done * (3.0 - 2.0 * done)
    return target * (max(begin, target) / target) ** left


def error(constants: PIConstants, steering: PIState, wanted: float) -> float:
    """log(ponder ÷ wanted), looking ahead; positive where tokens take more steps than they are
    to."""
    assert steering.ponder is not None
    return math.log(steering.ponder / wanted) + constants.lead_time * steering.slope


def steered(constants: PIConstants, steering: PIState, wanted: float, rate: float) -> PIState:
    """With control, bias and gain moved.

    The control is linear in the error, so the noise of a batch pushes as often one way as the
    other. (With the logarithm of the penalty as what is steered, a few deep batches multiplied it
    by ten, and depth fell past the target.) Depth answers to the sign of the control more than to
    its size, since Adam divides by what it is used to; so the bias stays small, and it is the gain
    that grows where the whole control moves nothing. It shrinks again while less is needed.

    Bias and gain move with the square root of the learning rate: a model that learns slowly answers
    slowly, so late in training the controller narrows by itself. Neither leaves its ends, so
    nothing winds up.

    Args:
        constants: its constants.
        steering: with the newest measurement.
        wanted: what the ponder should be now, in steps.
        rate: the learning rate ÷ its peak.
    """
    off = max(-_FURTHEST, min(_FURTHEST, error(constants, steering, wanted)))
    asked = constants.proportional_gain * off
    pace = math.sqrt(rate)
    bias = _between(
        max(constants.low, -constants.end),
        steering.bias + asked * pace / constants.time,
        constants.end,
    )
    forward = bias >= constants.end and off > 0
    backward = bias <= -constants.end and off < 0 and steering.gain < constants.back
    growth = (1.0 if forward or backward else -_SHRINKS) * pace / constants.growth_time
    return replace(
        steering,
        bias=bias,
        control=_between(constants.low, steering.bias + asked, constants.high),
        gain=_between(1.0, steering.gain * math.exp(growth), constants.most),
    )


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(high, value))
