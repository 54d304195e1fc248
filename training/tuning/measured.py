"""What a sweep has measured, setting by setting: the points of its Pareto front, and the choice of
one."""

import operator
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from halting.errors import UsageError
from training.console.amounts import short_number
from training.tuning.axis import as_number
from training.tuning.pareto import ParetoPoint, knee, pareto_front
from training.tuning.space import ALWAYS_SWEPT, Point, label
from training.tuning.sweep import QUALITIES, Sweep, setting_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_BOUND = re.compile(
    r"\s*(steps|flops|quality|accuracy|bits|sequence_accuracy)\s*(<=|>=|<|>)\s*([0-9.e+-]+)\s*"
)
_COMPARED = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class MeasuredSetting:
    """One setting under its seeds.

    Args:
        point: the setting.
        seeds: that are done.
        rows: the figures of each.
        quality: the name of the figure on the quality's axis.
    """

    point: Point
    seeds: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]
    quality: str

    def mean(self, name: str) -> float:
        """Over the seeds; of those in which it is defined."""
        known = [row[name] for row in self.rows if row.get(name) is not None]
        return statistics.fmean(known) if known else float("nan")

    def spread(self, name: str) -> tuple[float, float] | None:
        """The least and the most over several seeds."""
        known = [row[name] for row in self.rows if row.get(name) is not None]
        return (min(known), max(known)) if len(known) > 1 else None

    @property
    def collapsed(self) -> int:
        """Of how many seeds the tokens all stop at one step."""
        return sum(bool(row["collapsed"]) for row in self.rows)

    @property
    def better(self) -> float:
        """The quality as something of which more is better."""
        return QUALITIES[self.quality] * self.mean(self.quality)

    def as_point(self, compute: str) -> ParetoPoint:
        """As the pictures take it.

        Args:
            compute: the figure on the axis of compute, "mean_steps" or "flops_per_token".
        """
        sign = QUALITIES[self.quality]
        spread = self.spread(self.quality)
        penalty = self.point.get(ALWAYS_SWEPT)
        rho = self.mean("spearman_steps_difficulty")
        return ParetoPoint(
            label(self.point),
            self.better,
            self.mean(compute),
            None if penalty in (None, "None") else float(penalty),
            tuple(sorted(sign * each for each in spread)) if spread else None,  # pyright: ignore[reportArgumentType]
            self.spread(compute),
            self.collapsed > 0,
            (
                ("FLOPs a token", short_number(self.mean("flops_per_token"))),
                ("Spearman", "–" if rho != rho else f"{rho:.2f}"),
                ("collapsed", f"{self.collapsed} of {len(self.rows)}" if self.collapsed else "–"),
                ("seeds", str(len(self.rows))),
            ),
            len(self.rows),
        )


def measured(sweep: Sweep) -> list[MeasuredSetting]:
    """The settings with at least one trial that is done, in the order in which they came."""
    from optuna.trial import TrialState

    quality = sweep.settings().quality
    found: dict[str, list[FrozenTrial]] = {}
    for trial in sweep.trials((TrialState.COMPLETE,)):
        found.setdefault(repr(sorted(setting_of(trial)[0].items())), []).append(trial)
    return [
        MeasuredSetting(
            setting_of(trials[0])[0],
            tuple(setting_of(trial)[1] for trial in trials),
            tuple(trial.user_attrs["figures"] for trial in trials),
            quality,
        )
        for trials in found.values()
    ]


def front(settings: Sequence[MeasuredSetting]) -> list[MeasuredSetting]:
    """Those that no other beats by quality and FLOPs, the cheapest first."""
    points = [each.as_point("flops_per_token") for each in settings]
    return [settings[_place(points, point)] for point in pareto_front(points)]


def bend(settings: Sequence[MeasuredSetting]) -> MeasuredSetting | None:
    """The knee of the front; a setting that collapsed under any of its seeds is not taken."""
    points = [each.as_point("flops_per_token") for each in settings]
    found = knee(points)
    return None if found is None else settings[_place(points, found)]


def doubt(settings: Sequence[MeasuredSetting]) -> str | None:
    """Why the knee may be another one under other seeds; None where nothing speaks for that, or
    there is no knee."""
    chosen = bend(settings)
    if chosen is None:
        return None
    others = [each for each in front(settings) if each is not chosen]
    if any(len(each.rows) == 1 for each in (chosen, *others)):
        return (
            "A knee among settings that were trained under one seed each may be noise, the more so "
            "where they have hardly trained."
        )
    least, most = chosen.spread(chosen.quality) or (0.0, 0.0)
    near = [
        label(each.point)
        for each in others
        if (spread := each.spread(each.quality)) and spread[0] <= most and spread[1] >= least
    ]
    if not near:
        return None
    quality = chosen.quality.replace("_", " ")
    return (
        f"The knee may be noise: its {quality} lies within the spread over seeds of "
        f"{', '.join(near)}."
    )


def pick(settings: Sequence[MeasuredSetting], what: str) -> MeasuredSetting:
    """The setting that a person asks for.

    Args:
        settings: all that are measured.
        what: "knee"; "best", the best quality, and the cheapest of equals; a bound such as
            "steps<=4" or "flops<=1e6", the best quality within it; or "accuracy>=0.99", the
            cheapest that reaches it.

    Raises:
        UsageError: for anything else, and where no setting fits.
    """
    bound = _BOUND.fullmatch(what)
    if what not in ("knee", "best") and (bound is None or as_number(bound[3]) is None):
        raise UsageError(
            f"--pick {what}.",
            "It says which point of the sweep is meant.",
            'Write --pick knee, --pick best, --pick "steps<=4" or --pick "accuracy>=0.99".',
        )
    if bound is None:
        found = bend(settings) if what == "knee" else max(settings, key=_by_quality, default=None)
    else:
        name = {"steps": "mean_steps", "flops": "flops_per_token"}.get(bound[1], bound[1])
        fitting = [
            each for each in settings if _COMPARED[bound[2]](each.mean(name), float(bound[3]))
        ]
        cheapest = bound[2] in (">", ">=") and name not in ("mean_steps", "flops_per_token")
        found = max(fitting, key=_by_compute if cheapest else _by_quality, default=None)
    if found is None:
        shown = ", ".join(
            f"{label(each.point)} ({each.mean('mean_steps'):.2f} steps)" for each in settings
        )
        raise UsageError(
            f"--pick {what} fits no point of the sweep.",
            f"Measured are {shown or 'none so far'}; a knee has to be one that has not collapsed.",
            "Write another --pick, or add points: ponder tune --out DIR --penalty.value …",
        )
    return found


def _by_quality(each: MeasuredSetting) -> tuple[float, float]:
    return each.better, -each.mean("flops_per_token")


def _by_compute(each: MeasuredSetting) -> tuple[float, float]:
    return -each.mean("flops_per_token"), each.better


def _place(points: Sequence[ParetoPoint], point: ParetoPoint) -> int:
    return next(place for place, each in enumerate(points) if each is point)
