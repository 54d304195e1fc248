"""Tasks: examples are a pure function of seed, split and number; answers and difficulties are what
plain loops find."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halting import UsageError
from training.config.flags import parse
from training.config.parts import build, resolve
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, Part
from training.tasks import IGNORE, SPLITS, Addition, Batch, Parity, PointerChase, Task, TextBytes
from training.tasks.draws import Draws

MAKERS: dict[str, Callable[[int], Task]] = {
    "pointer_chase": lambda seed: PointerChase(seed=seed),
    "pointer_chase_short": lambda seed: PointerChase(length=3, colours=2, seed=seed),
    "parity": lambda seed: Parity(length=7, seed=seed),
    "addition": lambda seed: Addition(digits=5, seed=seed),
    "text_bytes": lambda seed: TextBytes(text=str(Path(__file__)), length=20, seed=seed),
}


@pytest.fixture(params=MAKERS, ids=str)
def make(request: pytest.FixtureRequest) -> Callable[[int], Task]:
    return MAKERS[request.param]


def same(first: Batch, second: Batch) -> bool:
    ours, theirs = first.carried(), second.carried()
    assert ours.keys() == theirs.keys()
    pairs = [(ours[name], theirs[name]) for name in ours]
    return all(
        a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy(), equal_nan=a.is_floating_point())
        for a, b in pairs
    )


def examples(task: Task, size: int = 64) -> list[tuple[list[int], list[int], list[float]]]:
    """Tokens, targets and difficulties of the valid positions, an example at a time."""
    batch = task.batch("train", 0, size)
    rows = zip(batch.tokens, batch.targets, batch.difficulty, batch.valid, strict=True)
    return [(t[v].tolist(), y[v].tolist(), d[v].tolist()) for t, y, d, v in rows]


# Draws


def test_draws_are_the_published_splitmix64():
    # Seed 0: the first outputs of the reference implementation by Vigna (splitmix64.c).
    draws = Draws(0, "train", 0, 1)
    draws._keys = np.zeros((1, 1), dtype=np.uint64)
    assert [hex(bits) for bits in draws.bits(3)[0].tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_draws_continue_where_they_stopped():
    at_once, in_parts = Draws(5, "test", 9, 4), Draws(5, "test", 9, 4)
    assert np.array_equal(
        at_once.bits(7), np.concatenate([in_parts.bits(3), in_parts.bits(4)], axis=1)
    )


def test_no_two_examples_of_any_split_share_a_draw():
    bits = np.concatenate(
        [Draws(3, split, 0, 2000).bits(8) for split in SPLITS]
        + [Draws(4, "train", 0, 2000).bits(8)]
    )
    assert len(np.unique(bits)) == bits.size


def test_integers_are_uniform_and_respect_their_limits():
    draws = Draws(0, "train", 0, 20_000)
    counts = np.bincount(draws.integers(7, 3).ravel(), minlength=7)
    assert counts.size == 7
    expected = 60_000 / 7
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 22.5  # chi squared, 6 degrees of freedom: 99.9 %
    columns = draws.integers(np.array([1, 2, 50]), 3)
    assert columns.max(axis=0).tolist() == [0, 1, 49]
    assert columns.min(axis=0).tolist() == [0, 0, 0]


def test_permutations_are_permutations_in_every_order():
    orders = Draws(0, "train", 0, 6000).permutations(3)
    assert (np.sort(orders, axis=1) == np.arange(3)).all()
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # 5 degrees of freedom: 99.9 %


@pytest.mark.parametrize(
    ("split", "index", "size"), [("training", 0, 1), ("train", -1, 1), ("train", 0, -1)]
)
def test_draws_refuse_examples_that_do_not_exist(split: str, index: int, size: int):
    with pytest.raises(UsageError, match=r"training|-1"):
        Parity().batch(split, index, size)


# Every task


def test_batches_are_well_formed(make: Callable[[int], Task]):
    task = make(0)
    batch = task.batch("validation", 3, 9)
    shape = (9, task.max_length)
    assert [
        part.shape for part in (batch.tokens, batch.targets, batch.valid, batch.difficulty)
    ] == [shape] * 4
    assert [part.dtype for part in (batch.tokens, batch.targets)] == [torch.int64] * 2
    assert (batch.valid.dtype, batch.difficulty.dtype) == (torch.bool, torch.float32)
    assert batch.tokens.min() >= 0 and batch.tokens.max() < task.vocab_size
    answers = batch.targets[batch.has_target]
    assert answers.min() >= 0 and answers.max() < task.vocab_size
    assert torch.equal(batch.has_target, batch.valid)
    assert batch.valid[:, 0].all()
    assert task.difficulty_name is None or torch.equal(batch.difficulty.isnan(), ~batch.valid)


@pytest.mark.parametrize(
    "cuts", [(0, 4, 8), (0, 1, 2, 7), (5, 18), (11, 12, 13), (2**40 + 1, 2**40 + 4)]
)
def test_batches_stack(make: Callable[[int], Task], cuts: tuple[int, ...]):
    whole = make(0).batch("train", cuts[0], cuts[-1] - cuts[0])
    for start, stop in pairwise(cuts):
        part = make(0).batch("train", start, stop - start)
        assert same(part, whole.rows(start - cuts[0], stop - cuts[0]))


@pytest.mark.parametrize("numbers", [[5], [7, 3, 4], [0, 2**40, 9], [6, 6]])
def test_examples_by_number_are_those_of_batches(make: Callable[[int], Task], numbers: list[int]):
    picked = make(0).examples("train", numbers)
    for row, number in enumerate(numbers):
        assert same(picked.rows(row, row + 1), make(0).batch("train", number, 1))


def test_a_batch_does_not_depend_on_earlier_calls(make: Callable[[int], Task]):
    task = make(1)
    first = task.batch("test", 7, 5)
    task.batch("train", 0, 3)
    torch.manual_seed(99)
    assert same(task.batch("test", 7, 5), first)
    assert not same(task.batch("test", 8, 5), first)


def test_splits_and_seeds_differ(make: Callable[[int], Task]):
    batches = [make(seed).batch(split, 0, 16).tokens for split in SPLITS for seed in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_unseen_examples_are_unseen():
    seen, unseen = (
        PointerChase().batch(split, 0, 2000).tokens.tolist() for split in ("train", "test")
    )
    assert not {tuple(row) for row in seen} & {tuple(row) for row in unseen}


@pytest.mark.parametrize("cls", [PointerChase, Parity, Addition, TextBytes])
def test_a_config_and_its_flags_find_the_task(cls: type[Task]):
    assert resolve(cls.__name__, Task) is cls
    recipe = RunConfig(
        recipe="r", halting=HaltingPart(kind="FixedSteps"), data=Part(kind="PointerChase")
    )
    option = "digits" if cls is Addition else "length"
    config = parse(recipe, ["--data.kind", cls.__name__, f"--data.{option}", "9"])
    assert config.data.kind == cls.__name__
    task = build(config.data, Task, seed=3)
    assert isinstance(task, cls)
    assert task.max_length == 9 + (cls is Addition)
    options: dict[str, Any] = {option: 9, "seed": 3}
    assert same(task.batch("train", 0, 4), cls(**options).batch("train", 0, 4))


@pytest.mark.parametrize(
    ("maker", "flag"),
    [
        (lambda: PointerChase(length=1), "--data.length"),
        (lambda: PointerChase(colours=1), "--data.colours"),
        (lambda: Parity(length=0), "--data.length"),
        (lambda: Addition(digits=0), "--data.digits"),
        (lambda: TextBytes(length=-5), "--data.length"),
    ],
)
def test_bad_options_are_refused(maker: Callable[[], Task], flag: str):
    with pytest.raises(UsageError, match=flag) as caught:
        maker()
    assert caught.value.write.startswith(f"Write {flag} ")


# Pointer chase


@given(st.integers(2, 40), st.integers(2, 15), st.integers(0, 2**63), st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_pointers_lead_to_the_colour(length: int, colours: int, seed: int, index: int):
    batch = PointerChase(length, colours, seed=seed).batch("train", index, 3)
    rows = zip(
        batch.tokens.tolist(), batch.targets.tolist(), batch.difficulty.tolist(), strict=True
    )
    for tokens, targets, difficulty in rows:
        for position in range(length):
            at, hops = position, 0
            while tokens[at] >= colours:
                at, hops = tokens[at] - colours, hops + 1
                assert hops < length, "a circle"
            assert (targets[position], difficulty[position]) == (tokens[at], hops)


def test_forests_have_two_to_four_roots_anywhere_each_in_a_colour_of_its_own():
    batch = PointerChase().batch("train", 0, 4000)
    roots = batch.tokens < 4
    number = np.bincount(roots.sum(1).numpy(), minlength=5)
    assert number[2:].min() > 1200 and len(number) == 5 and number[:2].sum() == 0
    for tokens, is_root in zip(batch.tokens[:100], roots[:100], strict=True):
        assert len(tokens[is_root].unique()) == is_root.sum()
    share = roots.float().mean(0)  # of 3 roots in 16 positions
    assert (share - 3 / 16).abs().max() < 0.025
    colours = torch.bincount(batch.tokens[roots]) / roots.sum()
    assert (colours - 0.25).abs().max() < 0.02
    hops = torch.bincount(batch.difficulty.flatten().long()) / batch.difficulty.numel()
    assert len(hops) >= 8 and hops[3] > 0.1 and hops[5] > 0.01


def test_pointer_chase_reads_what_it_writes():
    task = PointerChase(length=16, colours=14)
    for tokens, _, _ in examples(task):
        assert task.encode(" ".join(task.decode(tokens))) == tokens
    assert task.encode(" Red →0\n->1 2 colour13 gold") == [0, 14, 15, 16, 13, 3]
    assert task.decode([0, 3, 13, 14, 29]) == ["red", "gold", "colour13", "→0", "→15"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 words"),
        ("red " * 17, "17 words"),
        ("red mauve", "'mauve'"),
        ("red pink", "'pink'"),
        ("red -1", "'-1'"),
        ("red →2", "'→2' points out"),
        ("red " + "9" * 5000, "999"),
        ("red →2 →1", "circle"),
        ("red →1", "circle through position 1"),
    ],
)
def test_pointer_chase_refuses_other_texts(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        PointerChase().encode(text)


# Parity


def test_parity_counts_the_ones_so_far():
    for tokens, targets, difficulty in examples(Parity(length=9)):
        assert targets == [sum(tokens[: place + 1]) % 2 for place in range(9)]
        assert difficulty == [*range(1, 10)]


def test_parity_is_balanced_and_causal_unless_told_otherwise():
    batch = Parity().batch("train", 0, 2000)
    assert abs(batch.tokens.double().mean() - 0.5) < 0.01
    assert (batch.targets.double().mean(0) - 0.5).abs().max() < 0.05
    assert Parity().causal and not Parity(causal=False).causal


def test_parity_reads_what_it_writes():
    task = Parity()
    assert task.encode("10 1\t1") == task.encode("1 0 1 1") == [1, 0, 1, 1]
    assert task.decode([1, 0, 1]) == ["1", "0", "1"]
    for text in ("", " ", "1 2", "one", "1,0"):
        with pytest.raises(UsageError, match="not a row of bits"):
            task.encode(text)


# Addition


@pytest.mark.parametrize("digits", [1, 2, 8, 25])
def test_sums_are_right_and_carries_counted(digits: int):
    task = Addition(digits)
    for tokens, targets, difficulty in examples(task, 200):
        first, second = (
            sum(part * 10**i for i, part in enumerate(parts)) for parts in digits_of(tokens)
        )
        assert [target - 100 for target in targets] == [
            int(d) for d in reversed(f"{first + second:0{len(tokens)}d}")
        ]
        assert tokens[-1] == 0
        for place in range(len(tokens)):
            low = 10**place
            carries_in = first % low + second % low >= low
            source = place - 1  # back to where the carry was made: the nearest pair that is no nine
            while carries_in and sum(divmod(tokens[source], 10)) == 9:
                source -= 1
            assert difficulty[place] == (place - source if carries_in else 0)


def digits_of(tokens: list[int]) -> tuple[list[int], list[int]]:
    return [token // 10 for token in tokens], [token % 10 for token in tokens]


def test_chains_are_frequent_and_long_and_lengths_vary():
    batch = Addition().batch("train", 0, 40_000)
    num_digits = batch.valid.sum(1) - 1
    assert torch.bincount(num_digits, minlength=9)[1:].min() > 4700
    assert num_digits.max() == 8
    is_digit = torch.arange(9) < num_digits[:, None]
    pairs = batch.tokens[is_digit]
    assert abs((pairs // 10 + pairs % 10 == 9).double().mean() - 0.5) < 0.01
    assert len(pairs.unique()) == 100
    last = batch.difficulty[num_digits == 8, 8]
    assert abs((last > 0).double().mean() - (1 - 0.5**8) / 2) < 0.05
    assert (last >= 2).double().mean() > 0.2 and last.max() >= 6
    assert (batch.targets[~batch.valid] == IGNORE).all() and (batch.tokens[~batch.valid] == 0).all()


def test_a_carry_runs_through_nines():
    task = Addition()
    tokens = task.encode("9995+5")
    assert task.decode(tokens) == ["5+5", "9+0", "9+0", "9+0", "0+0"]
    assert task.encode(" 7 + 12 ") == [72, 1, 0]
    assert task.decode([100, 109, 39]) == ["0", "9", "3+9"]
    assert not Addition().causal and Addition(causal=True).causal
    for text in ("", "12", "1+", "1+2+3", "-1+2", "1.5+2", "a+b", "²+1"):
        with pytest.raises(UsageError, match="not a sum"):
            task.encode(text)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
@settings(max_examples=50, deadline=None)
def test_any_sum_can_be_written(first: int, second: int):
    parts = digits_of(Addition().encode(f"{first}+{second}"))
    assert [sum(digit * 10**i for i, digit in enumerate(part)) for part in parts] == [first, second]
