"""Blocks and models of somebody's own train under ZeRO-2 and ZeRO-3 as they do in one process."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE, Launch

from training import load_run
from training.train import main

ROOT = HERE.parent.parent
OWN = {
    "block": [
        *("--model.block", f"{ROOT / 'examples' / 'my_block.py'}:MyBlock"),
        *("--model.num-heads", "2"),
    ],
    "torch layer": [
        *("--model.block", "torch.nn:TransformerEncoderLayer", "--model.nhead", "2"),
        *("--model.batch-first", "--model.dropout", "0"),
    ],
    "auxiliary loss": [
        *("--model.block", f"{HERE / 'frugal_block.py'}:FrugalBlock"),
        *("--model.num-heads", "2", "--model.price", "0.5"),
    ],
    "model": [
        *("--model.kind", f"{ROOT / 'examples' / 'my_model.py'}:MyModel"),
        *("--model.block", "GRUBlock"),
    ],
}
SHORT = [
    *("--updates", "6", "--batch-size", "8", "--accumulation", "2", "--eval-every", "6"),
    *("--eval-examples", "8", "--test-examples", "8", "--data.length", "6"),
    *("--model.width", "16", "--loop.max-steps", "4", "--schedule.warmup", "0", "--threads", "1"),
]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("own", OWN)
def test_it_has_the_losses_of_one_process(
    tmp_path, monkeypatch, launch_ranks: Launch, own: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["pointer_chase", *SHORT, *OWN[own], "--output", str(tmp_path / "runs")]
    assert main([*words, "--name", "alone"]) == 0
    alone = losses(tmp_path / "runs" / "alone")
    assert len(alone) == 6 and len(set(alone)) == 6
    for stage in (2, 3):
        config = str(ROOT / "ds_configs" / f"zero{stage}.json")
        launched = [*words, "--name", f"zero{stage}", "--deepspeed-config", config]
        launch_ranks("ponder_train.py", *launched, folder=tmp_path, timeout=240)
        np.testing.assert_allclose(losses(tmp_path / "runs" / f"zero{stage}"), alone, rtol=1e-5)
    run = load_run(tmp_path / "runs" / "zero3")
    batch = run.task.batch("test", 0, 4)
    shown = run.ponder_map(batch)
    assert shown.steps.max() <= 4 and shown.predictions is not None
    np.testing.assert_allclose(shown.mass.sum(-1), batch.valid.numpy(), atol=1e-5)
