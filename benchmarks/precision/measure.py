"""A trained run evaluated in every precision, against float64."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from act.models.looped_model import LoopedModel
from benchmarks.harness.rows import Row
from benchmarks.precision.halting_replay import Watched, moved
from training.config.precision import ARITHMETIC, Precision
from training.config.run_config import RunConfig
from training.engine import LocalEngine
from training.objectives import CrossEntropy
from training.runs.loaded import Run, load_run
from training.tasks.task import IGNORE, Batch

EXAMPLES = 1024
AT_ONCE = 128
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16_weights", "fp16")


def measure(homes: list[Path]) -> Row:
    """The figures of a trained run in every precision."""
    torch.set_num_threads(1)
    run = load_run(homes[-1])
    batches = [run.task.batch("test", start, AT_ONCE) for start in range(0, EXAMPLES, AT_ONCE)]
    reference = Evaluated(run, batches, torch.float64)
    exact = gradients(run, batches[0], torch.float64)
    found = {}
    for precision in PRECISIONS:
        weights = ARITHMETIC[precision].weights
        mine = Evaluated(run, batches, weights, precision)
        ours = gradients(run, batches[0], weights, precision)
        found[precision] = {
            "moved": share(mine.steps != reference.steps, reference.valid),
            "answers": share(mine.answers != reference.answers, reference.valid),
            "accuracy": share(mine.answers == reference.targets, reference.targets != IGNORE),
            "mean_steps": float(mine.steps[reference.valid].double().mean()),
            "moved_given_states": mine.given_states,
            "moved_by_narrow_gate": mine.narrow_gate / int(reference.valid.sum()),
            "narrow_operations": mine.narrow_operations,
            **{f"{name}_gradient_off": off(ours[name], exact[name]) for name in exact},
        }
    return {
        "tokens": int(reference.valid.sum()),
        "mean_steps": float(reference.steps[reference.valid].double().mean()),
    } | {"precisions": found}


class Evaluated:
    """What a model does with some batches in a precision.

    Args:
        run: the trained run.
        batches: what it has not seen.
        weights: what its weights are cast to.
        precision: what it computes in; None for what the weights are.

    Attributes:
        steps, answers, targets, valid: [B L], of all batches.
        given_states: tokens that float64 would let leave elsewhere, from the states that they had.
        narrow_gate: tokens that would leave elsewhere, had the halting unit been computed in 16
            bits.
        narrow_operations: what the rule computed in less than float32.
    """

    def __init__(
        self,
        run: Run,
        batches: Sequence[Batch],
        weights: torch.dtype,
        precision: Precision | None = None,
    ):
        model = copy.deepcopy(run.model).to(weights).eval()
        watched = Watched(model.recurrence.rule)
        model.recurrence.use(watched, model.recurrence.readout)
        engine = engine_of(run.config, model, precision)
        narrow = {"fp16": torch.float16}.get(precision or "", torch.bfloat16)
        steps = []
        answers = []
        self.given_states = self.narrow_gate = 0
        for batch in batches:
            with torch.no_grad():
                output = engine.forward(batch)
            steps.append(output.trace.steps)
            answers.append(output.logits.argmax(-1))
            if precision is not None:
                self.given_states += moved(watched)[0]
            if precision not in (None, "float32"):
                self.narrow_gate += moved(watched, torch.float32, gate=narrow)[0]
        self.steps = torch.cat(steps)
        self.answers = torch.cat(answers)
        self.targets = torch.cat([batch.targets for batch in batches])
        self.valid = torch.cat([batch.valid for batch in batches])
        self.narrow_operations = sum(watched.narrow.values())


def engine_of(config: RunConfig, model: LoopedModel, precision: Precision | None) -> LocalEngine:
    """The engine of plain PyTorch; weights that are narrow already are computed with as they
    are."""
    autocast = precision is not None and ARITHMETIC[precision].autocast is not None
    return LocalEngine(
        model,
        config.optimizer,
        torch.device("cpu"),
        precision if autocast and precision else "float32",
    )


def gradients(
    run: Run, batch: Batch, weights: torch.dtype, precision: Precision | None = None
) -> dict[str, Tensor]:
    """The gradients of a training batch, flat: of the halting unit, and of all else."""
    model = copy.deepcopy(run.model).to(weights).train()
    engine = engine_of(run.config, model, precision)
    terms = CrossEntropy()(engine.forward(batch), batch, None)
    engine.backward(terms.task / batch.has_target.sum())
    parts: dict[str, list[Tensor]] = {"gate": [], "other": []}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        part = "gate" if ".rule." in name else "other"
        parts[part].append(parameter.grad.double().flatten() / engine.scale)
    return {part: torch.cat(each) for part, each in parts.items()}


def share(which: Tensor, among: Tensor) -> float:
    """The share of places that are marked, of those that count."""
    return float((which & among).sum() / among.sum())


def off(ours: Tensor, exact: Tensor) -> float:
    """The norm of the difference, relative to that of the exact one."""
    return float((ours - exact).norm() / exact.norm())
