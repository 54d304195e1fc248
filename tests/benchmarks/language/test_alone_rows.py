"""Packed documents are as each alone on all paths; and the benchmark would see it if not."""

import pytest
import torch

from benchmarks.harness.rows import Rows
from benchmarks.language import alone_rows
from benchmarks.language.alone_rows import against_targets, measure, table
from benchmarks.language.documents import Packed, pack

pytestmark = pytest.mark.usefixtures("unchecked")


def test_packed_documents_are_as_each_alone_on_all_paths():
    rows = measure(Rows(None, "code"), quick=True)
    assert len(rows) == len(table(rows)[1]) == 3 * 2 * 2 + 2
    assert all(figure.met for figure in against_targets(rows)), against_targets(rows)
    assert all(row["documents"] > 4 for row in rows)
    learned = [row["mean_steps"] for row in rows if row["rule"] == "GravesACT"]
    assert all(1 < steps < alone_rows.LIMIT for steps in learned)


@pytest.mark.parametrize("path", ["dense", "ragged", "decoding"])
def test_it_sees_documents_that_see_each_other(path: str, monkeypatch: pytest.MonkeyPatch):
    def mixed(*sizes: int) -> Packed:
        packed = pack(*sizes)
        return Mixed(packed.tokens, torch.zeros_like(packed.documents), packed)

    monkeypatch.setattr(alone_rows, "pack", mixed)
    row = (
        alone_rows._decoded("GravesACT", alone_rows.QUICK)
        if path == "decoding"
        else alone_rows._parallel(path, "GravesACT", "masked", alone_rows.QUICK)
    )
    row.setdefault("gradients", row["logits"])
    assert not any(figure.met for figure in against_targets([row]))


class Mixed(Packed):
    """Whose numbers are not those of the documents."""

    def __init__(self, tokens: torch.Tensor, documents: torch.Tensor, packed: Packed):
        super().__init__(tokens, documents)
        self.__dict__["packed"] = packed

    def alone(self):
        return self.__dict__["packed"].alone()


def test_rows_are_full_of_documents():
    packed = pack(3, 100, 20, 61)
    alone = packed.alone()
    for row in range(3):
        mine = [(place, tokens) for number, place, tokens in alone if number == row]
        assert torch.equal(torch.cat([tokens for _, tokens in mine], 1)[0], packed.tokens[row])
        for place, _ in mine:
            assert len(packed.documents[row, place].unique()) == 1
    lengths = packed.documents.flatten().unique_consecutive(return_counts=True)[1][1:-1]
    assert 10 <= int(lengths.min()) <= int(lengths.max()) <= 30
