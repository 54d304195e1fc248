"""The cases of `python -m benchmarks.run`, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from benchmarks import checkpointed, machinery, packing
from benchmarks.packing import NARROW, WIDE, Shape

Measured = float | list[float] | None


@dataclass(frozen=True)
class Case:
    """One figure.

    Args:
        name: what is measured, in words.
        limit: the target.
        measure: takes the number of turns; gives a figure that is exact, or one of each turn, or None where something
            that it needs is not installed.
        source: the module that measures.
        sense: on which side of the limit it should be.
        exact: it is counted, not timed.
        needs: what it needs beside the package, where it may be missing.
    """

    name: str
    limit: float
    measure: Callable[[int], Measured]
    source: ModuleType
    sense: Literal["≤", "≥", "="] = "≤"
    exact: bool = False
    needs: str = ""

    def met(self, value: float) -> bool:
        """Whether a figure reaches the target."""
        return {"≤": value <= self.limit, "≥": value >= self.limit, "=": value == self.limit}[self.sense]


def _packing(shape: Shape, mean: int, training: bool, rule: str, limit: float) -> Case:
    what = "training" if training else "inference"
    who = "halting times given" if rule == "given" else "GravesACT deciding"
    name = f"packed ÷ bare dense ÷ active share, {what}, width {shape.dim}, mean {mean}, {who}"
    return Case(name, limit, lambda turns: packing.time_over_share(shape, mean, training, rule, turns), packing)


def _bytes(shape: Shape, mean: int) -> Case:
    name = f"bytes saved for backward, packed ÷ bare dense ÷ active share, width {shape.dim}, mean {mean}"
    return Case(name, 1.06, lambda _: packing.bytes_over_share(shape, mean), packing, exact=True)


def _rows(shape: Shape, mean: int) -> Case:
    name = f"rows through linear layers ÷ executed token-steps, width {shape.dim}, mean {mean}"
    return Case(name, 1.0, lambda _: packing.rows_over_steps(shape, mean), packing, "=", exact=True)


_LIMITS = {(WIDE, 4): 1.10, (WIDE, 2): 1.20, (NARROW, 4): 1.25, (NARROW, 2): 1.40}

CPU = (
    *(_rows(shape, mean) for shape, mean in _LIMITS),
    *(_bytes(shape, mean) for shape, mean in _LIMITS),
    *(
        _packing(shape, mean, training, rule, round(limit + (0.05 if rule == "act" else 0.0), 2))
        for rule in ("given", "act")
        for (shape, mean), limit in _LIMITS.items()
        for training in (False, True)
    ),
    Case(
        "packed ÷ dense when nothing halts, training, width 512",
        1.03,
        lambda n: packing.time_when_nothing_halts(WIDE, n),
        packing,
    ),
    Case(
        "dense training step ÷ the matrix products of its shapes, width 512",
        1.20,
        machinery.against_matrix_products,
        machinery,
    ),
    Case(
        "dense training step ÷ Albert with the same GELU, width 512",
        1.03,
        machinery.against_albert,
        machinery,
        needs="transformers: pip install transformers==4.57.3",
    ),
    Case(
        "dense training step ÷ looped nn.TransformerEncoderLayer, width 512",
        1.03,
        machinery.against_encoder_layer,
        machinery,
    ),
    Case(
        "checkpointed ÷ full backprop at 64 steps: peak memory of a training step, width 512",
        0.28,
        lambda _: checkpointed.memory_against_full(),
        checkpointed,
    ),
    Case(
        "checkpointed ÷ full backprop at 64 steps: time, width 512", 1.40, checkpointed.time_against_full, checkpointed
    ),
    Case(
        "time against executed token-steps over batches of every mean depth: R² of a straight line, width 128",
        0.99,
        lambda n: packing.straight_line(NARROW, n),
        packing,
        "≥",
    ),
    *(
        Case(
            f"loop, rule, trace and readout ÷ the block alone: {rule}, {what}, {size}",
            limit,
            lambda n, measure=measure, training=training: measure(training, n),
            machinery,
        )
        for rule, size, limit, measure in (
            ("FixedSteps", "width 512", 1.03, machinery.fixed_steps_around_the_block),
            ("GravesACT", "the demo's size", 1.15, machinery.graves_act_around_the_block),
        )
        for what, training in (("inference", False), ("training", True))
    ),
    Case(
        "training loop with LocalEngine, metrics and progress ÷ a bare PyTorch loop of the same step, width 512",
        1.05,
        machinery.training_loop,
        machinery,
    ),
)

SUITES = {"cpu": CPU}

CORRECT = (
    "tests/act/test_rule_contract.py::TestGravesACT::test_law_3_packed_equals_dense",
    "tests/act/test_rule_contract.py::TestGravesACT::test_law_2_halted_keys_and_values_stay",
    "tests/act/test_rewinding_cache.py",
    "tests/act/test_recurrence.py::test_rows_computed_are_the_executed_steps",
)
"""What is timed has to be right: these tests run first, and nothing is reported while one of them fails."""
