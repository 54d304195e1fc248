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
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.babi.picture import draw
from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_and_tell
from benchmarks.rules.benchmark import ranged
from halting.errors import UsageError
from training.console.table import aligned, markdown
from training.runs.loaded import load_run
from training.tasks.babi_stories import find_folder

PUBLISHED = {1: (2.3, 0.8), 2: (3.1, 1.1), 3: (3.8, 2.2)}
TASKS = {"paper": ("1", "2", "3"), "within a task": ("7", "8")}
_MOST_FACTS = 3
"""Questions of tasks 7 and 8 that need more are counted together with those of three."""
_EXAMPLES = 2048
_AT_ONCE = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table and draws the figure; 1 when ponder does not rise with
    the facts, 2 when a row could not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.babi", description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="the folder of bAbI's files")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each")
    parser.add_argument("--updates", type=int, default=2000, help="of each training")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument(
        "--quick", action="store_true", help="60 updates and one seed: does it run at all?"
    )
    parser.add_argument("--png", type=Path, default=None, help="draw the figure")
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    try:
        find_folder(None if options.data is None else str(options.data))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    seeds = range(1 if options.quick else options.seeds)
    trainings = [training(name, seed, options) for seed in seeds for name in TASKS]
    rows = run_and_tell(trainings, Kept("babi", options.quick), options.workers, measure)
    head, lines = table(rows)
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    if any("failed" in row for row in rows):
        return 2
    figures = against_the_paper(rows)
    if options.png is not None:
        draw(rows, PUBLISHED, options.png)
    if options.json is not None:
        write(figures, options.json)
    return 0 if options.quick else exit_code(figures)


def training(name: str, seed: int, options: argparse.Namespace) -> Training:
    """One of them."""
    folder = () if options.data is None else ("--data.folder", str(options.data))
    length = ("--updates", str(options.updates), "--eval-every", str(max(1, options.updates // 8)))
    flags = ("--data.kinds", *TASKS[name], *folder, *length)
    return Training(name, seed, (("babi", *flags),), options.quick)


def measure(homes: list[Path]) -> Row:
    """What the trained run does with test stories."""
    run = load_run(homes[-1])
    parts = []
    for start in range(0, _EXAMPLES, _AT_ONCE):
        batch = run.task.batch("test", start, _AT_ONCE)
        output = run.forward(batch)
        ponder = run.model.recurrence.rule.ponder(output.trace)
        last = batch.valid.sum(1, keepdim=True) - 1
        right = output.logits.argmax(-1).gather(1, last) == batch.targets.gather(1, last)
        valid = batch.valid
        columns = (
            batch.difficulty[:, 0].clamp(max=_MOST_FACTS),
            valid.sum(1),
            (ponder * valid).sum(1),
            (ponder**2 * valid).sum(1),
            ponder.gather(1, last)[:, 0],
            right[:, 0],
        )
        parts.append(np.stack([column.double().numpy() for column in columns]))
    return stories(np.concatenate(parts, 1))


def stories(columns: NDArray[np.float64]) -> Row:
    """The figures of test stories.

    Args:
        columns: [6 S]: supporting facts, positions, the sum over them of ponder and of its square,
            the ponder of the question, and whether the answer is right.
    """
    facts, length, total, squares, question, right = columns
    by_facts = {}
    for number in np.unique(facts):
        mine = facts == number
        positions = length[mine].sum()
        mean = float(total[mine].sum() / positions)
        by_facts[str(int(number))] = {
            "questions": int(mine.sum()),
            "ponder": mean,
            "deviation": float(np.sqrt(max(squares[mine].sum() / positions - mean**2, 0.0))),
            "ponder_of_question": float(question[mine].mean()),
            "length": float(length[mine].mean()),
            "accuracy": float(right[mine].mean()),
        }
    mean = total / length
    return {
        "by_facts": by_facts,
        "accuracy": float(right.mean()),
        "spearman": rank_correlation(facts, mean),
        "spearman_of_question": rank_correlation(facts, question),
        "spearman_at_equal_length": partial_correlation(facts, mean, length),
        "spearman_of_question_at_equal_length": partial_correlation(facts, question, length),
    }


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Spearman's; None where one of them never varies."""
    from scipy import stats

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second)[0])  # pyright: ignore[reportArgumentType]


def partial_correlation(
    first: NDArray[Any], second: NDArray[Any], held: NDArray[Any]
) -> float | None:
    """Spearman's, with a third quantity held fixed (the partial correlation of the ranks); None
    where one never varies or the third tells another exactly."""
    pairs = ((first, second), (first, held), (second, held))
    found = [rank_correlation(*pair) for pair in pairs]
    if any(each is None for each in found):
        return None
    apart, of_first, of_second = (float(each) for each in found if each is not None)
    left = (1 - of_first**2) * (1 - of_second**2)
    return (apart - of_first * of_second) / left**0.5 if left > 1e-12 else None


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


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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
            cells = [ranged([each[key] for each in found], form) for key, form in columns]
            published = (
                "{:.1f} ± {:.1f}".format(*PUBLISHED[int(number)]) if name == "paper" else "–"
            )
            more = " or more" if name != "paper" and int(number) == _MOST_FACTS else ""
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
            first, held, asked, asked_held = (ranged(values, ".2f") for values in told)
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
