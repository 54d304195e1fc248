"""Parity of a vector: what an example is, both layouts, and a GRU cell trained over one
position."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_runs import losses, small

from act import GRUBlock
from halting import UsageError
from halting.maps.ponder_map import PonderMap
from training import load_run
from training.cli.main import main
from training.resources.dry_run import plan
from training.start import train
from training.tasks import IGNORE, SPLITS, Batch, ParityVector

SMALL = {"length": 8, "most": 4, "test_fewest": 5, "test_most": 8}
GRU = {"width": 16, "num_heads": 2, "block": "GRUBlock"}


def same(first: Batch, second: Batch) -> bool:
    ours, theirs = first.carried(), second.carried()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


@pytest.mark.parametrize("split", SPLITS)
def test_an_example_is_a_vector_and_the_parity_of_its_ones(split):
    batch = ParityVector().batch(split, 3, 400)
    assert batch.tokens.shape == (400, 1, 96) and batch.targets.shape == batch.valid.shape == (
        400,
        1,
    )
    low, high = (49, 96) if split == "test" else (1, 48)
    counts = set()
    for vector, answer, difficulty in zip(
        batch.tokens[:, 0].tolist(), batch.targets, batch.difficulty, strict=True
    ):
        assert set(vector) <= {-1, 0, 1}
        assert answer.item() == vector.count(1) % 2
        assert difficulty.item() == 96 - vector.count(0)
        counts.add(96 - vector.count(0))
    assert min(counts) == low and max(counts) == high and len(counts) > 40
    assert batch.valid.all() and 0.4 < batch.targets.double().mean() < 0.6


def test_signs_and_places_are_uniform():
    vectors = ParityVector().batch("train", 0, 20_000).tokens[:, 0].double()
    assert (vectors.mean(0)).abs().max() < 0.02
    share = vectors.abs().mean(0)
    assert (share - 24.5 / 96).abs().max() < 0.015


def test_the_layouts_hold_the_same_examples():
    vector, tokens = (
        ParityVector(layout=layout, seed=3).batch("test", 5, 50) for layout in ("vector", "tokens")
    )
    task = ParityVector(layout="tokens")
    assert (task.vocab_size, task.max_length, task.vector_size, task.causal) == (3, 96, None, False)
    assert (
        tokens.tokens.shape
        == tokens.targets.shape
        == tokens.valid.shape
        == tokens.difficulty.shape
        == (50, 96)
    )
    assert torch.equal(tokens.tokens, vector.tokens[:, 0] % 3)
    assert (
        torch.equal(tokens.targets[:, -1:], vector.targets)
        and (tokens.targets[:, :-1] == IGNORE).all()
    )
    assert torch.equal(tokens.difficulty, vector.difficulty.expand(50, 96)) and tokens.valid.all()


@pytest.mark.parametrize("layout", ["vector", "tokens"])
def test_batches_are_a_pure_function_of_seed_split_and_number(layout):
    whole = ParityVector(layout=layout).batch("train", 5, 13)
    for start, stop in pairwise((5, 9, 10, 18)):
        assert same(
            ParityVector(layout=layout).batch("train", start, stop - start),
            whole.rows(start - 5, stop - 5),
        )
    others = [
        ParityVector(layout=layout, seed=seed).batch(split, 0, 16)
        for seed in (0, 1)
        for split in SPLITS
    ]
    assert not any(same(a, b) for number, a in enumerate(others) for b in others[:number])


def test_texts():
    task, tokens = ParityVector(**SMALL), ParityVector(**SMALL, layout="tokens")
    assert task.encode("1 0 -1 +1") == [[1, 0, -1, 1, 0, 0, 0, 0]]
    assert tokens.encode("1 0 −1") == [1, 0, 2]
    assert task.decode(task.encode("1 0 -1 +1")) == ["2+ 1−"] and task.decode([0, 1]) == ["0", "1"]
    assert tokens.decode([0, 1, 2]) == ["0", "1", "−1"]
    for text in ("", "2", "1,0", "0 " * 9):
        with pytest.raises(UsageError):
            task.encode(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"length": 1}, "--data.length is 1"),
        ({"length": 40}, "--data.most 48"),
        ({"fewest": 5, "most": 4}, "--data.fewest 5 and --data.most 4"),
        ({"test_most": 97}, "--data.test-most 97"),
        ({"fewest": -1}, "--data.fewest -1"),
    ],
)
def test_numbers_that_no_vector_has_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        ParityVector(**options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A GRU cell with Graves' rule over vectors of 8 elements, trained on up to 4 non-zero ones."""
    output = tmp_path_factory.mktemp("vector")
    config = small(
        output,
        name="gru",
        data={"kind": "ParityVector", "options": SMALL},
        model=GRU,
        updates=250,
        batch_size=64,
        eval_every=125,
        eval_examples=256,
        save_every=250,
        optimizer={"learning_rate": 1e-2},
        schedule={"kind": "WarmupCosine", "options": {"warmup": 20}},
        penalty={"value": 0.001},
    )
    assert train(config) == 0
    return load_run(output / "gru")


def test_a_cell_over_one_position_is_a_run_like_any_other(run, capsys):
    assert isinstance(run.model.recurrence.block, GRUBlock)
    told = list(losses(run.folder).values())
    assert np.mean(told[-50:]) < 0.8 * np.mean(told[:20])
    kept = PonderMap.load(run.folder / "ponder_map")
    batch = run.task.batch("test", 0, 16)
    assert kept.steps.shape == (16, 1) and (kept.difficulty >= 5).all() and (kept.tokens == 0).all()
    np.testing.assert_array_equal(kept.steps, run.ponder_map(batch).steps)
    assert kept.texts[0] == run.task.decode(batch.tokens[0].tolist())
    assert run.ponder_map("1 -1 1").texts == [["2+ 1−"]]
    assert main(["show", str(run.folder)]) == 0 and "2+" in capsys.readouterr().out
    assert (
        main(["eval", str(run.folder), "--exit", "learned", "fixed:2", "--by", "difficulty"]) == 0
    )


@pytest.mark.parametrize("layout", ["vector", "tokens"])
@pytest.mark.parametrize("block", ["GRUBlock", "Block"])
def test_every_pairing_of_layout_and_block_trains_and_plans(tmp_path, layout, block):
    data = {"kind": "ParityVector", "options": {**SMALL, "layout": layout}}
    config = small(tmp_path, data=data, model={**GRU, "block": block}, updates=2, precision="bf16")
    assert plan(config).parameters["embeddings"] == 16 * (8 if layout == "vector" else 3)
    assert train(config) == 0


def test_settings_that_a_cell_has_not_are_refused(tmp_path):
    for changes in ({"num_layers": 2}, {"step_signal": "sinusoidal"}):
        with pytest.raises(UsageError, match="LoopedTransformer of GRUBlock has no option"):
            small(tmp_path, model={**GRU, **changes})
