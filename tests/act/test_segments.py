"""How documents of packed rows are laid out: who sees whom, and when it pays."""

import pytest
import torch
from torch import Tensor

from act import LoopContext
from act.segments import SegmentLayout, Segments

DOCUMENTS = torch.tensor([[3] * 40 + [1] * 9 + [8] * 1, [2] * 5 + [7] * 44 + [4] * 1])
CAPACITY = DOCUMENTS.shape[1]


@pytest.fixture
def always_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Segments, "always", True)


def seen(layout: SegmentLayout, queries: int) -> Tensor:
    """[A B*S], which keys each query is to look at, and that each of them once."""
    pairs = torch.zeros(queries, DOCUMENTS.numel(), dtype=torch.int64)
    query = 0
    key = 0
    queries_at = torch.full((len(layout.query_source),), -1).index_copy(
        0, layout.query_place, torch.arange(queries)
    )
    for group in layout.groups:
        triangle = torch.ones(group.queries, group.keys, dtype=torch.bool).tril()
        for row in range(group.rows):
            mask = triangle if group.mask is None else group.mask[row, 0]
            for column in range(group.queries):
                who = int(queries_at[query + column])
                if who >= 0:
                    pairs[who].index_add_(
                        0,
                        layout.key_source[key : key + group.keys],
                        mask[column].to(torch.int64),
                    )
            query += group.queries
            key += group.keys
    assert query == len(layout.query_source) and key == len(layout.key_source)
    return pairs


def wanted(places: Tensor, visible: Tensor | None, causal: bool) -> Tensor:
    """The same, by the definition."""
    every = torch.arange(DOCUMENTS.numel())
    row = every // CAPACITY
    flat = DOCUMENTS.flatten()
    same = (flat[places, None] == flat) & (row[places, None] == row)
    if causal:
        same &= every <= places[:, None]
    if visible is not None:
        same &= visible.flatten()
    return same.to(torch.int64)


@pytest.mark.usefixtures("always_cut")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("which", ["all", "some", "one", "some, holes"])
def test_each_query_sees_its_own_document(which: str, causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    every = torch.arange(DOCUMENTS.numel())
    visible = torch.rand(DOCUMENTS.shape, generator=generator) < 0.8 if "holes" in which else None
    chosen = torch.rand(len(every), generator=generator) < 0.3
    if visible is not None:
        chosen &= visible.flatten()
    places = {"all": None, "one": every[70:71]}.get(which, every[chosen])
    layout = Segments(DOCUMENTS).layout(places, CAPACITY, visible, causal)
    assert layout is not None
    places = every if places is None else places
    assert torch.equal(seen(layout, len(places)), wanted(places, visible, causal))
    assert torch.equal(layout.query_source[layout.query_place], torch.arange(len(places)))
    blank = torch.ones(len(layout.query_source), dtype=torch.bool)
    blank[layout.query_place] = False
    assert torch.equal(layout.query_blank, blank.nonzero().squeeze(1))
    assert (layout.read is None) == (which == "all")
    read = every if layout.read is None else layout.read
    assert torch.equal(layout.key_source[layout.key_place], read)


@pytest.mark.usefixtures("always_cut")
def test_blank_places_repeat_their_own_document() -> None:
    """So nothing of another document, a NaN even, comes near."""
    layout = Segments(DOCUMENTS).layout(None, CAPACITY, None, True)
    assert layout is not None
    begin = 0
    for group in layout.groups:
        for _ in range(group.rows):
            places = layout.key_source[begin : begin + group.keys]
            assert len(DOCUMENTS.flatten()[places].unique()) == 1
            begin += group.keys


def test_long_rows_are_cut_and_short_ones_are_not() -> None:
    documents = torch.arange(8).repeat_interleave(128)
    assert Segments(documents.view(1, -1)).whole(True) is not None
    assert Segments(documents.view(8, -1)).whole(True) is None
    assert Segments(torch.arange(64).repeat_interleave(16).view(16, -1)).whole(True) is None


def test_a_document_in_two_places_is_not_cut() -> None:
    documents = torch.tensor([0, 1, 0, 2]).repeat_interleave(256).view(1, -1)
    assert not Segments(documents).contiguous and Segments(documents).whole(True) is None
    assert Segments(documents.sort().values).whole(True) is not None
    assert Segments(torch.zeros(2, 4, dtype=torch.int64)).one_a_row
    assert not Segments(documents).one_a_row


def test_what_is_worked_out_once_follows_numbers_that_are_written() -> None:
    numbers = torch.zeros(1, 4, dtype=torch.int64)
    context = LoopContext(documents=numbers)
    first = context.segments
    assert first is not None and first.one_a_row and context.segments is first
    numbers[0, 2:] = 1
    second = context.segments
    assert second is not None and not second.one_a_row
    assert LoopContext().segments is None
    with torch.inference_mode():
        assert LoopContext(documents=torch.zeros(1, 4, dtype=torch.int64)).segments is not None
