"""The cases of `python -m benchmarks.compute`, as data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

from benchmarks.compute import checkpointed, device_rate, machinery, packing
from benchmarks.compute.shape import BROAD, DEMO, LONG, NARROW, WIDE, Shape, on_gpu

Measured = float | list[float] | None


@dataclass(frozen=True)
class Case:
    """One figure.

    Args:
        name: what is measured, in words.
        limit: the target.
        measure: takes the number of turns; gives a figure that is exact, or one of each turn, or
            None where something that it needs is not installed.
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
        return {"≤": value <= self.limit, "≥": value >= self.limit, "=": value == self.limit}[
            self.sense
        ]


def _packing(shape: Shape, mean: int, training: bool, rule: str, limit: float) -> Case:
    what = "training" if training else "inference"
    who = "halting times given" if rule == "given" else "GravesACT deciding"
    name = f"packed ÷ bare dense ÷ active share, {what}, {_size(shape)}, mean {mean}, {who}"
    return Case(
        name,
        limit,
        lambda turns: packing.time_over_share(shape, mean, training, rule, turns),
        packing,
    )


def _bytes(shape: Shape, mean: int) -> Case:
    name = (
        f"bytes saved for backward, packed ÷ bare dense ÷ active share, {_size(shape)}, mean {mean}"
    )
    return Case(name, 1.06, lambda _: packing.bytes_over_share(shape, mean), packing, exact=True)


def _rows(shape: Shape, mean: int) -> Case:
    name = f"rows through linear layers ÷ executed token-steps, {_size(shape)}, mean {mean}"
    return Case(name, 1.0, lambda _: packing.rows_over_steps(shape, mean), packing, "=", exact=True)


def _size(shape: Shape) -> str:
    how = [shape.attention] * (shape.attention != "padded") + ["compiled"] * shape.compiled
    return ", ".join([f"width {shape.dim}", *how])


def _nothing_halts(shape: Shape) -> Case:
    name = f"packed ÷ dense when nothing halts, training, {_size(shape)}"
    return Case(name, 1.03, lambda turns: packing.time_when_nothing_halts(shape, turns), packing)


def _peers(shape: Shape) -> tuple[Case, ...]:
    """A dense training step against others' of the same shapes."""
    step = "dense training step ÷"
    where = _size(shape)
    return (
        Case(
            f"{step} the matrix products of its shapes, {where}",
            1.20,
            lambda turns: machinery.against_matrix_products(shape, turns),
            machinery,
        ),
        Case(
            f"{step} Albert with the same GELU, {where}",
            1.03,
            lambda turns: machinery.against_albert(shape, turns),
            machinery,
            needs="transformers: pip install transformers==4.57.3",
        ),
        Case(
            f"{step} looped nn.TransformerEncoderLayer, {where}",
            1.03,
            lambda turns: machinery.against_encoder_layer(shape, turns),
            machinery,
        ),
    )


def _checkpointed(shape: Shape, memory: Callable[[], float]) -> tuple[Case, ...]:
    what = "checkpointed ÷ full backprop at 64 steps"
    return (
        Case(
            f"{what}: peak memory of a training step, {_size(shape)}",
            0.28,
            lambda _: memory(),
            checkpointed,
        ),
        Case(
            f"{what}: time, {_size(shape)}",
            1.40,
            lambda turns: checkpointed.time_against_full(shape, turns),
            checkpointed,
        ),
    )


def _straight_line(shape: Shape) -> Case:
    name = (
        "time against executed token-steps over batches of every mean depth: R² of a straight "
        f"line, {_size(shape)}"
    )
    return Case(name, 0.99, lambda turns: packing.straight_line(shape, turns), packing, "≥")


def _around_the_block(broad: Shape, small: Shape) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"loop, rule, trace and readout ÷ the block alone: {rule}, {what}, {size}",
            limit,
            lambda turns, measure=measure, shape=shape, training=training: measure(
                shape, training, turns
            ),
            machinery,
        )
        for rule, shape, size, limit, measure in (
            ("FixedSteps", broad, _size(broad), 1.03, machinery.fixed_steps_around_the_block),
            ("GravesACT", small, "the demo's size", 1.15, machinery.graves_act_around_the_block),
        )
        for what, training in (("inference", False), ("training", True))
    )


def _training_loop(device: str, bf16: bool) -> Case:
    name = (
        "training loop with LocalEngine, metrics and progress ÷ a bare PyTorch loop of the same "
        "step, width 512"
    )
    return Case(name, 1.05, lambda turns: machinery.training_loop(device, bf16, turns), machinery)


def _dense_rate(shape: Shape, training: bool) -> Case:
    what = "training" if training else "inference"
    name = f"dense FLOPs a second ÷ those of a large matrix product, {what}, {_size(shape)}"
    return Case(
        name,
        0.45,
        lambda turns: device_rate.dense_share_of_rate(shape, training, turns),
        device_rate,
        sense="≥",
    )


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
    _nothing_halts(WIDE),
    *_peers(WIDE),
    *_checkpointed(LONG, checkpointed.memory_against_full),
    _straight_line(NARROW),
    *_around_the_block(WIDE, DEMO),
    _training_loop("cpu", False),
)

_EAGER = BROAD
_COMPILED = replace(BROAD, compiled=True)
_WAYS = (
    _EAGER,
    _COMPILED,
    replace(BROAD, attention="ragged"),
    replace(_COMPILED, attention="ragged"),
)
_LONG = on_gpu(LONG)

GPU = (
    *(_dense_rate(shape, training) for shape in (_EAGER, _COMPILED) for training in (False, True)),
    _rows(_EAGER, 2),
    *(_bytes(shape, 2) for shape in _WAYS if not shape.compiled),
    *(
        _packing(shape, mean, training, rule, 1.15 if rule == "given" else 1.20)
        for shape in _WAYS
        for rule in ("given", "act")
        for mean in (4, 2)
        for training in (False, True)
    ),
    _nothing_halts(_EAGER),
    *_peers(_EAGER),
    *_checkpointed(_LONG, lambda: checkpointed.device_memory_against_full(_LONG)),
    _straight_line(_EAGER),
    *_around_the_block(_EAGER, on_gpu(DEMO)),
    _training_loop("cuda", True),
)


@dataclass(frozen=True)
class Suite:
    """Figures that are measured together.

    Args:
        cases: the figures.
        about: how they are measured, in words.
        correct: the tests of what is timed: they run first, and nothing is reported while one of
            them fails.
        needs_gpu: it runs on a GPU alone.
    """

    cases: tuple[Case, ...]
    about: str
    correct: tuple[str, ...]
    needs_gpu: bool = False


_CORRECT = (
    "tests/act/testing/test_rule_contract.py::TestGravesACT::test_law_3_packed_equals_dense",
    "tests/act/testing/test_rule_contract.py::TestGravesACT::test_law_2_halted_keys_and_values_stay",
    "tests/act/caches/test_rewinding_cache.py",
    "tests/act/loop/test_recurrence.py::test_rows_computed_are_the_executed_steps",
)

SUITES = {
    "cpu": Suite(CPU, "one process, one thread, float32", _CORRECT),
    "gpu": Suite(
        GPU,
        "one process, one GPU, bfloat16",
        (*_CORRECT, "tests/act/test_on_gpu.py"),
        needs_gpu=True,
    ),
}
