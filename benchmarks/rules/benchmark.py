"""`python -m benchmarks.rules`: every trainable rule, on a task on which thinking longer pays.

Each row is a whole training in a process of its own on one thread. Rows that are done are kept in
the results file and not run again, so a benchmark that is stopped goes on where it was.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_and_tell
from training.console.table import aligned, markdown
from training.runs.metrics import read_metrics

ACCURACY = 0.98
SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """One rule, and how it is trained.

    Args:
        name: of the row.
        flags: of `ponder train pointer_chase`, beside the seed.
        second: flags of a second stage, which starts from the weights of the first.
        over: what its steps are to follow the difficulty over, "tokens", "ponder" (tokens, by the
            depth that the rule means), "sequences", or "nothing" for a fixed depth.
    """

    name: str
    flags: tuple[str, ...]
    second: tuple[str, ...] | None = None
    over: Literal["tokens", "ponder", "sequences", "nothing"] = "tokens"

    @property
    def options(self) -> str:
        """Its last stage's flags beside the rule."""
        return " ".join((self.second or self.flags)[2:])

    def training(self, seed: int, quick: bool) -> Training:
        """One of its trainings."""
        stages = [self.flags] if self.second is None else [self.flags, self.second]
        return Training(
            self.name, seed, tuple(("pointer_chase", *flags) for flags in stages), quick
        )


def _rule(name: str, *flags: str) -> tuple[str, ...]:
    return ("--halting.kind", name, *flags)


_SIX = ("--loop.max-steps", "6")
_EXIT_GATE = _rule("ExitGate", *_SIX)

CASES = (
    Case("FixedSteps", _rule("FixedSteps", "--loop.max-steps", "4"), over="nothing"),
    Case("GravesACT", _rule("GravesACT")),
    Case(
        "UniversalTransformerACT",
        _rule("UniversalTransformerACT", "--halting.bias-init", "-1"),
        over="ponder",
    ),
    Case("PonderNet", _rule("PonderNet", "--penalty.value", "0.1")),
    Case("ExitGate", _EXIT_GATE),
    Case(
        "ExitGate, second stage",
        _EXIT_GATE,
        (
            *_rule("ExitGate", *_SIX, "--halting.q", "0.8"),
            *(
                "--train-only",
                "rule",
                "--cost.kind",
                "GateTarget",
                "--readout.kind",
                "DeepSupervision",
            ),
            *("--updates", "500"),
        ),
    ),
    Case("StickBreaking", _rule("StickBreaking", "--penalty.value", "0.0003")),
    Case("ExpertChoiceRouter", _rule("ExpertChoiceRouter", *_SIX, "--halting.alpha", "1")),
    Case(
        "TokenChoiceRouter",
        _rule(
            "TokenChoiceRouter",
            *_SIX,
            "--halting.warmup",
            "500",
            "--model.prelude-layers",
            "1",
            "--updates",
            "2000",
        ),
    ),
    Case("QHalt", _rule("QHalt", "--loop.max-steps", "5", "--updates", "3500"), over="sequences"),
    Case(
        "CorrectnessHalt",
        _rule("CorrectnessHalt", *_SIX, "--halting.threshold", "0.9"),
        over="sequences",
    ),
    Case(
        "EarlyExitClassifier",
        _rule(
            "EarlyExitClassifier", *_SIX, "--halting.min-steps", "3", "--halting.threshold", "0.99"
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a rule misses the target, 2 when a row
    could not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings a rule")
    parser.add_argument("--rules", nargs="+", default=None, help="only these")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument(
        "--quick", action="store_true", help="60 updates and one seed: does it run at all?"
    )
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    known = {case.name for case in CASES}
    if unknown := set(options.rules or ()) - known:
        parser.error(
            f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    cases = [case for case in CASES if options.rules is None or case.name in options.rules]
    trainings = [
        case.training(seed, options.quick) for seed in range(_seeds(options)) for case in cases
    ]
    rows = run_and_tell(trainings, Kept("rules", options.quick), options.workers, measure)
    head, lines = table(cases, rows)
    told = [
        (line[0], f"`{case.options}`" if case.options else "–", *line[1:])
        for case, line in zip(cases, lines, strict=True)
    ]
    print("\n" + aligned(head, lines) + "\n\n" + markdown((head[0], "flags", *head[1:]), told))
    if any("failed" in row for row in rows):
        return 2
    figures = against_targets(cases, rows)
    if options.json is not None:
        write(figures, options.json)
    return 0 if options.quick else exit_code(figures)


def _seeds(options: argparse.Namespace) -> int:
    return 1 if options.quick else options.seeds


def measure(homes: list[Path]) -> Row:
    """What the run folders of a training's stages say: figures of the last, seconds of all."""
    summaries = [json.loads((home / "summary.json").read_text(encoding="utf-8")) for home in homes]
    last = summaries[-1]
    executed = [line["mean_steps"] for line in read_metrics(homes[-1], "train")]
    return {
        "task": last["recipe"],
        "accuracy": last["accuracy"],
        "ponder": last["mean_ponder"],
        "executed_training": statistics.fmean(executed[-max(1, len(executed) // 4) :]),
        "executed_evaluation": last["mean_steps"],
        "tokens": last.get("spearman_steps_difficulty"),
        "ponder_of_tokens": last.get("spearman_ponder_difficulty"),
        "sequences": last.get("spearman_sequences"),
        "seconds": sum(summary["train_seconds"] for summary in summaries),
    }


def correlation(case: Case, row: Row) -> float | None:
    """How far its steps follow the difficulty, over what the case says."""
    return (
        row[{"ponder": "ponder_of_tokens"}.get(case.over, case.over)]
        if case.over != "nothing"
        else None
    )


def against_targets(cases: Sequence[Case], rows: Sequence[Row]) -> list[Figure]:
    """The worst of each rule's seeds."""
    figures = []
    for case in cases:
        mine = [row for row in rows if row["name"] == case.name]
        accuracy = min(row["accuracy"] for row in mine)
        seconds = max(row["seconds"] for row in mine)
        figures.append(
            Figure(f"{case.name}: accuracy", accuracy, f"≥ {ACCURACY}", accuracy >= ACCURACY)
        )
        figures.append(
            Figure(
                f"{case.name}: seconds of training", seconds, f"≤ {SECONDS:g}", seconds <= SECONDS
            )
        )
        if case.over != "nothing":
            worst = min((correlation(case, row) or 0.0 for row in mine), default=0.0)
            figures.append(
                Figure(f"{case.name}: rank correlation over {case.over}", worst, "> 0", worst > 0)
            )
    return figures


def table(
    cases: Sequence[Case], rows: Sequence[Row]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows: a row a rule, over its seeds as the least and the most."""
    head = (
        "rule",
        "accuracy",
        "ponder",
        "executed: training",
        "evaluation",
        "Spearman",
        "over",
        "seconds",
        "seeds",
    )
    lines = []
    for case in cases:
        mine = [row for row in rows if row["name"] == case.name and "failed" not in row]
        columns: list[tuple[list[Any], str]] = [
            ([row["accuracy"] for row in mine], ".4f"),
            ([row["ponder"] for row in mine], ".2f"),
            ([row["executed_training"] for row in mine], ".2f"),
            ([row["executed_evaluation"] for row in mine], ".2f"),
            ([correlation(case, row) for row in mine], ".2f"),
        ]
        shown = [ranged(values, form) for values, form in columns]
        over = "–" if case.over == "nothing" else case.over
        lines.append(
            (
                case.name,
                *shown,
                over,
                ranged([row["seconds"] for row in mine], ".0f"),
                str(len(mine)),
            )
        )
    return head, lines


def ranged(values: Sequence[float | None], form: str) -> str:
    """The least and the most, or the one value."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "–"
    least = format(known[0], form)
    most = format(known[-1], form)
    return least if least == most else f"{least} … {most}"
