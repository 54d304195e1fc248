"""Warnings in plain words, each with the flag that mends."""

from dataclasses import dataclass

from training.evaluation.tally import Tally, rank_correlation_of_steps
from training.loop.gate_gradient import GateGradient
from training.loop.remedies import Remedies

MIN_TOKENS = 64
_ALMOST_ALL = 0.99
_RANKS_APART = 3.0
_NO_ENTROPY = 0.02  # nats a token; halving the mass between two steps has 0.69
_LITTLE_ENTROPY = 0.1  # the gate has a gradient still, but hardly one
_GONE = 1e-6  # of the whole gradient; a gate whose logits lie beyond ±15 has less
_DOMINATES = 0.5
_UNLEARNED = 0.2
_UNRELATED = 0.05
_SHALLOW = 1.5  # mean steps
_USUAL = Remedies()


@dataclass(frozen=True)
class Alarm:
    """What seems wrong.

    Args:
        says: what, and the flag that mends it.
        collapse: halting has collapsed: what is learned from here on is of one depth, so that a run
            may be stopped, or taken back (`--on-collapse`).
    """

    says: str
    collapse: bool = False


@dataclass(frozen=True)
class Signs:
    """What alarms look at; the same on all ranks.

    Args:
        tally: of an evaluation.
        adaptive: the rule decides (it is not a fixed depth).
        gate: gradients at the gate; None when there is nothing to check.
        steps_of_ranks: mean executed steps of each rank's training tokens.
        spreads_mass: the rule spreads its mass over steps.
        penalty_share: how much of the loss since the last evaluation was penalty · cost, for a cost
            that presses to stop early; None for others.
        task_share: the task's loss since the last evaluation, as a share of its loss at the first
            update; None where it is not known.
        settled: the penalty's warm-up is over and half of the run is done.
        remedies: the flags that move depth in this run.
        learned: the rule has weights, so that what went wrong with it can be learned otherwise.
    """

    tally: Tally
    adaptive: bool
    gate: GateGradient | None = None
    steps_of_ranks: tuple[float, ...] = (0.0,)
    spreads_mass: bool = False
    penalty_share: float | None = None
    task_share: float | None = None
    settled: bool = False
    remedies: Remedies = _USUAL
    learned: bool = True


def single_step(tally: Tally) -> int | None:
    """The step before the limit at which almost all tokens leave; None where they leave at several,
    or at the limit."""
    share = tally.steps / tally.steps.sum().clamp(min=1)
    step = int(share.argmax())
    return step if 0 < step < tally.max_steps and float(share[step]) >= _ALMOST_ALL else None


def alarms(signs: Signs) -> list[Alarm]:
    """What seems wrong after an evaluation."""
    tally = signs.tally
    tells = signs.adaptive and tally.max_steps > 1 and float(tally.steps.sum()) >= MIN_TOKENS
    depth = _depth(signs) if tells else []
    found = [*depth, *_gate(signs)]
    if tells and not depth:
        found += [*_entropy(signs), *_relation(signs)]
    return [*found, *_penalty(signs), *_ranks(signs)]


def _depth(signs: Signs) -> list[Alarm]:
    """All tokens at one step."""
    tally = signs.tally
    figures = signs.tally.figures()
    step = single_step(tally)
    if step == 1:
        says = (
            f"halting collapsed: {figures['share_at_step_1']:.0%} of tokens stop at step 1; try "
            f"{signs.remedies.deeper}"
        )
        return [Alarm(says, collapse=signs.learned)]
    if step is not None and signs.settled:
        told = (
            f"{float(tally.steps[step] / tally.steps.sum()):.0%} of tokens stop at step {step}, "
            "whatever they are"
        )
        if signs.spreads_mass and figures["mass_entropy"] < _LITTLE_ENTROPY:
            says = f"halting collapsed to one depth: {told}; try {signs.remedies.deeper}"
            return [Alarm(says, collapse=True)]
        learns = (
            ", though the gate still learns; try more --updates, or" if signs.learned else "; try"
        )
        return [Alarm(f"{told}{learns} {signs.remedies.deeper}")]
    if figures["share_at_max"] >= _ALMOST_ALL and signs.settled:  # many a healthy run begins there
        says = (
            f"nothing halts before max_steps: {figures['share_at_max']:.0%} of tokens take all "
            f"{tally.max_steps} steps; try {signs.remedies.shallower}"
        )
        return [Alarm(says)]
    return []


def _gate(signs: Signs) -> list[Alarm]:
    gate = signs.gate
    if gate is None:
        return []
    if gate.share is not None and gate.share < _GONE:
        stuck = signs.tally.figures()["share_at_max"] >= _ALMOST_ALL
        mends = signs.remedies.shallower if stuck else signs.remedies.deeper
        says = (
            f"the gate's gradient is gone ({gate.share:.0e} of the whole): nothing that is learned "
            f"changes when tokens stop; start again with {mends}"
        )
        return [Alarm(says, collapse=True)]
    if gate.cost is not None and not gate.cost > 0:
        says = (
            "the penalty's gradient is zero: the ponder cost does not reach the gate, so the "
            f"penalty trains nothing; try {signs.remedies.deeper}, so that tokens take more than "
            "one step"
        )
        return [Alarm(says)]
    return []


def _entropy(signs: Signs) -> list[Alarm]:
    figures = signs.tally.figures()
    entropy = figures["mass_entropy"]
    if not signs.spreads_mass or entropy >= _NO_ENTROPY:
        return []
    shallow = figures["mean_steps"] < _SHALLOW
    nearer = ", or --halting.bias-init nearer to 0" if signs.remedies.bias is not None else ""
    mends = (
        f"{signs.remedies.deeper}, before all stop at step 1"
        if shallow
        else f"a lower --optimizer.learning-rate{nearer}"
    )
    says = (
        f"the exit mass has no entropy left ({entropy:.3f} nats a token): each token spends all of "
        f"it on one step, so no other depth is weighed; try {mends}"
    )
    return [Alarm(says)]


def _relation(signs: Signs) -> list[Alarm]:
    over, rho = rank_correlation_of_steps(signs.tally.figures())
    if rho is None or not signs.settled or rho >= _UNRELATED:
        return []
    told = "run against the difficulty" if rho <= -_UNRELATED else "do not follow the difficulty"
    says = (
        f"steps {told} (Spearman {rho:.2f} over {over}): thinking longer is not spent where it is "
        "harder; compare with --halting.kind FixedSteps at as many steps, or try "
        f"{signs.remedies.others}"
    )
    return [Alarm(says)]


def _penalty(signs: Signs) -> list[Alarm]:
    share = signs.penalty_share
    task = signs.task_share
    if share is None or task is None or share < _DOMINATES or task < _UNLEARNED:
        return []
    says = (
        f"the penalty dominates the loss: thinking makes up {share:.0%} of it while the task is "
        f"unlearned ({task:.0%} of its loss at the start); try {signs.remedies.lighter}"
    )
    return [Alarm(says)]


def _ranks(signs: Signs) -> list[Alarm]:
    lowest = min(signs.steps_of_ranks)
    highest = max(signs.steps_of_ranks)
    if lowest <= 0 or highest / lowest < _RANKS_APART:
        return []
    says = (
        f"mean steps differ {highest / lowest:.1f}× between ranks ({lowest:.2f} to {highest:.2f}): "
        "the others wait for the slowest; try --balance-by ponder, or lower --loop.max-steps"
    )
    return [Alarm(says)]
