"""`python -m benchmarks.maps.recording`: what a ponder map costs, in time and on disk.

Recording is counted against the forward pass that it records: a run's recipe, its model as it is
before training, one batch of an update, in turns, medians of processor seconds of one thread. The
lens (the head read at every step) is counted apart. The file is the largest
that is promised: 1,000 sequences of 256 tokens and 16 steps, of random numbers, which nothing
compresses.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness.cli import at_least_one, finish, make_parser
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import Figure
from halting.maps.ponder_map import PonderMap
from training.build import build_all
from training.console.entry import run_entry
from training.console.table import aligned
from training.recipes.load import load_recipe
from training.resources.workload import race
from training.runs.recording import record_map

RECIPES = ("pointer_chase", "bytes")
MOST_SHARE = 0.10
MOST_MEGABYTES = 40.0
_SEQUENCES = 1000
_LENGTH = 256
_STEPS = 16
_VOCABULARY = 50_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 when a target is missed."""
    short = "three repeats, a hundred sequences"
    parser = make_parser("maps.recording", __doc__, quick=short, rows=False)
    parser.add_argument(
        "--repeats", type=at_least_one, default=15, help="of which medians are taken"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    figures = []
    rows = []
    for recipe in RECIPES:
        forward, with_lens, recording = seconds(recipe, 3 if options.quick else options.repeats)
        share = recording / forward
        lens = (with_lens - forward) / forward
        figures.append(
            Figure(f"{recipe}: recording ÷ forward", share, f"≤ {MOST_SHARE}", share <= MOST_SHARE),
        )
        rows.append(
            (
                recipe,
                f"{1e3 * forward:.1f}",
                f"{1e3 * recording:.2f}",
                f"{share:.3f}",
                f"{lens:.2f}",
            )
        )
    head = ("recipe", "forward, ms", "recording, ms", "share", "lens, share")
    print(f"{hardware()}\n\n{aligned(head, rows)}")
    sequences = _SEQUENCES // 10 if options.quick else _SEQUENCES
    megabytes, took = size_on_disk(sequences)
    scaled = megabytes * _SEQUENCES / sequences
    target = f"< {MOST_MEGABYTES:g}"
    figures.append(Figure("1,000 × 256 × 16 on disk, MB", scaled, target, scaled < MOST_MEGABYTES))
    print(
        f"\n{sequences:,} sequences of {_LENGTH} tokens and {_STEPS} steps: {megabytes:.1f} MB, "
        f"written in {took:.1f} s"
    )
    return finish(options, figures)


def seconds(recipe: str, repeats: int) -> tuple[float, float, float]:
    """Of the forward pass, of the one with the lens, and of making the map from the former's
    output."""
    config = load_recipe(recipe)
    built = build_all(config)
    model = built.model.eval()
    batch = built.task.batch("test", 0, config.batch_size)
    limit = model.recurrence.max_steps

    @torch.no_grad()
    def forward(lens: bool = False) -> None:
        model(batch.tokens, batch.valid, record_lens=lens)

    with torch.no_grad():
        output = model(batch.tokens, batch.valid)

    def record() -> None:
        record_map(lambda given: output, model.recurrence.rule, built.task, batch, limit, {})

    plain, lens, recording = race(
        [clocked(forward), clocked(lambda: forward(True)), clocked(record)], repeats
    )
    return plain, lens, recording


def clocked(work: Callable[[], object]) -> Callable[[], float]:
    """The same work, telling how many processor seconds it took: what else the machine does counts
    little."""

    def taken() -> float:
        before = time.process_time()
        work()
        return time.process_time() - before

    return taken


def size_on_disk(sequences: int) -> tuple[float, float]:
    """Megabytes of both files, and the seconds that writing them took."""
    random = np.random.default_rng(0)
    grid = (sequences, _LENGTH)
    cube = (sequences, _LENGTH, _STEPS)
    tokens = random.integers(0, _VOCABULARY, grid, dtype=np.int32)
    found = PonderMap(
        tokens=tokens,
        texts=[[f"token{number}" for number in row] for row in tokens],
        valid=np.ones(grid, bool),
        steps=random.integers(1, _STEPS + 1, grid, dtype=np.int16),
        ponder=random.random(grid, dtype=np.float32),
        mass=random.dirichlet(np.ones(_STEPS), grid).astype(np.float32),
        score=random.standard_normal(cube, dtype=np.float32),
        predictions=random.integers(0, _VOCABULARY, cube, dtype=np.int32),
        confidence=random.random(cube, dtype=np.float32),
        target_probability=random.random(cube, dtype=np.float32),
        targets=random.integers(0, _VOCABULARY, grid, dtype=np.int32),
        final_prediction=random.integers(0, _VOCABULARY, grid, dtype=np.int32),
        difficulty=random.random(grid, dtype=np.float32),
    )
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        found.save(Path(folder) / "map")
        took = time.perf_counter() - before
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6, took


if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
