"""The ponder map: what it holds, refuses and sums up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import fabricate, fabricate_text

from halting import PonderMap, UsageError
from halting.maps.ponder_map import IGNORE


def test_select_and_sequence() -> None:
    found = fabricate()
    chosen = found.select([2, 0])
    np.testing.assert_array_equal(chosen.mass, found.mass[[2, 0]])
    assert chosen.texts == [found.texts[2], found.texts[0]]
    assert found.select(slice(1, None)).num_sequences == 3
    for row in range(4):
        one = found.sequence(row)
        assert one.valid.all() and one.valid.shape == (1, found.valid[row].sum())
        np.testing.assert_array_equal(one.steps[0], found.steps[row][found.valid[row]])
    with pytest.raises(UsageError, match="Sequence 4"):
        found.sequence(4)
    with pytest.raises(UsageError, match="Sequence -1"):
        found.sequence(-1)


def test_summary_of_a_map_counted_by_hand() -> None:
    # Steps 1 2 4 | 3, difficulties 0 1 1 | unknown, answers right, wrong, not asked | right; one
    # padded place.
    steps = np.array([[1, 2, 4], [3, 0, 0]])
    mass = (np.arange(1, 5) == steps[..., None]).astype(np.float32)
    found = PonderMap(
        tokens=steps,
        texts=[["a", "b", "c"], ["d", "", ""]],
        valid=steps > 0,
        steps=steps,
        ponder=steps * 0.5,
        mass=mass,
        score=mass,
        targets=np.array([[7, 7, IGNORE], [5, 7, 7]]),
        final_prediction=np.array([[7, 6, 7], [5, 7, 7]]),
        difficulty=np.array([[0, 1, 1], [np.nan, 0, 0]]),
    )
    summary = found.summary()
    assert summary["tokens"] == 4
    assert summary["mean_steps"] == 2.5 and summary["mean_ponder"] == 1.25
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["spearman"] == pytest.approx(np.sqrt(3) / 2)  # ranks 1, 2.5, 2.5 against 1, 2, 3
    assert summary["steps_by_difficulty"] == [
        {"difficulty": 0, "steps": 1, "spread": 0, "tokens": 1},
        {"difficulty": 1, "steps": 3, "spread": 1, "tokens": 2},
    ]
    assert found.wrong.tolist() == [[False, True, False], [False, False, False]]
    json.dumps(summary, allow_nan=False)


def rated(difficulty: np.ndarray) -> PonderMap:
    text = fabricate_text("x" * len(difficulty))
    return replace(text, difficulty=difficulty[None])


def test_many_difficulties_are_put_into_ten_groups() -> None:
    groups = rated(np.random.default_rng(0).permutation(1000) / 7).steps_by_difficulty()
    assert [group.tokens for group in groups] == [100] * 10
    assert [group.difficulty for group in groups] == pytest.approx(
        [(100 * n + 49.5) / 7 for n in range(10)]
    )


@pytest.mark.parametrize("common", [-1.0, 99.0])
def test_a_difficulty_that_most_tokens_share_keeps_its_own_group(common: float) -> None:
    groups = rated(np.concatenate([np.full(900, common), np.arange(100)])).steps_by_difficulty()
    assert sum(group.tokens for group in groups) == 1000
    assert len(groups) > 1 and max(group.tokens for group in groups) in (900, 901)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"tokens": np.zeros((4, 15), np.int32)}, "tokens"),
        ({"tokens": np.zeros((4, 16))}, "tokens"),
        ({"targets": np.full((4, 16), 2**40)}, str(2**40)),
        ({"steps": np.full((4, 16), 11)}, "11"),
        ({"steps": np.full((4, 16), -1)}, "-1"),
        ({"steps": np.full((4, 16), 3)}, "padding"),
        ({"mass": np.zeros((4, 16, 10))}, "sum to 1"),
        ({"mass": np.full((4, 16, 10), np.nan)}, "tokens have a mass"),
        ({"mass": np.zeros((4, 16))}, r"mass is \[4, 16\]"),
        ({"texts": [["a"] * 16] * 3}, "texts"),
        ({"valid": None}, "valid"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        replace(fabricate(), **changes)


def test_arrays_are_read_only_and_the_givers_stay_writable() -> None:
    given_mass = fabricate().mass.copy()
    found = replace(fabricate(), mass=given_mass)
    with pytest.raises(ValueError, match="read-only"):
        found.mass[0, 0, 0] = 1
    given_mass[0, 0, 0] += 0


def test_answers() -> None:
    found = fabricate()
    assert (found.answer_text(3), found.answer_text(-1)) == ("3", "")
    listed, named = (
        replace(found, metadata={"answers": answers}) for answers in (["no", "yes"], {1: "yes"})
    )
    assert [listed.answer_text(index) for index in (0, 1, 2)] == ["no", "yes", "2"]
    assert [named.answer_text(index) for index in (0, 1, 2)] == ["0", "yes", "2"]


def test_importing_halting_and_writing_text_import_nothing_slow(tmp_path: Path) -> None:
    fabricate().save(tmp_path / "map")
    script = """
import sys, halting
def there(*names): print(*sorted({*names} & sys.modules.keys()), sep=",")
there("matplotlib", "rich", "scipy", "halting.maps.viewers")
str(halting.PonderMap.load(sys.argv[1]))
there("matplotlib", "rich", "scipy")
halting.PonderMap.load(sys.argv[1])._repr_html_()
there("matplotlib", "scipy")
"""
    root = Path(__file__).resolve().parents[3]
    arguments = [sys.executable, "-c", script, str(tmp_path / "map")]
    ended = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["", "rich", ""]
