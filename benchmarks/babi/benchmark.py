"""`python -m benchmarks.babi`: the Universal Transformer's figure, ponder time by supporting fact
on bAbI.

The paper (Dehghani et al. 2018, section 3.1) trains on all twenty tasks, and reports the mean
ponder time of all positions of test stories that need one, two and three supporting facts: 2.3 ±
0.8, 3.1 ± 1.1 and 3.8 ± 2.2. Here a small model learns tasks 1, 2 and 3, which need one, two and
three ("paper"); and tasks 7 and 8, in which the number differs within a task. Stories that need
more facts are longer, so the rank correlation is also told with the length held fixed.

Each row is a training in a process of its own on one thread, not run again once it is kept.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.babi.picture import draw
from benchmarks.babi.stories import MOST_FACTS, measure
from benchmarks.harness.cli import at_least_one, finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, extent, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows
from training.tasks.babi_stories import find_folder

PUBLISHED = {1: (2.3, 0.8), 2: (3.1, 1.1), 3: (3.8, 2.2)}
TASKS = {"paper": ("1", "2", "3"), "within a task": ("7", "8")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table and draws the figure; 1 when ponder does not rise with
    the facts, 2 when a row could not be run."""
    parser = make_training_parser("babi", __doc__, seeds=1)
    parser.add_argument("--data", type=Path, default=None, help="the folder of bAbI's files")
    parser.add_argument("--updates", type=at_least_one, default=2000, help="of each training")
    parser.add_argument("--png", type=Path, default=None, help="draw the figure")
    options = parser.parse_args(argv)
    if not options.kept:
        find_folder(None if options.data is None else str(options.data))
    trainings = [training(name, seed, options) for seed in seeds_of(options) for name in TASKS]
    runs = TrainingRows("babi", options, measure)
    rows = runs.run_and_print(trainings)
    print_table(table(rows))
    print(runs.provenance())
    if any("failed" in row for row in rows):
        return 2
    if options.png is not None:
        draw(rows, PUBLISHED, options.png)
    return finish(options, against_the_paper(rows))


def training(name: str, seed: int, options: argparse.Namespace) -> Training:
    """One of them."""
    folder = () if options.data is None else ("--data.folder", str(options.data))
    length = ("--updates", str(options.updates), "--eval-every", str(max(1, options.updates // 8)))
    flags = ("--data.kinds", *TASKS[name], *folder, *length)
    return Training(name, seed, (("babi", *flags),), options.quick)


def against_the_paper(rows: Sequence[Row]) -> list[Figure]:
    """Whether ponder rises from one to two to three supporting facts, in every seed."""
    figures = []
    for name in TASKS:
        steps = []
        for row in rows:
            if row["name"] == name:
                means = [row["by_facts"][number]["ponder"] for number in sorted(row["by_facts"])]
                steps += [after - before for before, after in pairwise(means)]
        least = min(steps) if steps else None
        what = f"{name}: least rise of mean ponder from one more supporting fact"
        figures.append(
            Figure(what, least, "> 0 (the paper: 0.7)", least is not None and bool(least > 0))
        )
    return figures


def table(rows: Sequence[Row]) -> Table:
    """Head and rows: a row a set of tasks and number of facts, over its seeds as the least and the
    most."""
    head = (
        "tasks, supporting facts",
        "ponder",
        "of the question",
        "positions",
        "right",
        "paper",
        "seeds",
    )
    lines = []
    for name in TASKS:
        mine = [row for row in rows if row["name"] == name and "failed" not in row]
        for number in sorted({number for row in mine for number in row["by_facts"]}):
            found = [row["by_facts"][number] for row in mine if number in row["by_facts"]]
            columns = (
                ("ponder", ".2f"),
                ("ponder_of_question", ".2f"),
                ("length", ".1f"),
                ("accuracy", ".3f"),
            )
            cells = [extent([each[key] for each in found], form) for key, form in columns]
            published = (
                "{:.1f} ± {:.1f}".format(*PUBLISHED[int(number)]) if name == "paper" else "–"
            )
            more = " or more" if name != "paper" and int(number) == MOST_FACTS else ""
            lines.append(
                (f"{' '.join(TASKS[name])}: {number}{more}", *cells, published, str(len(found)))
            )
        keys = (
            "spearman",
            "spearman_at_equal_length",
            "spearman_of_question",
            "spearman_of_question_at_equal_length",
        )
        told = [[row[key] for row in mine if row[key] is not None] for key in keys]
        if mine and all(told):
            first, held, asked, asked_held = (extent(values, ".2f") for values in told)
            cells = (
                f"{first}, {held} at equal length",
                f"{asked}, {asked_held}",
                "",
                "",
                "",
                str(len(mine)),
            )
            lines.append((f"{' '.join(TASKS[name])}: Spearman", *cells))
    return head, lines
