"""The control of a budget: how far the pressure towards fewer steps moves after each update, as a pure function."""

import math
from dataclasses import dataclass, replace

_FURTHEST = 0.5  # an error beyond this counts as this: a far target is approached, not jumped at


@dataclass(frozen=True)
class Control:
    """A proportional-integral controller with a filtered measurement that looks ahead.

    Errors are logarithms of ponder ÷ wanted ponder, pressures logarithms of a coefficient, so the gain has no unit.

    Args:
        low, high: the ends of the pressure.
        time: the integral time, in updates.
        gain: pressure per error.
        filter_time: updates over which the measurement is smoothed.
        lead_time: updates that it is extrapolated by: depth goes on moving for a while after the pressure has changed.
    """

    low: float
    high: float
    time: float
    gain: float = 2.0
    filter_time: float = 8.0
    lead_time: float = 0.0


@dataclass(frozen=True)
class Steering:
    """Where a controller stands.

    Args:
        integral: what the pressure would be at no error.
        pressure: what it is.
        ponder: the smoothed measurement, in steps; None before the first.
        slope: the smoothed change of its logarithm, an update.
    """

    integral: float
    pressure: float
    ponder: float | None = None
    slope: float = 0.0


def measured(control: Control, steering: Steering, ponder: float) -> Steering:
    """With one more measurement, and the pressure as it was."""
    if steering.ponder is None:
        return replace(steering, ponder=ponder)
    share = 1.0 / control.filter_time
    smooth = steering.ponder + share * (ponder - steering.ponder)
    change = math.log(smooth / steering.ponder)
    return replace(steering, ponder=smooth, slope=steering.slope + share * (change - steering.slope))


def reference(target: float, begin: float, share: float) -> float:
    """What the ponder should be on the way from where it began, in steps: its logarithm falls slowly at first, while
    the task is being learned, and slowly at last, so that it does not fall past the target.

    A model that has come to answer with fewer steps is not pulled back up by its task. A target above the beginning is
    approached by taking nothing away, so there it is the target at once.

    Args:
        target, begin: in steps.
        share: of the way, in updates; 1 and more is the end.
    """
    done = min(1.0, max(0.0, share))
    left = 1.0 - done * done * (3.0 - 2.0 * done)
    return target * (max(begin, target) / target) ** left


def error(control: Control, steering: Steering, wanted: float) -> float:
    """log(ponder ÷ wanted), looking ahead; positive where tokens take more steps than they are to."""
    assert steering.ponder is not None
    return math.log(steering.ponder / wanted) + control.lead_time * steering.slope


def steered(control: Control, steering: Steering, wanted: float, rate: float) -> Steering:
    """With the pressure moved.

    The integral moves with the square root of the learning rate: a model that learns slowly answers slowly, so late in
    training the controller narrows by itself. At an end of the pressure an error that pushes outward adds nothing (no
    windup), and the integral stays within the ends, so that it leaves as soon as the error turns.

    Args:
        control: its constants.
        steering: with the newest measurement.
        wanted: what the ponder should be now, in steps.
        rate: the learning rate ÷ its peak.
    """
    off = max(-_FURTHEST, min(_FURTHEST, error(control, steering, wanted)))
    asked = steering.integral + control.gain * off
    outward = (asked >= control.high and off > 0) or (asked <= control.low and off < 0)
    integral = steering.integral if outward else steering.integral + control.gain * off * math.sqrt(rate) / control.time
    integral = _between(control, integral)
    return replace(steering, integral=integral, pressure=_between(control, integral + control.gain * off))


def _between(control: Control, pressure: float) -> float:
    return max(control.low, min(control.high, pressure))
