"""The two files of a ponder map: what they keep, and what is refused."""

import hashlib
import io
import json
import os
import tracemalloc
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import empty, fabricate, fabricate_text
from hypothesis import given, settings
from hypothesis import strategies as st

from halting import PonderMap, UsageError
from halting.maps import file as map_file
from halting.maps.ponder_map import IGNORE

EXACT = (
    "tokens",
    "valid",
    "steps",
    "ponder",
    "predictions",
    "targets",
    "final_prediction",
    "difficulty",
)


def rewritten(path: Path, **changes: object) -> None:
    """Changes fields of a map's JSON; None takes a field away."""
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def with_arrays(stem: Path, **changes: np.ndarray | None) -> None:
    """Changes arrays of a map's .npz, and its JSON so that the two agree; None takes an array
    away."""
    with np.load(stem.with_suffix(".npz")) as stored:
        arrays = {**stored, **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=True, **arrays)
    stem.with_suffix(".npz").write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    rewritten(stem.with_suffix(".json"), arrays=list(arrays), npz_sha256=digest)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    fabricate().save(tmp_path / "map")
    return tmp_path / "map"


@pytest.mark.parametrize("name", ["map", "map.npz", "map.json", "penalty-0.5"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    found = fabricate(3, 20, 12)
    found.save(tmp_path / "new" / name)
    loaded = PonderMap.load(tmp_path / "new" / name)
    for field in EXACT:
        np.testing.assert_array_equal(getattr(loaded, field), getattr(found, field), field)
    assert (loaded.texts, loaded.metadata) == (found.texts, found.metadata)
    for field in fields(PonderMap):
        if field.name not in ("texts", "metadata"):
            assert getattr(loaded, field.name).dtype == getattr(found, field.name).dtype, field.name


@settings(max_examples=25, deadline=None, database=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(0.05, 5))
def test_precision_is_as_the_file_says(
    tmp_path_factory, seed: int, num_steps: int, evenness: float
) -> None:
    random = np.random.default_rng(seed)
    mass = random.dirichlet(np.full(num_steps, evenness), (2, 9))
    probability = np.where(
        random.random(mass.shape) < 0.2, np.nan, random.random(mass.shape)
    ).astype(np.float32)
    score = (random.normal(size=mass.shape) * 10.0 ** random.integers(-9, 4, mass.shape)).astype(
        np.float32
    )
    whole = np.ones((2, 9), np.int32)
    texts = [["x"] * 9] * 2
    found = PonderMap(
        whole, texts, whole > 0, whole, whole * 1.5, mass, score, target_probability=probability
    )
    path = tmp_path_factory.mktemp("map") / "map"
    found.save(path)
    loaded = PonderMap.load(path)
    rounding = 1e-6  # of float32 itself
    assert np.abs(loaded.mass - mass).max() <= num_steps / 131070 + rounding
    np.testing.assert_allclose(loaded.mass.sum(-1, dtype=np.float64), 1, atol=rounding)
    assert loaded.target_probability is not None
    np.testing.assert_allclose(
        loaded.target_probability, probability, atol=1 / 508 + rounding, equal_nan=True
    )
    np.testing.assert_allclose(loaded.score, score, rtol=1 / 2048, atol=3e-8)
    np.testing.assert_array_equal(loaded.ponder, found.ponder)


def test_scores_too_large_for_half_precision_are_exact(tmp_path: Path) -> None:
    score = fabricate().score.copy()
    score[0, 0, 0] = 1e9
    found = replace(fabricate(), score=score)
    found.save(tmp_path / "map")
    np.testing.assert_array_equal(PonderMap.load(tmp_path / "map").score, score)


@pytest.mark.parametrize("index", [0, 127, 128, 32767, 32768, 2**31 - 1])
def test_large_vocabularies_are_exact(tmp_path: Path, index: int) -> None:
    found = replace(fabricate(), targets=np.where(fabricate().valid, index, IGNORE))
    found.save(tmp_path / "map")
    np.testing.assert_array_equal(PonderMap.load(tmp_path / "map").targets, found.targets)


def test_a_map_without_the_optional_arrays(tmp_path: Path) -> None:
    found = replace(fabricate_text("a b"), target_probability=None)
    found.save(tmp_path / "map")
    loaded = PonderMap.load(tmp_path / "map")
    assert (
        loaded.predictions
        is loaded.targets
        is loaded.difficulty
        is loaded.target_probability
        is None
    )
    assert not loaded.has_target.any() and not loaded.correct.any() and not loaded.wrong.any()
    assert loaded.summary()["accuracy"] is loaded.summary()["spearman"] is None


def test_texts_of_any_kind_survive(tmp_path: Path) -> None:
    texts = ['"', "\\", "\n", "\x00", "שלום", "👩‍🚀", "\ud800", "</script>"]
    found = replace(fabricate_text("abcdefgh"), texts=[texts])
    found.save(tmp_path / "map")
    assert PonderMap.load(tmp_path / "map").texts == [texts]


def test_a_thousand_sequences_take_less_than_40_megabytes(tmp_path: Path) -> None:
    # A fiftieth, of numbers that no compression shortens, scaled up.
    random = np.random.default_rng(0)
    batch, length, num_steps, vocabulary = 20, 256, 16, 50_000
    cube, grid = (batch, length, num_steps), (batch, length)
    found = PonderMap(
        tokens=random.integers(0, vocabulary, grid),
        texts=[
            [f"token{number}" for number in row] for row in random.integers(0, vocabulary, grid)
        ],
        valid=np.ones(grid, bool),
        steps=random.integers(1, num_steps + 1, grid),
        ponder=random.random(grid),
        mass=random.dirichlet(np.ones(num_steps), grid),
        score=random.normal(size=cube),
        predictions=random.integers(0, vocabulary, cube),
        confidence=random.random(cube),
        target_probability=random.random(cube),
        targets=random.integers(0, vocabulary, grid),
        final_prediction=random.integers(0, vocabulary, grid),
        difficulty=random.random(grid),
    )
    found.save(tmp_path / "map")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size * 1000 / batch < 40e6


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_files_are_refused_by_name(saved: Path, suffix: str, damage: str) -> None:
    file = saved.with_suffix(suffix)
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(
            {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x80" + content}[
                damage
            ]
        )
    with pytest.raises(UsageError, match=f"map{suffix}.*cannot be read as a ponder map"):
        PonderMap.load(saved)


def test_the_files_of_two_maps_are_no_pair(saved: Path) -> None:
    fabricate(seed=1).save(saved.with_name("other"))
    saved.with_name("other.npz").replace(saved.with_suffix(".npz"))
    with pytest.raises(UsageError, match=r"not the partner of map\.json"):
        PonderMap.load(saved)


def test_each_text_is_kept_once(tmp_path: Path) -> None:
    replace(fabricate_text("x" * 500), texts=[["a long text of a token"] * 500]).save(
        tmp_path / "map"
    )
    assert (tmp_path / "map.json").read_text().count("a long text") == 1


@pytest.mark.parametrize("version", [0, 1, 3, "2", [2], 2.5, True])
def test_other_schema_versions_are_refused(saved: Path, version: object) -> None:
    rewritten(saved.with_suffix(".json"), schema_version=version)
    with pytest.raises(UsageError, match="reads version 2") as refused:
        PonderMap.load(saved)
    assert repr(version) in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": None},
        {"metadata": None},
        {"texts": "many"},
        {"texts": [1]},
        {"texts": [["a"]]},
        {"texts": []},
        {"arrays": ["mass"]},
        {"sizes": {"sequences": 1}},
        {"npz_sha256": 3},
    ],
)
def test_json_that_does_not_fit_is_refused(saved: Path, changes: dict) -> None:
    rewritten(saved.with_suffix(".json"), **changes)
    with pytest.raises(UsageError, match="cannot be read as a ponder map"):
        PonderMap.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"mass": None},
        {"steps": None},
        {"extra": np.zeros(3)},
        {"text_numbers": None},
        {"text_numbers": np.zeros((4, 15), np.uint8)},
        {"text_numbers": np.full((4, 16), 200, np.uint8)},
        {"mass": np.zeros((4, 16, 10), np.float64)},
        {"confidence": np.zeros((4, 16, 10), np.float64)},
        {"tokens": np.zeros((4, 15), np.int8)},
        {"steps": np.full((4, 16), 11, np.int16)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved: Path, changes: dict) -> None:
    with_arrays(saved, **changes)
    with pytest.raises(UsageError, match="cannot be read as a ponder map"):
        PonderMap.load(saved)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_pickle_is_neither_read_nor_written(saved: Path) -> None:
    with np.load(saved.with_suffix(".npz"), allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)
    sprung = saved.with_name("sprung")
    with_arrays(saved, tokens=np.array([Trap(sprung)], dtype=object))
    with pytest.raises(UsageError, match="plain arrays"):
        PonderMap.load(saved)
    assert not sprung.exists()


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(1), {"a": [Path("b")]}])
def test_a_save_that_fails_leaves_the_last_one_whole(saved: Path, value: object) -> None:
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        replace(fabricate(seed=1), metadata={"note": value}).save(saved)
    np.testing.assert_array_equal(PonderMap.load(saved).tokens, fabricate().tokens)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["map.json", "map.npz"]


def test_a_save_cut_off_while_writing_leaves_the_last_one_whole(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fabricate(seed=1).save(saved)
    np.testing.assert_array_equal(PonderMap.load(saved).tokens, fabricate().tokens)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["map.json", "map.npz"]


def test_saving_again_replaces(saved: Path) -> None:
    fabricate(2, 5, 6, seed=1).save(saved)
    assert PonderMap.load(saved).mass.shape == (2, 5, 6)


@pytest.mark.parametrize(("batch", "length"), [(0, 0), (0, 5), (3, 0), (2, 5)])
def test_empty_maps(tmp_path: Path, batch: int, length: int) -> None:
    found = empty(batch, length)
    found.save(tmp_path / "map")
    loaded = PonderMap.load(tmp_path / "map")
    assert loaded.mass.shape == (batch, length, 4)
    assert loaded.summary() == {
        "sequences": batch,
        "tokens": 0,
        "max_steps": 4,
        "mean_steps": None,
        "mean_ponder": None,
        "accuracy": None,
        "spearman": None,
        "steps_by_difficulty": [],
    }
    assert "no tokens" in repr(loaded)


def with_members(stem: Path, members: dict[str, bytes]) -> None:
    """Writes an .npz of raw members, and has the JSON vouch for it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    stem.with_suffix(".npz").write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    rewritten(stem.with_suffix(".json"), npz_sha256=digest)


def header(shape: str, dtype: str = "<u2") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header("(1000000000000000,)") + bytes(8), "announces 1,000,000,000,000,000 entries"),
        (header("(3, 4, 10**15)") + bytes(8), "not a whole .npz"),
        (header("(-1,)") + bytes(8), "announces"),
        (header("(4,)", "|O") + bytes(32), "not a whole .npz"),
        (b"\x93NUMPY\x03\x00" + bytes(9), "format"),
        (b"no header", "not a whole .npz"),
    ],
)
def test_a_header_that_announces_what_is_not_there_is_refused(
    saved: Path, content: bytes, says: str
) -> None:
    with_members(saved, {"mass.npy": content})
    with pytest.raises(UsageError, match="cannot be read as a ponder map") as error:
        PonderMap.load(saved)
    assert says in str(error.value)


def test_a_map_that_would_unpack_to_too_much_is_not_unpacked(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_file, "MOST_BYTES", 1_000_000)
    tracemalloc.start()
    with_members(saved, {"mass.npy": header("(2000000,)") + bytes(4_000_000)})
    assert saved.with_suffix(".npz").stat().st_size < 10_000
    tracemalloc.reset_peak()
    with pytest.raises(UsageError, match="unpacks to 4,000,") as error:
        PonderMap.load(saved)
    peak = tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert "read at most" in str(error.value) and peak < 1_000_000
    saved.with_suffix(".json").write_bytes(b" " * 1_000_001)
    with pytest.raises(UsageError, match="1,000,001 bytes"):
        PonderMap.load(saved)
