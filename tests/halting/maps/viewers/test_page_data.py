"""What the page reads is what the map holds, and its text cannot break out of the page."""

import base64
import json
import re
import tomllib
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_maps import empty, fabricate, fabricate_text

from halting import PonderMap, UsageError
from halting.maps.viewers.page import data as page_data_module
from halting.maps.viewers.page import page
from halting.maps.viewers.page.data import embedded, page_data
from halting.maps.viewers.page.page import to_html


def arrays(data: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a page, read as the page reads them."""
    content = zlib.decompress(base64.b64decode(data["arrays"]))
    places = data["about"]["arrays"].items()
    assert all(offset % np.dtype(kind).itemsize == 0 for _, (kind, offset, _) in places), (
        "typed arrays start aligned"
    )
    return {
        name: np.frombuffer(content, np.dtype(kind).newbyteorder("<"), size, offset)
        for name, (kind, offset, size) in places
    }


def test_every_number_comes_back() -> None:
    found = fabricate(3, 9, 7)
    data = page_data(found)
    read, valid = arrays(data), found.valid
    ran = (np.arange(7) < found.steps[..., None]) & valid[..., None]
    assert (
        found.predictions is not None
        and found.targets is not None
        and found.final_prediction is not None
    )
    np.testing.assert_array_equal(read["0.steps"], found.steps[valid])
    np.testing.assert_array_equal(read["0.kept"], found.steps[valid])
    np.testing.assert_array_equal(read["0.ponder"], found.ponder[valid])
    np.testing.assert_array_equal(read["difficulty"], found.difficulty[valid])  # pyright: ignore[reportOptionalSubscript]
    np.testing.assert_allclose(read["0.mass"] / 65534, found.mass[ran], atol=8e-6)
    np.testing.assert_allclose(read["0.score"], found.score[ran], rtol=5e-4)
    for name in ("confidence", "target_probability"):
        np.testing.assert_allclose(read[f"0.{name}"] / 65534, getattr(found, name)[ran], atol=8e-6)
    answers = data["about"]["answers"]
    for name, wanted in (
        ("0.predictions", found.predictions[ran]),
        ("0.final", found.final_prediction[valid]),
        ("targets", found.targets[valid]),
    ):
        assert [answers[place] for place in read[name]] == [str(index) for index in wanted]
    assert data["about"]["texts"] == [[text for text in row if text] for row in found.texts]


def test_what_is_known_after_a_token_left_is_kept_too() -> None:
    found = fabricate_text("ab")
    later = np.full((1, 2, 8), np.nan, np.float32)
    later[0, 0, 6] = 0.25
    read = arrays(
        page_data(
            replace(
                found,
                steps=np.array([[2, 3]]),
                mass=np.eye(8)[[[1, 2]]],
                score=np.full((1, 2, 8), np.nan),
                target_probability=later,
            )
        )
    )
    assert read["0.kept"].tolist() == [7, 3]
    assert (
        read["0.target_probability"].tolist() == [65535] * 6 + [round(0.25 * 65534)] + [65535] * 3
    )


def test_scores_of_any_size() -> None:
    found = fabricate_text("abcd")
    score = np.full((1, 4, 8), np.nan, np.float32)
    score[0, :, 0] = [-1e30, np.inf, 0, np.float32(np.nan)]
    scores = arrays(
        page_data(
            replace(
                found,
                score=score,
                steps=np.ones((1, 4), int),
                mass=np.eye(8)[[[0] * 4]],
                target_probability=None,
            )
        )
    )
    np.testing.assert_allclose(scores["0.score"], score[0, :, 0], rtol=5e-4)


def test_sequences_that_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fabricate(4, 9, 7)
    assert [len(page_data(found, shown)["about"]["texts"]) for shown in (0, 2, 4, 9, None)] == [
        0,
        2,
        4,
        4,
        4,
    ]
    assert page_data(found, 2)["about"]["sequences"] == 4
    cells = found.steps.sum(-1)
    monkeypatch.setattr(page_data_module, "MOST_CELLS", 2 * int(cells[:2].sum()))
    assert len(page_data(found, others=[found])["about"]["texts"]) == 2
    monkeypatch.setattr(page_data_module, "MOST_CELLS", 1)
    assert len(page_data(found)["about"]["texts"]) == 1
    assert page_data(empty())["about"]["texts"] == [] and page_data(empty(2, 3))["about"][
        "texts"
    ] == [[], []]


@pytest.mark.parametrize(
    "other",
    [fabricate(4, 16, seed=1), fabricate(3, 16), replace(fabricate(), texts=[["x"] * 16] * 4)],
    ids=["tokens", "size", "texts"],
)
def test_maps_of_other_examples_are_refused(other: PonderMap) -> None:
    for given in ({"others": [other]}, {"growth": [other]}):
        with pytest.raises(UsageError, match="of other examples"):
            to_html(fabricate(), **given)


def test_maps_of_other_depths_stand_side_by_side() -> None:
    deep = replace(fabricate(), metadata={"run": "deep", "update": 7})
    padded = {
        name: np.pad(getattr(deep, name), ((0, 0), (0, 0), (0, 3)))
        for name in ("mass", "score", "predictions")
    }
    deep = replace(deep, **padded, confidence=None, target_probability=None)
    about = page_data(fabricate(), others=[deep])["about"]
    assert [(each["label"], each["steps"], each["update"]) for each in about["maps"]] == [
        ("pointer_chase-001", 10, None),
        ("deep", 13, 7),
    ]


def test_embedded_json_cannot_end_its_element() -> None:
    values = {"</script><!--": ["<script>", "&lt;", "\u2028", "\ud800", "שלום", '"\\']}
    text = embedded(values)
    assert not set(text) & set("<>&\u2028") and text.isascii() and json.loads(text) == values


def test_the_page_is_one_file_that_reaches_for_nothing() -> None:
    text = to_html(fabricate())
    assert re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", text) == ["data:,"]
    assert not re.search(
        r"https?:|//\w|@import|url\(|\bimport\b|fetch\(|innerHTML|document\.write|eval\(",
        re.sub(r"^\s*//.*$", "", text, flags=re.M).split('id="arrays"')[0],
    )
    assert "default-src 'none'" in text and "unsafe" not in text and "{{" not in text


def test_all_of_the_page_is_used_and_packaged() -> None:
    web = Path(page.__file__).parent / "web"
    assert {path.name for path in web.iterdir()} == {f"{name}.js" for name in page._SCRIPTS} | {
        "page.css",
        "page.html",
    }
    settings = tomllib.loads((Path(__file__).resolve().parents[4] / "pyproject.toml").read_text())[
        "tool"
    ]["setuptools"]
    patterns = settings["package-data"]["halting.maps.viewers.page"]
    assert {found for pattern in patterns for found in (web.parent).glob(pattern)} == set(
        web.iterdir()
    )
