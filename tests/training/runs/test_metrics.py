"""metrics.jsonl, with and without TensorBoard."""

import sys

import pytest

from training.runs.metrics import Metrics, read_metrics


@pytest.mark.parametrize("board", [True, False])
def test_a_rewound_run_goes_on_after_the_update(tmp_path, monkeypatch, board):
    if not board:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    metrics = Metrics(tmp_path)
    for update in (1, 2, 3):
        metrics.write("train", update, loss=float(update))
    metrics.rewind(1, "beside.jsonl")
    metrics.write("train", 2, loss=7.0)
    metrics.close()
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 7.0]
    assert (tmp_path / "beside.jsonl").read_text().count("\n") == 2
    assert bool(list(tmp_path.glob("events.*"))) == board
