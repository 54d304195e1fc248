"""Dealing: every row once, as many to each, even by what is expected; predictors that know the same
everywhere."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import small

from halting import UsageError
from training.build import build_all
from training.distributed.dealing import (
    BatchBalancer,
    ByDifficulty,
    ByLength,
    ByPonder,
    deal,
    in_order,
    slowest,
)
from training.tasks import Addition, Batch, ParityVector, PointerChase, TextBytes

COSTS = st.floats(0, 1e6, allow_nan=False)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))


@given(
    SHAPES.flatmap(
        lambda shape: st.tuples(st.just(shape), st.lists(COSTS, min_size=120, max_size=120))
    )
)
@settings(max_examples=200, deadline=None)
def test_every_row_is_dealt_once_as_many_to_each_and_never_worse_than_in_order(given):
    (micro_batches, ranks, size), costs = given
    costs = np.array(costs[: micro_batches * ranks * size])
    dealt = deal(costs, micro_batches, ranks)
    assert dealt.shape == (micro_batches, ranks, size)
    assert sorted(dealt.flatten().tolist()) == list(range(len(costs)))
    assert slowest(costs, dealt) <= slowest(costs, in_order(len(costs), micro_batches, ranks))
    assert np.array_equal(deal(costs.copy(), micro_batches, ranks), dealt), (
        "the same costs, the same deal"
    )


def lost(costs: np.ndarray, dealt: np.ndarray) -> float:
    """The share of the ranks' time that goes in waiting."""
    return 1 - costs.sum() / dealt.shape[1] / slowest(costs, dealt)


@pytest.mark.parametrize(
    ("micro_batches", "ranks", "size"), [(1, 2, 8), (1, 16, 4), (2, 4, 8), (1, 256, 8)]
)
def test_true_costs_leave_little_to_wait_for(micro_batches, ranks, size):
    draws, rows = np.random.default_rng(0), micro_batches * ranks * size
    updates = [draws.gamma(4.0, 12.0, rows).round() for _ in range(10)]
    naive = sum(lost(costs, in_order(rows, micro_batches, ranks)) for costs in updates)
    assert sum(lost(costs, deal(costs, micro_batches, ranks)) for costs in updates) < 0.15 * naive


def test_half_of_the_rows_cheap_is_dealt_perfectly():
    costs = np.array([9.0] * 8 + [1.0] * 8)  # in order, one rank has all that is heavy
    assert lost(costs, in_order(16, 1, 2)) > 0.4
    assert lost(costs, deal(costs, 1, 2)) == 0


def test_the_exchange_mends_what_rounds_cannot():
    costs = np.array([8.0, 7.0, 6.0, 5.0, 4.0, 1.0])  # rounds end at {8, 5, 4} and {7, 6, 1}
    assert sorted(costs[deal(costs, 1, 2)].sum(2).flatten().tolist()) == [15, 16]


def test_equal_costs_stay_in_order():
    assert np.array_equal(deal(np.full(24, 3.0), 2, 3), in_order(24, 2, 3))


def test_single_rows_meet_those_of_their_size_and_add_up_evenly():
    costs = np.array([1.0, 9.0, 2.0, 8.0, 1.0, 9.0, 2.0, 8.0])
    dealt = deal(costs, 4, 2)
    assert np.abs(np.diff(costs[dealt].sum(2), axis=1)).max() <= 1, (
        "in no micro-batch does a rank wait long"
    )
    assert np.ptp(costs[dealt].sum((0, 2))) == 0, "and none at the end"


def steps_of(batch: Batch) -> torch.Tensor:
    """What a model might do: a step more than the difficulty."""
    return (1 + batch.difficulty.nan_to_num(0).long()) * batch.valid


def test_by_length_counts_real_tokens():
    batch = Addition(digits=5).batch("train", 0, 16)
    assert ByLength().costs(batch).tolist() == batch.valid.sum(1).tolist()


def test_by_difficulty_adds_a_step_a_token_and_leaves_padding_out():
    batch = Addition(digits=5).batch("train", 0, 16)
    expected = [
        sum(1 + d for d in row[real].tolist())
        for row, real in zip(batch.difficulty, batch.valid, strict=True)
    ]
    assert ByDifficulty(Addition(digits=5)).costs(batch).tolist() == expected


def test_the_last_map_foretells_what_follows_difficulty():
    task = PointerChase()
    predictor = ByPonder(task)
    before = task.batch("train", 0, 64)
    assert len(set(predictor.costs(before).tolist())) == 1, "nothing is known yet"
    predictor.learn(predictor.count(before, steps_of(before)))
    new = task.batch("train", 64, 64)
    true = steps_of(new).sum(1).double()
    assert torch.corrcoef(torch.stack((true, predictor.costs(new))))[0, 1] > 0.99


def test_the_last_map_forgets():
    task = PointerChase()
    predictor = ByPonder(task)
    batch = task.batch("train", 0, 64)
    predictor.learn(predictor.count(batch, 9 * batch.valid.long()))
    for _ in range(40):
        predictor.learn(predictor.count(batch, 2 * batch.valid.long()))
    assert predictor.costs(batch).tolist() == pytest.approx([2 * 16] * 64, rel=0.02)


@pytest.mark.parametrize(
    "task",
    [
        PointerChase(length=6),
        TextBytes(text=__file__, length=20),
        ParityVector(most=9),
        Addition(digits=3),
    ],
    ids=lambda task: type(task).__name__,
)
def test_the_last_map_comes_back_from_json_to_the_bit(task):
    predictor, other = ByPonder(task), ByPonder(task)
    for number in range(3):
        batch = task.batch("train", 8 * number, 8)
        steps = torch.randint(
            1, 5, batch.valid.shape, generator=torch.Generator().manual_seed(number)
        )
        predictor.learn(predictor.count(batch, steps))
    other.load_state_dict(json.loads(json.dumps(predictor.state_dict())))
    new = task.batch("train", 24, 8)
    assert torch.equal(other.costs(new), predictor.costs(new)) and bool(
        (predictor.costs(new) > 0).all()
    )


def test_micro_batches_teach_what_the_whole_teaches():
    task = PointerChase()
    predictor = ByPonder(task)
    whole = task.batch("train", 0, 8)
    parts = [whole.rows(0, 3), whole.rows(3, 8)]
    summed = sum(predictor.count(part, steps_of(part)) for part in parts)
    assert torch.equal(predictor.count(whole, steps_of(whole)), summed)


def test_padding_teaches_nothing():
    task = Addition(digits=5)
    predictor = ByPonder(task)
    batch = task.batch("train", 0, 16)
    counted = predictor.count(batch, torch.full(batch.valid.shape, 7))
    assert float(counted.chunk(2)[0].sum()) == int(batch.valid.sum())


def test_difficulty_that_nobody_knows_is_refused_before_anything_is_written(tmp_path):
    config = small(
        tmp_path,
        balance_by="difficulty",
        data={"kind": "TextBytes"},
        model={"width": 16, "num_heads": 2},
    )
    with pytest.raises(UsageError, match="--balance-by difficulty comes with TextBytes"):
        build_all(config)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_alone_takes_rows_as_they_come():
    task = PointerChase(length=6)
    given = BatchBalancer(task, ByDifficulty(task), micro_batches=2, size=4).batches(
        40, torch.device("cpu")
    )
    assert [batch.tokens.tolist() for batch in given.batches] == [
        task.batch("train", 40, 4).tokens.tolist(),
        task.batch("train", 44, 4).tokens.tolist(),
    ]
    assert float(given.valid) == 48 and float(given.target_weight) == 48
