"""What a run's halting saves against its step limit for all, measured on one batch."""

from functools import partial

import torch

from act.accounting.executed_flops import computed_flops
from training.console.amounts import counted, in_ms, short_number
from training.exits.exit import LEARNED, Exit
from training.resources.break_even import MODES
from training.resources.compute_saved import ComputeSaved, MeasuredCost
from training.resources.workload import TimedCase, Workload, race, unchanged
from training.runs.loaded import Run
from training.tasks.task import Batch

_REPEATS = 3


def measure_saved(run: Run, batch: Batch, repeats: int = _REPEATS) -> ComputeSaved:
    """FLOPs that the path computes and wall-clock seconds, in inference and in training, of the
    run's own halting and of all tokens at its step limit; the run's model is as it was afterwards.

    Args:
        run: a trained run.
        batch: of its task.
        repeats: of which medians are taken.
    """
    depth = run.model.recurrence.max_steps
    exits = (LEARNED, Exit(f"fixed:{depth}", depth))
    costs = []
    with unchanged(run.model):
        work = Workload(run, batch)
        modes = {
            name: training
            for name, training in MODES.items()
            if not training or bool(batch.has_target.any())
        }
        for name, training in modes.items():
            cases = [TimedCase(training, exit_policy) for exit_policy in exits]
            flops = [
                computed_flops(run.model, work.trace(case), work.packs(case), training)
                for case in cases
            ]
            seconds = race([partial(work.seconds, case) for case in cases], repeats)
            of_tokens = [each / work.tokens for each in flops]
            text = f"{short_number(of_tokens[0])} of {short_number(of_tokens[1])} a token"
            costs.append(MeasuredCost(f"FLOPs, {name}", of_tokens[0], of_tokens[1], text))
            text = f"{in_ms(seconds[0])} of {in_ms(seconds[1])} ms"
            costs.append(MeasuredCost(f"time, {name}", seconds[0], seconds[1], text))
    threads = torch.get_num_threads()
    how = f"batch of {len(batch.valid):,}, {run.device.type}, {counted(threads, 'thread')}"
    return ComputeSaved(depth, tuple(costs), how)
