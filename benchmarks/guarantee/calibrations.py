"""Many calibrations of a model at once, a row a threshold."""

from collections.abc import Sequence

import numpy as np

from benchmarks.guarantee.figures import Plan, p_values
from benchmarks.harness.rows import Row, Rows
from training.exits.answers import Examples, answer
from training.exits.calibration import FIRST
from training.exits.exit import Exit
from training.exits.guarantee import fingerprint
from training.exits.quality_loss import quality_loss
from training.runs.loaded import Run

BATCH = 4000


class Measured:
    """Sequences, and what the model says of them at full depth."""

    def __init__(self, run: Run, examples: Examples):
        self.run = run
        self.examples = examples
        limit = run.model.recurrence.max_steps
        self.full = answer(run, Exit(f"fixed:{limit}", steps=limit), examples)
        self.targets = examples.targets
        self.asked = examples.has_target

    def against_full_depth(self, setting: Exit) -> tuple[np.ndarray, float]:
        """What each sequence loses, and the executed FLOPs as a share of those of full depth."""
        early = answer(self.run, setting, self.examples)
        losses = quality_loss("lost", early, self.full, self.targets, self.asked)
        return losses, early.flops_per_token / self.full.flops_per_token


class Calibrations:
    """All calibrations of a run at once: each threshold is run on the sequences of all of them
    together.

    Args:
        run: the model.
        plan: what is measured.
        kept: rows.
    """

    def __init__(self, run: Run, plan: Plan, kept: Rows):
        self.run = run
        self.plan = plan
        self.kept = kept
        self.weights = fingerprint(run.weights)[:16]
        self.test: Measured | None = None
        self.calibration: Measured | None = None

    def of(self, spec: str, orders: Sequence[Sequence[Exit]]) -> list[list[Row]]:
        """For each order of tests a row a threshold, from its first on as far as any calibration,
        the best choice, or a careless one goes."""
        level = self.plan.level / len(orders)
        found = []
        for order in orders:
            alive = np.ones(self.plan.draws, dtype=bool)
            safe = True
            rows = []
            for setting in order:
                row = self._row(spec, setting)
                rows.append(row)
                losses = np.array(row["losses"])
                alive = alive & (p_values(losses, self.plan) <= level)
                safe = safe and row["risk"] <= self.plan.risk
                print(
                    f"{spec:16} {setting.name:40} risk {row['risk']:.5f} ± {row['error']:.5f}  of "
                    f"full {row['cost']:.3f}  holds in {alive.sum():4d} of {self.plan.draws}",
                    flush=True,
                )
                if not (alive.any() or safe or (losses <= self.plan.risk).any()):
                    break
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
        row = self.kept.find(**about)
        if row is not None and len(row["losses"]) >= self.plan.draws:
            return {**row, "losses": row["losses"][: self.plan.draws]}
        if self.test is None or self.calibration is None:
            count = self.plan.draws * self.plan.sequences
            self.test = Measured(
                self.run, Examples.of(self.run.task, "test", 0, self.plan.test, BATCH)
            )
            self.calibration = Measured(
                self.run, Examples.of(self.run.task, "validation", FIRST, count, BATCH)
            )
        risks, cost = self.test.against_full_depth(setting)
        losses, _ = self.calibration.against_full_depth(setting)
        means = losses.reshape(self.plan.draws, self.plan.sequences).mean(1)
        figures = {
            "risk": float(risks.mean()),
            "error": float(risks.std() / len(risks) ** 0.5),
            "cost": cost,
        }
        return self.kept.add({**about, **figures, "losses": means.round(9).tolist()})
