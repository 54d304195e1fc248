"""`python -m benchmarks.reshape`: a run that goes on in any shape from any other.

Shapes are ZeRO 0 to 3 on 1, 2 and 3 ranks: 144 pairs, and plain PyTorch as a thirteenth shape. Each
source is trained in one go; each target loads what the source saved on the way, and its losses are
held against the source's. Pairs that were measured by this code are not measured again, so a
benchmark that is stopped goes on where it was.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import PACKAGES, code_digest
from benchmarks.harness.ranks import launch
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row, Rows
from benchmarks.reshape.worker import FOLLOWING, PLAIN, Shape, to_json

FIRST = 1e-6
LATER = 1e-5
SHAPES = (PLAIN, *(Shape(ranks, stage) for ranks in (1, 2, 3) for stage in range(4)))
QUICK = (PLAIN, Shape(2, 3), Shape(3, 2), Shape(1, 1), PLAIN)
"""A path through some of them, with both engines, the number of ranks up and down, and stages 2 and
3 in turn."""
MEASURED = (*PACKAGES, "benchmarks/harness/ranks.py", "benchmarks/reshape/worker.py")
"""What a row depends on."""

Pair = tuple[Shape, Shape]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing; 0 when all targets are met, 1 when one is missed, 2 when ranks
    failed or hung."""
    parser = make_parser("reshape", __doc__, quick="a path through a few shapes")
    parser.add_argument(
        "--patience",
        type=float,
        default=180.0,
        help="seconds without a pair before ranks are killed",
    )
    options = parser.parse_args(argv)
    pairs = list(pairwise(QUICK)) if options.quick else [(a, b) for a in SHAPES for b in SHAPES]
    code = code_digest(*MEASURED)
    there = open_rows("reshape", options, code, same_machine=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = there.path or folder / "rows.jsonl"
        missing = [pair for pair in pairs if there.find(**_key(pair)) is None]
        if failed := _measure(missing, folder, path, there.made_by, options.patience):
            print(failed, file=sys.stderr)
            return 2
        measured = Rows(path, code, same_machine=True)
    rows = [row for pair in pairs if (row := measured.find(**_key(pair))) is not None]
    assert len(rows) == len(pairs), "the ranks ended well, and have left a row for each pair"
    print_table(table(rows))
    return finish(options, against_targets(rows), judges_quick=True)


def _measure(
    pairs: Sequence[Pair], folder: Path, path: Path, made_by: dict[str, str], patience: float
) -> str:
    """Runs pairs, in one launch a number of ranks for the sources and one for the targets, whose
    rank 0 adds the rows to the file; "" if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    sources = sorted({source for source, _ in pairs}, key=str)
    about = json.dumps(made_by)
    jobs: list[tuple[str, int, list[str], Callable[[], object]]] = []
    for ranks in (1, 2, 3):
        mine = to_json([source for source in sources if source.ranks == ranks])
        jobs.append(("save", ranks, [mine], lambda: len(list(folder.glob("*/losses.json")))))
    for ranks in (1, 2, 3):
        mine = to_json([pair for pair in pairs if pair[1].ranks == ranks])
        jobs.append(("load", ranks, [mine, str(path), about], lambda: path.stat().st_size))
    for what, ranks, (mine, *rest), sign in jobs:
        arguments = [what, str(folder), mine, *rest]
        log = folder / f"{what}-{ranks}.log"
        if mine != "[]" and (
            failed := launch("benchmarks.reshape.worker", arguments, ranks, log, sign, patience)
        ):
            return failed
    return ""


def _key(pair: Pair) -> dict[str, str]:
    return {"from": str(pair[0]), "to": str(pair[1])}


def table(rows: Sequence[Row]) -> Table:
    """Head and rows: a row a target, over all its sources."""
    lines = []
    for target in dict.fromkeys(row["to"] for row in rows):
        mine = [row for row in rows if row["to"] == target]
        first = max(row["first"] for row in mine)
        following = max(row["following"] for row in mine)
        same, again = (sum(row[key] for row in mine) for key in ("same_bytes", "resumable"))
        lines.append(
            (target, str(len(mine)), f"{first:.1e}", f"{following:.1e}", str(same), str(again))
        )
    return (
        "goes on in",
        "from",
        "first loss",
        f"{FOLLOWING} losses",
        "same bytes",
        "resumable",
    ), lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst of all pairs, of those between DeepSpeed's shapes and of those with plain
    PyTorch."""
    figures = []
    for name, plain in (("ZeRO to ZeRO", False), ("plain PyTorch and ZeRO", True)):
        mine = [row for row in rows if (str(PLAIN) in (row["from"], row["to"])) == plain]
        if not mine:
            continue
        first = max(row["first"] for row in mine)
        following = max(row["following"] for row in mine)
        counted = f"{name}, {len(mine)} pairs"
        figures += [
            Figure(
                f"{counted}: first loss after resuming, relative",
                first,
                f"≤ {FIRST:g}",
                first <= FIRST,
            ),
            Figure(
                f"{counted}: worst of {FOLLOWING} losses, relative",
                following,
                f"≤ {LATER:g}",
                following <= LATER,
            ),
        ]
        for key, says in (
            ("same_bytes", "pairs that write the source's bytes again"),
            ("resumable", "pairs that go on from their own checkpoint, bit for bit"),
        ):
            count = sum(row[key] for row in mine)
            figures.append(
                Figure(f"{counted}: {says}", count, f"= {len(mine)}", count == len(mine))
            )
    return figures
