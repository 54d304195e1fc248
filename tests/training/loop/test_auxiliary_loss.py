"""A block's auxiliary loss, in a whole training."""

from pathlib import Path

import pytest
from small_runs import small, train_only

from tests.distributed import frugal_block
from training.loop.update import MetricsSinceEvaluation, Update
from training.runs.metrics import read_metrics

BLOCK = f"{Path(frugal_block.__file__)}:FrugalBlock"
AUXILIARY = "auxiliary_loss"
FAST = {"optimizer": {"kind": "AdamW", "learning_rate": 0.02}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The lines of each update, by what the auxiliary loss weighs."""
    output = tmp_path_factory.mktemp("runs")
    lines = {}
    for price in (0.0, 2.0):
        model = {"block": BLOCK, "options": {"width": 16, "num_heads": 2, "price": price}}
        config = small(
            output, name=f"price {price:g}", model=model, updates=40, eval_every=40, **FAST
        )
        assert train_only(config) == 0
        lines[price] = read_metrics(output / f"price {price:g}", "train")
    return lines


def test_the_loss_is_the_sum_of_its_terms(trained):
    for price, lines in trained.items():
        assert len(lines) == 40
        for line in lines:
            assert (line[AUXILIARY] > 0) == (price > 0)
            whole = line["task_loss"] + line["penalty"] * line["ponder_cost"] + line[AUXILIARY]
            assert line["loss"] == pytest.approx(whole, rel=1e-6)


def test_it_is_minimised(trained):
    """Gates that cost something close; those that cost nothing don't."""
    lines = trained[2.0]
    closing = lines[-1][AUXILIARY] / lines[-1]["mean_steps"]
    open_still = lines[0][AUXILIARY] / lines[0]["mean_steps"]
    assert closing < 0.8 * open_still


def test_a_block_without_one_writes_none(tmp_path):
    assert train_only(small(tmp_path, name="plain", updates=2)) == 0
    assert all(AUXILIARY not in line for line in read_metrics(tmp_path / "plain", "train"))


def test_the_penalty_has_no_share_in_it():
    since = MetricsSinceEvaluation()
    measured = Update(
        loss=4.0,
        task_loss=1.0,
        ponder_cost=10.0,
        mean_steps=2.0,
        mean_ponder=2.0,
        depth=4,
        valid=8,
        stop=False,
        auxiliary_loss=2.0,
    )
    since.add(measured, 1.0)
    assert since.penalty_share == pytest.approx(0.25)
