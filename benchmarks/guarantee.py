"""`python -m benchmarks.guarantee`: does `ponder calibrate` keep what it promises, and what is left of the saving?

A small model is trained once. Many calibrations of it, each on fresh sequences, choose thresholds; the risk of a
threshold is taken on one large test set. Each threshold is really run, and is a row that is kept as it ends, so a
benchmark that is stopped goes on where it was. Beside that the procedure is checked where the answer is known exactly.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hardware import hardware
from benchmarks.targets import Figure, exit_code, write
from benchmarks.trainings import RESULTS, ROOT
from training.answers import Examples, answer
from training.calibrate import FIRST
from training.exit_path import chains, open_exit
from training.exits import Exit
from training.guarantee import fingerprint
from training.learn_then_test import fixed_sequence, hoeffding_bentkus, last_that_holds, most_losses
from training.quality_loss import quality_loss
from training.run import Run, load_run
from training.table import aligned

TRAINING = (
    *("pointer_chase", "--halting.rule", "ExitGate", "--loop.max-steps", "6", "--data.length", "8"),
    *("--updates", "700", "--seed", "0"),
)
EXITS = ("learned", "convergence:kl", "confidence")
KEPT = 0.7
_RUN = "guarantee-benchmark"
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        risk, confidence: that are promised.
        draws: calibrations.
        sequences: of each.
        test: sequences on which the risk of a threshold is taken.
        settings: thresholds that are tried of each exit, at most.
    """

    risk: float = 0.05
    confidence: float = 0.95
    draws: int = 200
    sequences: int = 300
    test: int = 20_000
    settings: int = 8

    @property
    def level(self) -> float:
        """δ: the share of calibrations that may break the risk."""
        return round(1 - self.confidence, 12)


QUICK = Plan(draws=20, test=2000)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing and prints the table; 1 when a target is missed, 2 when the model cannot be trained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guarantee", description=__doc__)
    parser.add_argument("--exits", nargs="+", default=EXITS, help="only these")
    parser.add_argument("--draws", type=int, default=Plan.draws, help="calibrations")
    parser.add_argument("--quick", action="store_true", help="a short training, 20 draws: does it run at all?")
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else Plan(draws=options.draws)
    figures = in_closed_form(1000 if options.quick else 5000)
    folder = trained(options.quick)
    if folder is None:
        return 2
    run = load_run(folder)
    kept = RESULTS / ("guarantee-quick.jsonl" if options.quick else "guarantee.jsonl")
    for spec in options.exits:
        rows = Calibrations(run, plan, kept).of(spec)
        figures += against_targets(spec, rows, plan)
    print("\n" + table(figures))
    if options.json is not None:
        write(figures, options.json)
    return 0 if options.quick else exit_code(figures)


def trained(quick: bool) -> Path | None:
    """The run folder of the model, which is trained if it is not there."""
    name = f"{_RUN}-quick" if quick else _RUN
    folder = ROOT / "runs" / name
    if (folder / "summary.json").is_file():
        return folder
    short = ("--updates", "150") if quick else ()
    command = [
        sys.executable,
        "-m",
        "training.train",
        *TRAINING,
        *short,
        "--output",
        str(folder.parent),
        "--name",
        name,
    ]
    print("training:", "ponder train", *TRAINING, *short, flush=True)
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        print(f"it could not be trained: {ended.stderr[-500:]}", file=sys.stderr)
        return None
    return folder


class Calibrations:
    """All calibrations of a run at once: each threshold is run on the sequences of all of them together.

    Args:
        run: the model.
        plan: what is measured.
        kept: the file of rows.
    """

    def __init__(self, run: Run, plan: Plan, kept: Path):
        self.run, self.plan, self.kept = run, plan, kept
        self.limit = run.model.recurrence.max_steps
        self.weights = fingerprint(run.weights)[:16]
        self.test: _Measured | None = None
        self.calibration: _Measured | None = None

    def of(self, spec: str) -> list[list[Row]]:
        """For each order of tests a row a threshold, from its first on as far as any calibration, or the best choice,
        goes."""
        looked_at = Examples.of(self.run.task, "train", 0, 128, 128)
        orders = chains(self.run, open_exit(self.run, spec), looked_at, self.plan.settings)
        level = self.plan.level / len(orders)
        found = []
        for order in orders:
            alive = naive = np.ones(self.plan.draws, dtype=bool)
            safe, rows = True, []
            for setting in order:
                if not (alive.any() or naive.any() or safe):
                    break
                row = self._row(spec, setting)
                rows.append(row)
                losses = np.array(row["losses"])
                alive = alive & (p_values(losses, self.plan) <= level)
                naive = naive & (losses <= self.plan.risk)
                safe = safe and row["risk"] <= self.plan.risk
                print(
                    f"{spec:16} {setting.name:36} risk {row['risk']:.5f}  of full {row['cost']:.3f}  "
                    f"holds in {alive.sum():4d} of {self.plan.draws}",
                    flush=True,
                )
            found.append(rows)
        return found

    def _row(self, spec: str, setting: Exit) -> Row:
        about = {
            "exit": spec,
            "setting": setting.name,
            "weights": self.weights,
            "sequences": self.plan.sequences,
            "test": self.plan.test,
        }
        lines = self.kept.read_text(encoding="utf-8").splitlines() if self.kept.exists() else []
        for row in map(json.loads, reversed(lines)):
            same = all(row[name] == value for name, value in about.items())
            if same and len(row["losses"]) >= self.plan.draws:
                return {**row, "losses": row["losses"][: self.plan.draws]}
        if self.test is None or self.calibration is None:
            count = self.plan.draws * self.plan.sequences
            self.test = _Measured(self.run, Examples.of(self.run.task, "test", 0, self.plan.test, 1000), self.limit)
            drawn = Examples.of(self.run.task, "validation", FIRST, count, 1000)
            self.calibration = _Measured(self.run, drawn, self.limit)
        risks, cost = self.test.against_full_depth(setting)
        losses, _ = self.calibration.against_full_depth(setting)
        means = losses.reshape(self.plan.draws, self.plan.sequences).mean(1)
        row = {**about, "risk": float(risks.mean()), "cost": cost, "losses": means.tolist(), **hardware()}
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        with self.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row


class _Measured:
    """Sequences, and what the model says of them at full depth."""

    def __init__(self, run: Run, examples: Examples, limit: int):
        self.run, self.examples = run, examples
        self.full = answer(run, Exit(f"fixed:{limit}", steps=limit), examples)
        self.targets, self.asked = examples.targets, examples.asked

    def against_full_depth(self, setting: Exit) -> tuple[np.ndarray, float]:
        """What each sequence loses, and the executed FLOPs as a share of those of full depth."""
        early = answer(self.run, setting, self.examples)
        losses = quality_loss("lost", early, self.full, self.targets, self.asked)
        return losses, early.flops_per_token / self.full.flops_per_token


def against_targets(spec: str, orders: Sequence[Sequence[Row]], plan: Plan) -> list[Figure]:
    """How many calibrations break the risk, and what share of the best saving they keep on average."""
    level = plan.level / len(orders)
    tested = [np.array([p_values(np.array(row["losses"]), plan) for row in rows]) <= level for rows in orders]
    guessed = [np.array([row["losses"] for row in rows]) <= plan.risk for rows in orders]
    known = [np.array([[row["risk"] <= plan.risk] for row in rows]) for rows in orders]
    risk, saving = taken(orders, tested)
    best = float(taken(orders, known)[1][0])
    broken, kept = float((risk > plan.risk).mean()), float(saving.mean() / best) if best > 0 else math.nan
    allowed = most_breaks(plan.draws, plan.level)
    return [
        Figure(
            f"{spec}: share of {plan.draws} calibrations that break the risk {plan.risk:g}",
            broken,
            f"≤ {allowed:.4f} ({plan.level:g} and sampling error)",
            broken <= allowed,
        ),
        Figure(f"{spec}: share of the best threshold's saving that is kept", kept, f"≥ {KEPT}", kept >= KEPT),
        Figure(f"{spec}: saving of the best threshold, share of FLOPs", best, "> 0", best > 0),
        Figure(
            f"{spec}: share that breaks it where the mean loss alone decides",
            float((taken(orders, guessed)[0] > plan.risk).mean()),
            "not promised",
            True,
        ),
    ]


def p_values(losses: np.ndarray, plan: Plan) -> np.ndarray:
    """Of the mean losses of each calibration."""
    return np.array([hoeffding_bentkus(loss, plan.sequences, plan.risk) for loss in losses])


def taken(orders: Sequence[Sequence[Row]], holds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """[draws] risk and saving of what each calibration takes, the cheapest that any order comes to; 0 at full depth."""
    risk, saving = np.zeros(holds[0].shape[1]), np.zeros(holds[0].shape[1])
    for rows, held in zip(orders, holds, strict=True):
        last = chosen(held)
        risks, savings = np.array([row["risk"] for row in rows]), np.array([1 - row["cost"] for row in rows])
        better = (last >= 0) & (savings[last] > saving)
        risk, saving = np.where(better, risks[last], risk), np.where(better, savings[last], saving)
    return risk, saving


def chosen(holds: np.ndarray) -> np.ndarray:
    """[draws] the last setting before the first that does not hold; −1 for none.

    Args:
        holds: [settings, draws].
    """
    return np.cumprod(holds, axis=0).sum(0) - 1


def most_breaks(draws: int, level: float) -> float:
    """The share of draws that a chance of `level` each exceeds in one of a thousand benchmarks."""
    from scipy import stats

    return float(stats.binom.ppf(0.999, draws, level)) / draws


def in_closed_form(draws: int) -> list[Figure]:
    """The procedure on settings whose losses are 0 or 1 and independent, where all chances are binomial sums."""
    from scipy import stats

    risks, count, allowed, level = (0.001, 0.008, 0.02, 0.03), 1000, 0.02, 0.05
    most = most_losses(count, allowed, level)
    holds = stats.binom.cdf(most, count, risks)
    reached = np.cumprod(holds)
    breaks = float(reached[2])  # the first setting at the limit of what is allowed holds, and all before it
    generator = np.random.default_rng(0)
    taken = np.zeros(len(risks) + 1)
    for _ in range(draws):
        tested = fixed_sequence(
            range(len(risks)), lambda one: (generator.random(count) < risks[one]).astype(float), allowed, level
        )
        last = last_that_holds(tested)
        taken[len(risks) if last is None else last.setting] += 1
    exact = np.array([*(reached * (1 - np.append(holds[1:], 0.0))), 1 - holds[0]])
    off = np.abs(taken / draws - exact) / np.sqrt(np.maximum(exact * (1 - exact), 1 / draws) / draws)
    return [
        Figure("closed form: exact chance to break the risk", breaks, f"≤ {level}", breaks <= level),
        Figure(
            f"closed form: largest deviation over {draws:,} draws, standard errors",
            float(off.max()),
            "≤ 4",
            bool(off.max() <= 4),
        ),
    ]


def table(figures: Sequence[Figure]) -> str:
    """A row a figure."""
    rows = [
        (each.figure, "–" if each.value is None else f"{each.value:.4f}", each.target, "" if each.met else "MISSED")
        for each in figures
    ]
    return aligned(("figure", "value", "target", ""), rows)


if __name__ == "__main__":
    sys.exit(main())
