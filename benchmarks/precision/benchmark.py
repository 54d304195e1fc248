"""`python -m benchmarks.precision`: what computing in 16 bits does to halting, on trained models.

Each model is trained in float32, and then evaluated against float64 in every precision, on examples
that are new to it. Told are: the share of tokens that take another number of steps end to end,
because their states differ; how many would in float64 from the very same states (none, law 5); how
many would had the halting unit been computed in 16 bits; and how far gradients are off. Trainings
that are done are not run again.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from act.models.looped_model import LoopedModel
from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_and_tell
from benchmarks.precision.halting_replay import Watched, moved
from training.config.precision import ARITHMETIC, Precision
from training.config.run_config import RunConfig
from training.console.table import aligned, markdown
from training.engine import LocalEngine
from training.objectives import CrossEntropy
from training.runs.loaded import Run, load_run
from training.tasks.task import IGNORE, Batch

UPDATES = 800
EXAMPLES = 1024
AT_ONCE = 128
CASES = {
    "GravesACT": (),
    "PonderNet": ("--halting.kind", "PonderNet", "--penalty.value", "0.1"),
}
"""Rules, and the flags of `ponder train pointer_chase` that train them."""
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16_weights", "fp16")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a target is missed, 2 when a training could
    not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="trainings at once")
    parser.add_argument("--quick", action="store_true", help="60 updates: does it run?")
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    trainings = [
        Training(name, 0, (("pointer_chase", *flags, "--updates", str(UPDATES)),), options.quick)
        for name, flags in CASES.items()
    ]
    rows = run_and_tell(trainings, Kept("precision", options.quick), options.workers, measure)
    if any("failed" in row for row in rows):
        return 2
    rows.sort(key=lambda row: list(CASES).index(row["name"]))
    head, lines = table(rows)
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    figures = against_targets(rows)
    if options.json is not None:
        write(figures, options.json)
    return exit_code(figures)


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


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """Law 5 has targets; what moves end to end is told."""
    figures = []
    for row in rows:
        for precision, found in row["precisions"].items():
            name = f"{row['name']} in {precision}"
            for figure, key in (
                (
                    "tokens that float64 would let leave elsewhere, given their states",
                    "moved_given_states",
                ),
                ("operations inside the rule narrower than float32", "narrow_operations"),
            ):
                figures.append(Figure(f"{name}: {figure}", found[key], "= 0", found[key] == 0))
            for figure, key in (
                ("share of tokens whose steps move end to end", "moved"),
                ("share that a narrow halting unit would move", "moved_by_narrow_gate"),
            ):
                figures.append(Figure(f"{name}: {figure}", found[key], "reported", True))
    return figures


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and lines: one a rule and precision."""
    head = (
        "rule",
        "precision",
        "steps move, end to end",
        "given the states",
        "by a narrow gate",
        "answers move",
        "accuracy",
        "mean steps",
        "gate's gradient off",
        "others' off",
    )
    lines = []
    for row in rows:
        for precision, found in row["precisions"].items():
            lines.append(
                (
                    row["name"],
                    precision,
                    f"{found['moved']:.3%}",
                    str(found["moved_given_states"]),
                    "–" if precision == "float32" else f"{found['moved_by_narrow_gate']:.3%}",
                    f"{found['answers']:.3%}",
                    f"{found['accuracy']:.4f}",
                    f"{found['mean_steps']:.3f}",
                    f"{found['gate_gradient_off']:.1e}",
                    f"{found['other_gradient_off']:.1e}",
                )
            )
    return head, lines
