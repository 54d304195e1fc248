"""What alarms look at after an evaluation, put together."""

from halting.costs.cost import PonderCost
from halting.rule import HaltingRule
from training.config.run_config import RunConfig
from training.evaluation.tally import Tally
from training.loop.alarms import Signs
from training.loop.gate_gradient import GateGradient
from training.loop.remedies import remedies
from training.loop.update import MetricsSinceEvaluation
from training.runs.rank_report import RankReport


def signs_of(
    config: RunConfig,
    cost: PonderCost | None,
    rule: HaltingRule,
    tally: Tally,
    ranks: RankReport,
    since: MetricsSinceEvaluation,
    *,
    gate: GateGradient | None,
    first_loss: float | None,
    settled: bool,
) -> Signs:
    """The signs, the same on all ranks.

    Args:
        config: the run.
        cost: its ponder cost.
        rule: its halting rule.
        tally: of the evaluation.
        ranks: what each rank did since the last one.
        since: what happened since.
        gate: gradients at the gate, over the ranks.
        first_loss: the task's loss at the first update; None where it is not known.
        settled: the penalty's warm-up is over and half of the run is done.
    """
    task = since.task_loss / max(1, since.taken)
    learned = any(True for _ in rule.parameters())
    return Signs(
        tally,
        adaptive=learned or rule.fixed_depth(tally.max_steps) is None,
        gate=gate,
        steps_of_ranks=tuple(ranks.mean_steps),
        spreads_mass=rule.spreads_mass,
        penalty_share=since.penalty_share if cost is not None and cost.warms_up else None,
        task_share=task / first_loss if first_loss and since.taken else None,
        settled=settled,
        remedies=remedies(config, cost),
        learned=learned,
    )
