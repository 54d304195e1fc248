"""An exit with its threshold left open, and its settings in order from the safest to the
cheapest."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from halting.errors import UsageError
from halting.exit_threshold import ExitThreshold
from halting.rule import HaltingRule
from halting.wrappers.wrapper import RuleWrapper
from training.exits.answers import Examples, answer
from training.exits.exit import Exit, parse_exit
from training.runs.loaded import Run

T = TypeVar("T")
_CLOSEST = 1e-4  # shares of the path nearer to each other are one
_CLOSER = 6  # halvings around what is looked for
_LEARNED = "learned"
_FIXED = "fixed"


@dataclass(frozen=True)
class OpenExit:
    """An exit whose threshold is to be found.

    Args:
        spec: as written: "learned", "convergence:kl", "confidence", "fixed".
        threshold: what moves it; None for a fixed depth, where the depth does.
        limit: N, full depth.
        trained: the value that the rule was trained with; None for an exit that was not trained.
    """

    spec: str
    threshold: ExitThreshold | None
    limit: int
    trained: float | None = None

    @property
    def num_chains(self) -> int:
        """How many `chains` there are."""
        return 1 if self.trained is None else 2

    def at(self, value: float) -> Exit:
        """The exit with that threshold."""
        if self.threshold is None:
            return Exit(f"{_FIXED}:{int(value)}", steps=int(value))
        number = (
            int(value)
            if self.threshold.scale == "count" and self.spec == _LEARNED
            else float(value)
        )
        joint = "," if "=" in self.spec else ":"
        return parse_exit(f"{self.spec}{joint}{self.threshold.option}={number!r}")


def open_exit(run: Run, spec: str) -> OpenExit:
    """The exit that is written without its threshold.

    Raises:
        UsageError: for an unknown exit, one whose threshold is written already, and one that has
            none.
    """
    limit = run.model.recurrence.max_steps
    if spec == _FIXED:
        return OpenExit(spec, None, limit)
    given = parse_exit(spec)
    rule = given.rule or _innermost(run.model.recurrence.rule)
    if given.steps is not None or rule.exit_threshold is None:
        raise UsageError(
            f"--exit {spec} has no threshold to choose.",
            "All leave at that depth."
            if given.steps is not None
            else (
                f"{type(rule).__name__} has no option that says how early its tokens leave once it "
                "is trained."
            ),
            "Write fixed, whose depth is then chosen, or convergence or confidence, which work on "
            "any model.",
        )
    if _names_threshold(spec, given, rule.exit_threshold):
        raise UsageError(
            f"--exit {spec} names its threshold.",
            f"The threshold ({rule.exit_threshold.option}) is what is to be chosen.",
            "Write the exit without it, such as learned, convergence:kl or confidence.",
        )
    trained = getattr(rule, rule.exit_threshold.option) if given.rule is None else None
    return OpenExit(spec, rule.exit_threshold, limit, trained)


def chains(run: Run, given: OpenExit, examples: Examples, number: int) -> list[list[Exit]]:
    """The orders in which its settings are to be tested: its path; and where it was trained the
    part of it that begins with the value of the training, because a rule whose model has learned to
    answer at one threshold need not be better at one that is stricter. (Fixed-sequence testing with
    several starts, Angelopoulos et al. 2021.)

    Args:
        run, given, examples, number: as of `path`.
    """
    whole = path(run, given, examples, number)
    if given.trained is None:
        return [whole]
    start = given.at(given.trained)
    names = [each.name for each in whole]
    if start.name in names:
        return [whole, whole[names.index(start.name) :]]
    steps = answer(run, start, examples).mean_steps
    cheaper = [each for each in whole if answer(run, each, examples).mean_steps < steps]
    return [whole, [start, *cheaper]]


def path(
    run: Run, opened: OpenExit, examples: Examples, number: int, near: float | None = None
) -> list[Exit]:
    """At most about so many settings from the safest to the cheapest, as evenly far apart in
    executed steps on some examples as they can be had; of a fixed depth all. These examples must
    not be those on which they are tested.

    Args:
        run: the run.
        opened: the exit.
        examples: a few, only to see what the settings do.
        number: how many settings.
        near: executed steps; a few more settings are laid close to what takes so many.
    """
    threshold = opened.threshold
    if threshold is None:
        return [opened.at(depth) for depth in range(opened.limit, 0, -1)]
    return evenly(
        lambda share: opened.at(threshold.at(share)),
        lambda setting: answer(run, setting, examples).mean_steps,
        number,
        near,
    )


def evenly(
    setting_at: Callable[[float], T],
    steps_of: Callable[[T], float],
    number: int,
    near: float | None = None,
) -> list[T]:
    """Settings along a path such that each takes fewer steps than the one before, by about as much.
    Where two neighbours differ most, the path between them is halved; and then a few times more
    where they lie around `near`.

    Args:
        setting_at: the setting at this share of the path, 0 to 1, from the safest to the cheapest.
        steps_of: what it takes.
        number: how many are tried.
        near: what some more should take.
    """
    tried = {share: steps_of(setting_at(share)) for share in (0.0, 1.0)}
    while len(tried) < number:
        shares = sorted(tried)
        gaps = [
            (tried[low] - tried[high], low, high)
            for low, high in pairwise(shares)
            if high - low > _CLOSEST
        ]
        gap, low, high = max(gaps, default=(0.0, 0.0, 0.0))
        if gap <= 0:
            break
        middle = (low + high) / 2
        tried[middle] = steps_of(setting_at(middle))
    for _ in range(_CLOSER):
        if near is None:
            break
        shares = sorted(tried)
        low = max((share for share in shares if tried[share] > near), default=0.0)
        high = next((share for share in shares if share > low), low)
        if high - low <= _CLOSEST:
            break
        tried[(low + high) / 2] = steps_of(setting_at((low + high) / 2))
    kept = [setting_at(0.0)]
    least = tried[0.0]
    for share in sorted(tried)[1:]:
        if tried[share] < least:
            kept.append(setting_at(share))
            least = tried[share]
    return kept


def _innermost(rule: HaltingRule) -> HaltingRule:
    while isinstance(rule, RuleWrapper):
        rule = rule.rule
    return rule


def _names_threshold(spec: str, given: Exit, threshold: ExitThreshold) -> bool:
    if given.rule is None:
        return threshold.option in given.options
    words = spec.split(":")[1:]
    return any(
        word.startswith(f"{threshold.option}=") for word in words[-1:] for word in word.split(",")
    ) or any(_is_number(word) for word in words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
