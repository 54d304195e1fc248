"""What a trained run gets for its compute under each way to leave the loop: curves, by really
running each point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from act.accounting.flops import Flops, count_flops
from halting.errors import UsageError
from training.exits.answers import Answers, Examples, answer, end_to_end
from training.exits.exit import LEARNED, Exit
from training.exits.path import open_exit, path
from training.reports.leave_at import LeaveAt
from training.runs.loaded import Run

Steps = Int[np.ndarray, "S L"]
_SAME = 0.005


@dataclass(frozen=True)
class ExitSetting:
    """A setting of an exit on a run, or steps that are fixed beforehand.

    Args:
        name: of the setting.
        run: whose model it is.
        exit_policy: the exit; None where steps are given.
        steps: [S L] the steps of each token; None for what was not run.
    """

    name: str
    run: Run
    exit_policy: Exit | None
    steps: Steps | None = None

    @property
    def runs(self) -> bool:
        """Whether it can be run, and timed."""
        return self.exit_policy is not None or self.steps is not None

    def exit(self, first: int, count: int) -> Exit:
        """The exit of examples first .. first + count − 1."""
        if self.exit_policy is not None:
            return self.exit_policy
        assert self.steps is not None
        return Exit(self.name, rule=LeaveAt(torch.from_numpy(self.steps[first : first + count])))


@dataclass(frozen=True)
class Point:
    """What a setting got on S sequences, and what it computed.

    Args:
        setting: which.
        right: [S] right answers of each sequence.
        flops: [S] executed FLOPs.
        steps: executed steps a token.
    """

    setting: ExitSetting
    right: Float[np.ndarray, " S"]
    flops: Float[np.ndarray, " S"]
    steps: float

    @property
    def name(self) -> str:
        """Of the setting."""
        return self.setting.name


@dataclass(frozen=True)
class Curve:
    """The points of one kind of exit, cheapest first.

    Args:
        name: of the kind.
        points: at least one.
        usable: whether it could be used in the learned rule's place; a control or a bound
            otherwise.
    """

    name: str
    points: tuple[Point, ...]
    usable: bool = True


def measure(setting: ExitSetting, examples: Examples) -> tuple[Point, Answers]:
    """Really runs it."""
    if setting.exit_policy is not None:
        answers = answer(setting.run, setting.exit_policy, examples)
    else:
        parts = []
        first = 0
        for batch in examples.batches:
            parts.append(
                answer(setting.run, setting.exit(first, len(batch.valid)), Examples((batch,)))
            )
            first += len(batch.valid)
        answers = _joined(parts)
    right = (
        ((answers.predictions == examples.targets) & examples.has_target).sum(1).astype(np.float64)
    )
    return Point(setting, right, answers.flops, answers.mean_steps), answers


def learned_curve(
    run: Run, examples: Examples, looked_at: Examples, number: int
) -> tuple[Curve, Point, list[Steps]]:
    """The trained rule under other thresholds, the point that was trained, and the steps of each
    point's tokens. Others that compute just as much as the trained point are left out: the line
    between would be a coin thrown for nothing."""
    trained, answers = measure(ExitSetting("learned", run, LEARNED), examples)
    points = [trained]
    steps = [answers.steps]
    try:
        settings = path(run, open_exit(run, "learned"), looked_at, number)
    except UsageError:  # nothing moves this rule's exit: the curve is one point
        settings = []
    for setting in settings:
        point, answers = measure(ExitSetting(setting.name, run, setting), examples)
        points.append(point)
        steps.append(answers.steps)
    apart = [
        abs(each.steps - trained.steps) > _SAME * trained.steps or each is trained
        for each in points
    ]
    order = [one for one in _by_compute(points) if apart[one]]
    return (
        Curve("learned", tuple(points[one] for one in order)),
        trained,
        [steps[one] for one in order],
    )


def exit_curve(
    run: Run, spec: str, examples: Examples, looked_at: Examples, number: int, near: float
) -> Curve:
    """An exit that was never trained, under several thresholds, some of which take about as many
    steps as `near`: there it is compared, and a line between distant neighbours would make it look
    worse than it is."""
    settings = path(run, open_exit(run, spec), looked_at, number, near)
    points = [measure(ExitSetting(setting.name, run, setting), examples)[0] for setting in settings]
    return Curve(spec, tuple(points[one] for one in _by_compute(points)))


def fixed_curve(run: Run, examples: Examples, number: int) -> Curve:
    """All tokens at one depth, on the same checkpoint."""
    limit = run.model.recurrence.max_steps
    depths = dict.fromkeys(np.linspace(1, limit, min(limit, number)).round().astype(int).tolist())
    settings = [
        ExitSetting(f"fixed:{depth}", run, Exit(f"fixed:{depth}", steps=depth)) for depth in depths
    ]
    return Curve("fixed depth", tuple(measure(setting, examples)[0] for setting in settings))


def scratch_curve(runs: Sequence[Run], examples: Examples) -> Curve:
    """Models that were trained at their own fixed depth."""
    points = [measure(ExitSetting(run.folder.name, run, LEARNED), examples)[0] for run in runs]
    return Curve("fixed, from scratch", tuple(points[one] for one in _by_compute(points)))


def random_curve(run: Run, examples: Examples, steps: Sequence[Steps], seed: int = 0) -> Curve:
    """The learned rule's own step counts, dealt to other tokens at random: equal compute, and
    nobody chose. Where a model's sequences leave as one, whole sequences change places."""
    generator = np.random.default_rng(seed)
    points = []
    for own in steps:
        if run.model.recurrence.rule.by_sequence:
            longest = own.max(1, keepdims=True)
            dealt = np.where(examples.valid, generator.permutation(longest), 0)
        else:
            dealt = np.zeros_like(own)
            dealt[examples.valid] = generator.permutation(own[examples.valid])
        points.append(measure(ExitSetting("random", run, None, dealt), examples)[0])
    return Curve("random", tuple(points[one] for one in _by_compute(points)), usable=False)


def oracle_curve(run: Run, examples: Examples) -> Curve:
    """The first step after which the answer is right and stays right, and at once where it never
    is, since thinking wins nothing there; what has no target runs as long as the slowest of its
    sequence.

    That is read off full depth, as if each token left alone, and is not run: tokens that leave
    early show their neighbours less, and really run, answers that were right there would be wrong.
    """
    limit = run.model.recurrence.max_steps
    rights = []
    steps = []
    flops = Flops(0, 0, 0)
    for batch in examples.batches:
        has_target = (batch.has_target & batch.valid).numpy()
        targets = batch.targets.numpy()
        with Exit("oracle", rule=LeaveAt(torch.full_like(batch.targets, limit))).applied_to(run):
            output = run.forward(batch, record_lens=True)
            flops = count_flops(run.model, examples.targets.shape[1], inference=True)
        packed = output.step_logits
        assert packed is not None
        rows, length = batch.targets.shape
        predictions = packed.unpack(packed.values.argmax(-1), rows, length, limit, -1).cpu().numpy()
        leaves = first_right(predictions, targets, has_target)
        if run.model.recurrence.rule.by_sequence:
            leaves = np.broadcast_to(leaves.max(1, keepdims=True), leaves.shape)
        steps.append(np.where(batch.valid.numpy(), leaves, 0))
        rights.append(((predictions[..., -1] == targets) & has_target).sum(1).astype(np.float64))
    all_steps = end_to_end(steps, 0).astype(np.float64)
    computed = flops.once * (all_steps > 0).sum(1) + flops.step * all_steps.sum(1)
    mean = float(all_steps.sum() / max(1, (all_steps > 0).sum()))
    return Curve(
        "oracle",
        (Point(ExitSetting("oracle", run, None), np.concatenate(rights), computed, mean),),
        usable=False,
    )


def first_right(
    said: Int[np.ndarray, "B L N"], targets: Int[np.ndarray, "B L"], asked: Bool[np.ndarray, "B L"]
) -> Steps:
    """[B L] the first step, from 1, from which on the answer is right up to the last; 1 where it
    never is; the most of its sequence where there is no target."""
    stays = np.cumprod((said == targets[..., None])[..., ::-1], axis=-1).sum(
        -1
    )  # right ones, counted from the last
    steps = np.where(stays > 0, said.shape[-1] - stays + 1, 1)
    slowest = np.where(asked, steps, 1).max(1, keepdims=True)
    return np.where(asked, steps, slowest)


def _by_compute(points: Sequence[Point]) -> list[int]:
    return sorted(range(len(points)), key=lambda one: points[one].flops.sum())


def _joined(parts: Sequence[Answers]) -> Answers:
    arrays = {
        name: end_to_end([getattr(part, name) for part in parts], 0)
        for name in ("predictions", "nats", "steps")
    }
    return Answers(**arrays, flops_once=parts[0].flops_once, flops_step=parts[0].flops_step)
