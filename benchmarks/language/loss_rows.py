"""The loss of a large vocabulary: the most memory that it takes, and its time over that of whole
logits."""

import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.compute.timing import median
from benchmarks.harness.digest import ROOT
from benchmarks.harness.report import Figure, Table
from benchmarks.harness.rows import Row, Rows

CODE = (
    "benchmarks/language/loss_rows.py",
    "benchmarks/language/loss_worker.py",
    "benchmarks/harness",
    "benchmarks/compute/timing.py",
    "benchmarks/memory/case.py",
    "act/layers/linear_cross_entropy.py",
    "act/models/asked_losses.py",
)
TARGETS = {256: 0.15, 512: 0.22}
"""Width, and the most memory over that of whole logits of one step."""
STEPS = (1, 4)
"""Whose losses are trained: the output's, or those of as many steps as the recipe lm takes."""
TURNS = 5


def measure(rows: Rows, quick: bool) -> list[Row]:
    """A row each of width and steps, and of whole logits."""
    vocabulary, tokens = (2048, 512) if quick else (32_768, 4096)
    found = []
    for width in TARGETS:
        for steps in STEPS:
            key = {"part": "loss", "vocabulary": vocabulary, "tokens": tokens, "width": width}
            row = rows.find(**key, steps=steps)
            if row is None:
                print(f"the loss at width {width}, steps {steps} …", flush=True)
                sizes = (vocabulary, tokens, width, steps)
                row = rows.add({**key, "steps": steps, **_measured(sizes, 1 if quick else TURNS)})
            found.append(row)
    return found


def _measured(sizes: tuple[int, int, int, int], turns: int) -> Row:
    """Memory, and seconds of both ways in turns, in processes of their own. Whole logits of every
    step would be gigabytes: their memory is not measured, and seconds are of fewer tokens then, as
    many answers as of one step."""
    vocabulary, tokens, width, steps = sizes
    fewer = (vocabulary, tokens // steps, width, steps)
    try:
        chunked = _work("peak", *sizes, "chunked")["peak_bytes"]
        whole = _work("peak", *sizes, "whole")["peak_bytes"] if steps == 1 else None
        seconds = _work("time", *fewer, turns)["seconds"]
    except subprocess.CalledProcessError as error:
        return {"failed": (error.stderr or str(error))[-400:]}
    ratios = [
        mine / other for mine, other in zip(seconds["chunked"], seconds["whole"], strict=True)
    ]
    return {
        "logits_bytes": 4 * vocabulary * tokens,
        "peak_bytes": chunked,
        "whole_peak_bytes": whole,
        "turns": turns,
        "seconds": round(median(seconds["chunked"]), 3),
        "whole_seconds": round(median(seconds["whole"]), 3),
        "time_ratio": round(median(ratios), 3),
        "time_ratios": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def _work(*arguments: object) -> dict:
    command = [sys.executable, "-m", "benchmarks.language.loss_worker", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: Sequence[Row]) -> Table:
    """A line a row."""
    head = ("width", "losses of", "peak MiB", "÷ logits", "whole ÷ logits", "s", "÷ whole's")
    lines = [
        (
            str(row["width"]),
            "the output" if row["steps"] == 1 else f"{row['steps']} steps",
            f"{row['peak_bytes'] / 2**20:.0f}",
            f"{row['peak_bytes'] / row['logits_bytes']:.3f}",
            f"{row['whole_peak_bytes'] / row['logits_bytes']:.2f}"
            if row["whole_peak_bytes"]
            else "–",
            f"{row['seconds']:.1f}",
            f"{row['time_ratio']:.2f}",
        )
        for row in rows
        if "failed" not in row
    ]
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """Memory over the logits of one step, and time over that of whole logits, of each row."""
    figures = []
    for row in rows:
        if "failed" in row:
            continue
        what = f"width {row['width']}, " + (
            "one step" if row["steps"] == 1 else f"every one of {row['steps']} steps"
        )
        memory = round(row["peak_bytes"] / row["logits_bytes"], 4)
        limit = TARGETS[row["width"]]
        figures += [
            Figure(
                f"peak of the loss ÷ whole logits, {what}", memory, f"≤ {limit:g}", memory <= limit
            ),
            Figure(
                f"time of the loss ÷ with whole logits, {what}",
                row["time_ratio"],
                "≤ 1",
                row["time_ratio"] <= 1.0,
            ),
        ]
    return figures
