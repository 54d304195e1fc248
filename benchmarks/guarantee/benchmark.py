"""`python -m benchmarks.guarantee`: does `ponder calibrate` keep what it promises, and what is left
of the saving?

A small model is trained once. Many calibrations of it, each on fresh sequences, choose thresholds;
the risk of a threshold is taken on one large test set. Each threshold is really run, and is a row
that is kept as it ends, so a benchmark that is stopped goes on where it was. Beside that the
procedure is checked where the answer is known exactly.

The case is made to be hard. A sequence has one answer, so that a loss is 0 or 1: of all losses with
that mean the one that varies most. And beside the thresholds that `ponder calibrate` tries, others
lie close together just before and just beyond the allowed risk, where to take the cheapest
threshold with a mean loss below it is to break the promise.
"""

import subprocess
import sys
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.guarantee.calibrations import BATCH, Calibrations, Measured
from benchmarks.guarantee.figures import (
    Plan,
    Row,
    about_orders,
    in_closed_form,
    taken,
)
from benchmarks.harness.cli import at_least_one, finish, make_parser, open_rows
from benchmarks.harness.digest import PACKAGES, ROOT, code_digest
from benchmarks.harness.report import Figure
from training.exits.answers import Examples
from training.exits.calibration import FIRST, LOOKED_AT, SETTINGS, CalibrationPlan, calibrate
from training.exits.exit import Exit
from training.exits.path import OpenExit, chains, open_exit
from training.runs.loaded import Run, load_run

TRAINING = (
    *(
        "parity_extrapolation",
        "--halting.kind",
        "ExitGate",
        "--loop.max-steps",
        "8",
        "--model.width",
        "64",
    ),
    *("--data.length", "8", "--data.fewest", "1", "--data.most", "8"),
    *(
        "--data.test-fewest",
        "1",
        "--data.test-most",
        "8",
    ),  # a test like the training: what is promised is about that
    *(
        "--optimizer.learning-rate",
        "3e-3",
        "--schedule.warmup",
        "100",
        "--updates",
        "1500",
        "--seed",
        "0",
    ),
)
EXITS = ("learned", "convergence:kl", "confidence")
FINE = 14
_COARSE = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8)
_FROM = 0.85
_TO = 1.3
_BEYOND = 2.0
_REPEATED = 2
_RUN = "guarantee-benchmark"
MEASURED = (*PACKAGES, "benchmarks/guarantee/calibrations.py")
"""What a row depends on."""
QUICK = Plan(draws=20, test=2000, pilot=2000)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing and prints the table; 1 when a target is missed, 2 when the model
    cannot be trained."""
    parser = make_parser("guarantee", __doc__, quick="a short training, 20 draws")
    parser.add_argument("--exits", nargs="+", default=EXITS, help="only these")
    parser.add_argument("--draws", type=at_least_one, default=Plan.draws, help="calibrations")
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else Plan(draws=options.draws)
    figures = in_closed_form(1000 if options.quick else 5000)
    folder = trained(options.quick)
    if folder is None:
        return 2
    run = load_run(folder)
    measured = Calibrations(run, plan, open_rows("guarantee", options, code_digest(*MEASURED)))
    for spec in options.exits:
        given = open_exit(run, spec)
        close = measured.of(spec, close_to_the_risk(run, given, plan))
        own = measured.of(spec, as_calibrate_tries(run, given, plan))
        figures += about_orders(spec, close, own, plan)
        same = (
            sum(repeated(run, given, own, number, plan) for number in range(_REPEATED)) / _REPEATED
        )
        words = (
            f"{spec}: share of {_REPEATED} calibrations in which calibrate() itself takes the same"
        )
        figures.append(Figure(words, same, "1", same == 1))
    return finish(options, figures)


def trained(quick: bool) -> Path | None:
    """The run folder of the model, which is trained if it is not there."""
    name = f"{_RUN}-quick" if quick else _RUN
    folder = ROOT / "runs" / name
    if (folder / "summary.json").is_file():
        return folder
    short = ("--updates", "150") if quick else ()
    command = [
        sys.executable,
        "-m",
        "training.train",
        *TRAINING,
        *short,
        "--output",
        str(folder.parent),
        "--name",
        name,
    ]
    print("training:", "ponder train", *TRAINING, *short, flush=True)
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        print(f"it could not be trained: {ended.stderr[-500:]}", file=sys.stderr)
        return None
    return folder


def as_calibrate_tries(run: Run, given: OpenExit, plan: Plan) -> list[list[Exit]]:
    """The orders of tests of `ponder calibrate`, each from the last setting on that loses no more
    than a quarter of the allowed risk on a few training examples: those before it hold always, and
    would cost most of the time."""
    orders = chains(run, given, Examples.of(run.task, "train", 0, LOOKED_AT, LOOKED_AT), SETTINGS)
    pilot = Measured(run, Examples.of(run.task, "train", 0, plan.pilot // 5, BATCH))

    def loses(setting: Exit) -> bool:
        return bool(pilot.against_full_depth(setting)[0].mean() > plan.risk / 4)

    return [order[max(0, bisect_left(order, True, key=loses) - 1) :] for order in orders]


def close_to_the_risk(run: Run, given: OpenExit, plan: Plan) -> list[list[Exit]]:
    """Orders with a few settings up to the allowed risk, and many close together around it, as
    training examples show it; like those of calibrate one from the safest setting on, and one from
    that of the training."""
    assert given.threshold is not None
    pilot = Measured(run, Examples.of(run.task, "train", 0, plan.pilot, BATCH))
    threshold = given.threshold
    seen = dict[float, float]()

    def where(share: float) -> float:
        """How far on the way the risk has grown to this share of what is allowed."""
        low = 0.0
        high = 1.0
        for _ in range(14):
            middle = (low + high) / 2
            if middle not in seen:
                seen[middle] = float(
                    pilot.against_full_depth(given.at(threshold.at(middle)))[0].mean()
                )
            low, high = (low, middle) if seen[middle] > share * plan.risk else (middle, high)
        return high

    ways = [0.0, *map(where, _COARSE), *np.linspace(where(_FROM), where(_TO), FINE), where(_BEYOND)]
    settings = [given.at(threshold.at(float(way))) for way in sorted(set(ways))]
    whole = list({setting.name: setting for setting in settings}.values())
    if given.trained is None:
        return [whole]
    start = given.at(given.trained)
    cost = pilot.against_full_depth(start)[1]
    return [whole, [start, *(each for each in whole if pilot.against_full_depth(each)[1] < cost)]]


def repeated(
    run: Run, given: OpenExit, orders: Sequence[Sequence[Row]], number: int, plan: Plan
) -> bool:
    """Whether `ponder calibrate`'s own code takes the threshold in a calibration that the rows
    say."""
    examples = Examples.of(
        run.task, "validation", FIRST + number * plan.sequences, plan.sequences, BATCH
    )
    found = calibrate(run, [given], examples, CalibrationPlan(plan.risk, plan.confidence))
    expected = taken(orders, plan)[number]
    print(
        f"{given.spec:16} calibration {number}: calibrate() takes {found.exit}, the rows say "
        f"{expected}",
        flush=True,
    )
    return (found.exit if found.found else None) == expected
