"""Updates whose loss or gradient is not finite: they change nothing, are counted, and too many in a
row end the run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from damaged import MarkedVectors, damaging
from small_runs import losses, small
from torch import nn

from act.models.looped_transformer import LoopedTransformer
from halting import GravesACT
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.config.sections import OptimizerConfig
from training.engine import LocalEngine
from training.engine.engine import poison_if_nonfinite
from training.objectives import CrossEntropy
from training.runs import metrics
from training.start import train
from training.train import main

BATCH = 8
"""Examples of an update."""


@pytest.fixture(autouse=True)
def marked_examples_have_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEntropy, "__call__", damaging(torch.nan))


def damaged(output: Path, name: str, first: int, last: int, **changes: Any) -> RunConfig:
    """A run whose training examples first .. last are damaged."""
    options = {"first": first, "last": last}
    kind = f"{MarkedVectors.__module__}:{MarkedVectors.__name__}"
    data, penalty = {"kind": kind, "options": options}, {"value": 0.01, "target_steps": "2"}
    return small(output, name=name, data=data, penalty=penalty, **changes)


def test_a_damaged_example_costs_its_update_and_nothing_else(tmp_path, capsys):
    assert (
        train(damaged(tmp_path, "run", 2 * BATCH + 3, 3 * BATCH + 1, save_every=2, keep_last=9))
        == 0
    )
    folder = tmp_path / "run"
    assert [line["skipped"] for line in metrics.read_metrics(folder, "train")] == [
        0,
        0,
        1,
        2,
        *[2] * 8,
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["updates"] == 12 and summary["skipped_updates"] == 2
    said = capsys.readouterr().out
    assert "update 4 is skipped: loss nan" in said and "2 in a row, and 10 stop the run" in said
    assert "12 updates in" in said and "2 of them skipped" in said
    assert (
        "| of them skipped: loss or gradient not finite | 2" in (folder / "report.md").read_text()
    )

    before, after, later = (
        checkpoint.folder_of(folder / "checkpoints", update) for update in (2, 4, 6)
    )
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (
            (before / name).read_bytes()
            == (after / name).read_bytes()
            != (later / name).read_bytes()
        )


def test_a_run_goes_on_among_skipped_updates_as_if_it_had_not_stopped(tmp_path):
    """They are counted across a checkpoint, those in a row too."""
    assert train(damaged(tmp_path, "whole", 3 * BATCH, 7 * BATCH - 1, updates=8, save_every=5)) == 0
    whole = metrics.read_metrics(tmp_path / "whole", "train")
    assert [line["skipped"] for line in whole] == [0, 0, 0, 1, 2, 3, 4, 4]
    for name, code, words in (("parts", 0, []), ("impatient", 1, ["--max-skipped", "3"])):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "whole", folder)
        shutil.rmtree(folder / "checkpoints" / "update-000008")
        assert main(["--resume", str(folder), *words]) == code
    parts = metrics.read_metrics(tmp_path / "parts", "train")
    assert [line["skipped"] for line in parts] == [line["skipped"] for line in whole]
    assert parts[-1]["loss"] == whole[-1]["loss"] is not None
    assert [line["update"] for line in metrics.read_metrics(tmp_path / "impatient", "lost")] == [6]


def test_too_many_in_a_row_end_the_run(tmp_path, capsys):
    assert train(damaged(tmp_path, "run", 4 * BATCH, 99 * BATCH, max_skipped=4)) == 1
    folder = tmp_path / "run"
    said = capsys.readouterr().out
    what, why, fix = said[said.index("error: ") :].strip().splitlines()
    assert "not finite 4 times in a row" in what and "at update 8" in what and "loss nan" in what
    assert why.startswith("  why:") and "update-000004" in why
    assert fix.startswith("  fix:") and f"--resume {folder}" in fix and "--max-skipped" in fix
    assert (
        list(losses(folder)) == list(range(1, 9)) and len(metrics.read_metrics(folder, "lost")) == 1
    )
    assert not (folder / "summary.json").exists()
    assert [path.name for path in checkpoint.found(folder / "checkpoints")] == [
        "update-000000",
        "update-000004",
    ]


def test_a_lost_loss_is_noticed_where_its_gradient_is_finite():
    """Minus infinity for the right answer: the cross entropy is infinite, its gradient is not."""
    logits = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = nn.functional.cross_entropy(logits, torch.tensor([1]))
    (plain,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert loss.isinf() and plain.isfinite().all()
    (degraded,) = torch.autograd.grad(poison_if_nonfinite(loss), logits)
    assert not degraded.isfinite().any()
    weight = torch.tensor(3.0, requires_grad=True)
    poison_if_nonfinite(weight * 2).backward()
    assert weight.grad == 2


def test_a_gradient_that_overflows_is_skipped_too():
    torch.manual_seed(0)
    model = LoopedTransformer(5, 8, 2, GravesACT(8), max_steps=2)
    engine = LocalEngine(model, OptimizerConfig(), torch.device("cpu"))
    before = engine.weights()
    engine.backward(model(torch.zeros(1, 3, dtype=torch.int64)).logits.sum() * 3e38)
    assert engine.step(1.0).skipped
    assert all(torch.equal(before[name], after) for name, after in engine.weights().items())
