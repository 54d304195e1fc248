"""`python -m benchmarks.stragglers`: what ranks lose by waiting for the slowest, and what dealing
sequences recovers.

Simulated for 8 to 1,024 ranks from the step counts of real trainings, which are recorded once
(minutes) and kept in benchmarks/results; with --measure, on two real ranks too (minutes each time:
its figures are of time).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.cli import at_least_one, finish, make_parser, results_file
from benchmarks.harness.report import Figure
from benchmarks.stragglers.counts import counts_of
from benchmarks.stragglers.measured import (
    MICRO_BATCH,
    RANKS,
    MeasuredEfficiency,
    measure,
    seconds_a_step,
)
from benchmarks.stragglers.picture import save_stragglers_picture
from benchmarks.stragglers.simulated import RANKS as SIMULATED
from benchmarks.stragglers.simulated import WAYS, Efficiency, simulate
from training.console.table import markdown

RECIPES = ("pointer_chase", "addition")
MICRO_BATCHES = (8, 2, 32)
"""The first is the one that is held to the targets and plotted."""
TRUTH = 0.75
PONDER = 0.25
AS_FORETOLD = (0.6, 1.4)
SAME = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Prints tables and figures; 1 when a target is missed, 2 when something could not be run."""
    parser = make_parser("stragglers", __doc__, quick="60 updates to record, few ranks")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="whose step counts")
    parser.add_argument("--measure", action="store_true", help="train on two real ranks too")
    parser.add_argument(
        "--updates", type=at_least_one, default=30, help="of each of these trainings"
    )
    parser.add_argument(
        "--repeats", type=at_least_one, default=12, help="of them; of each update the least counts"
    )
    parser.add_argument("--picture", type=Path, default=None, help="write the plot")
    options = parser.parse_args(argv)
    ranks = SIMULATED[:2] if options.quick else SIMULATED
    found: list[Efficiency] = []
    for recipe in options.recipes:
        file = results_file(f"stragglers-{recipe}.npz", options)
        counts = counts_of(recipe, file, quick=options.quick, again=options.again)
        for micro_batch in MICRO_BATCHES:
            for number in ranks:
                found += simulate(recipe, counts, number, micro_batch)
            mine = [
                each for each in found if (each.recipe, each.micro_batch) == (recipe, micro_batch)
            ]
            print(
                f"\n{recipe}, {micro_batch} sequences a rank, spread {mine[0].spread:.3f}\n"
                + table(mine),
                flush=True,
            )
    plotted = [each for each in found if each.micro_batch == MICRO_BATCHES[0]]
    if options.picture is not None:
        save_stragglers_picture(plotted, options.picture)
        print(f"\nwritten to {options.picture}")
    figures = against_targets(plotted)
    if options.measure:
        try:
            figures += of_real_ranks(
                measure(5, 1) if options.quick else measure(options.updates, options.repeats)
            )
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
    return finish(options, figures)


def table(found: Sequence[Efficiency]) -> str:
    """Efficiencies in Markdown, a row a number of ranks, with what is recovered."""
    ways = [way for way in WAYS if any(each.way == way for each in found)]
    rows = []
    for number in sorted({each.ranks for each in found}):
        of = {each.way: each for each in found if each.ranks == number}
        cells = [
            f"{of[way].efficiency:.3f}" + ("" if way == "order" else f" ({of[way].recovered:.2f})")
            for way in ways
        ]
        rows.append((f"{number:,}", *cells))
    return markdown(("ranks", *ways), rows)


def against_targets(found: Sequence[Efficiency]) -> list[Figure]:
    """The least that true counts and the last map recover, over all numbers of ranks, of each
    recipe."""
    figures = []
    for recipe in dict.fromkeys(each.recipe for each in found):
        for way, target, name in (
            ("truth", TRUTH, "true counts"),
            ("ponder", PONDER, "the last map"),
        ):
            least = min(
                each.recovered for each in found if (each.recipe, each.way) == (recipe, way)
            )
            what = f"{recipe}: recovered of what naive dealing loses, by {name}, least of all ranks"
            figures.append(Figure(what, least, f"≥ {target}", least >= target))
    return figures


def of_real_ranks(found: Mapping[str, MeasuredEfficiency]) -> list[Figure]:
    """What two real ranks lose and wait, against what their token-steps foretell."""
    naive = found["order"]
    dealt = found["ponder"]
    about = f"{RANKS} real ranks, {MICRO_BATCH} additions each"
    step = seconds_a_step(list(found.values()))
    lost, left = (each.lost(each.computing) for each in (naive, dealt))
    saved = naive.waited - dealt.waited
    foretold = step * (naive.behind - dealt.behind)
    apart = float(np.abs(dealt.losses / naive.losses - 1).max())
    waits = f"naive {1e3 * naive.waited:.1f} ms an update, by the last map {1e3 * dealt.waited:.1f}"
    low, high = AS_FORETOLD
    return [
        Figure(
            f"{about}: share of processor seconds that naive dealing loses", lost, "> 0", lost > 0
        ),
        Figure(
            f"{about}: recovered of that by the last map",
            1 - left / lost,
            f"≥ {PONDER}",
            1 - left / lost >= PONDER,
        ),
        Figure(
            f"{about}: wait saved ÷ foretold by token-steps ({waits}; foretold "
            f"{1e3 * foretold:.1f} less)",
            saved / foretold,
            f"{low} … {high}",
            low <= saved / foretold <= high,
        ),
        Figure(
            f"{about}: largest relative difference of losses", apart, f"≤ {SAME:g}", apart <= SAME
        ),
    ]
