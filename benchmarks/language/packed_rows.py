"""What bounds of documents cost: a training step of packed rows over one of the same rows without
bounds."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from act import LoopedTransformer
from benchmarks.compute.timing import in_turns, median
from benchmarks.harness.report import Figure, Table
from benchmarks.harness.rows import Row, Rows
from benchmarks.language.documents import pack
from halting import FixedSteps, GravesACT, HaltingRule

CODE = (
    "benchmarks/language/packed_rows.py",
    "benchmarks/language/documents.py",
    "benchmarks/harness",
    "benchmarks/compute/timing.py",
    "act",
    "halting",
)
TARGETS = {128: 1.05, 512: 1.05, 1024: 1.0}
"""Length of a row, and the most that its step may take over one without bounds."""
RULES = ("FixedSteps", "GravesACT")
TOKENS = 2048
MEAN = 170
VOCABULARY, WIDTH, HEADS, LIMIT = 256, 128, 4, 4
TURNS = 13


def measure(rows: Rows, quick: bool) -> list[Row]:
    """A row each of rule and length."""
    turns = 2 if quick else TURNS
    tokens = 1024 if quick else TOKENS
    found = []
    for rule in RULES:
        for length in TARGETS:
            key = {"part": "packed", "rule": rule, "length": length, "tokens": tokens}
            row = rows.find(**key, turns=turns)
            if row is None:
                print(f"timing rows of {length}, {rule} …", flush=True)
                row = rows.add({**key, "turns": turns, **_measured(rule, length, tokens, turns)})
            found.append(row)
    return found


def _model(rule: str) -> LoopedTransformer:
    """Of the shape of the recipe lm."""
    torch.manual_seed(0)
    decides: HaltingRule = FixedSteps()
    if rule == "GravesACT":
        decides = GravesACT(WIDTH, bias_init=-0.5)
        torch.nn.init.normal_(decides.gate.weight, std=0.1)
    return LoopedTransformer(
        VOCABULARY,
        WIDTH,
        HEADS,
        decides,
        max_steps=LIMIT,
        num_layers=2,
        prelude_layers=1,
        coda_layers=1,
        causal=True,
    )


def _measured(rule: str, length: int, tokens: int, turns: int) -> Row:
    torch.set_num_threads(1)
    model = _model(rule)
    packed = pack(tokens // length, length, MEAN, VOCABULARY)
    targets = packed.tokens.roll(-1, 1)
    steps = 0.0

    def step(documents: Tensor | None) -> None:
        nonlocal steps
        output = model(packed.tokens, documents=documents)
        F.cross_entropy(output.logits.flatten(0, 1), targets.flatten()).backward()
        model.zero_grad()
        steps = float(output.trace.steps.double().mean())

    with_bounds, without = in_turns(
        [lambda: step(packed.documents), lambda: step(None)], turns, least=0.0
    )
    ratios = sorted(one / other for one, other in zip(with_bounds, without, strict=True))
    return {
        "documents": len(packed.alone()),
        "mean_steps": round(steps, 3),
        "seconds": round(median(with_bounds), 4),
        "seconds_without": round(median(without), 4),
        "ratio": round(median(ratios), 4),
        "ratios": [round(ratios[0], 4), round(ratios[-1], 4)],
    }


def table(rows: Sequence[Row]) -> Table:
    """A line a row."""
    head = ("rule", "rows of", "mean steps", "ms", "ms without bounds", "ratio", "least … most")
    lines = [
        (
            str(row["rule"]),
            f"{row['length']:,}",
            f"{row['mean_steps']:.2f}",
            f"{1e3 * row['seconds']:.0f}",
            f"{1e3 * row['seconds_without']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['ratios'][0]:.2f} … {row['ratios'][1]:.2f}",
        )
        for row in rows
    ]
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The ratio of each row."""
    return [
        Figure(
            f"a step with documents of {MEAN} ÷ without bounds, rows of {row['length']:,}, "
            f"{row['rule']}",
            row["ratio"],
            f"≤ {TARGETS[row['length']]:g}",
            row["ratio"] <= TARGETS[row["length"]],
        )
        for row in rows
    ]
