"""A flag that takes a part of the recipe away says so."""

import pytest
from small_runs import small

from training.cli.train_request import read_request
from training.config.flags import parse
from training.config.replaced_parts import replaced_parts

GONE = "replaced the recipe's"
READOUT = "readout WeightedMean →"
COST = "cost ExpectedSteps →"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--halting.kind", "PonderNet"],
            f"--halting.kind PonderNet {GONE} {READOUT} EveryStep, {COST} GeometricPrior, "
            "penalty 0.02 → 0.01, the cost's own",
        ),
        (
            ["--halting.kind", "PonderNet", "--penalty.value", "0.5"],
            f"--halting.kind PonderNet {GONE} {READOUT} EveryStep, {COST} GeometricPrior",
        ),
        (
            ["--halting.kind", "FixedSteps"],
            f"--halting.kind FixedSteps {GONE} {READOUT} FinalState, {COST} none",
        ),
        (
            ["--cost.kind", "StepsPlusRemainder"],
            f"--cost.kind StepsPlusRemainder {GONE} {COST} StepsPlusRemainder, penalty 0.02 → 0.01, "
            "the cost's own",
        ),
        (["--halting.kind", "GravesACT"], None),
        (["--updates", "3"], None),
    ],
)
def test_what_went_is_told_in_one_line(tmp_path, flags, says):
    parts = {"cost": {"kind": "ExpectedSteps"}, "readout": {"kind": "WeightedMean"}}
    recipe = small(tmp_path, penalty={"value": 0.02}, **parts)
    assert replaced_parts(recipe, parse(recipe, flags)) == says


def test_the_line_is_on_the_screen(capsys):
    read_request(["pointer_chase", "--halting.kind", "PonderNet"])
    told = capsys.readouterr().out
    assert told.startswith("--halting.kind PonderNet replaced the recipe's penalty 0.01 → ")
    assert told.count("\n") == 1
    read_request(["pointer_chase", "--updates", "2000"])
    assert capsys.readouterr().out == ""
