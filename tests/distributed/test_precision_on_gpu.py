"""What only a GPU can show of 16 bits: fp16 trains, with and without DeepSpeed, and goes on with
its loss scale."""

import json
from pathlib import Path

import pytest
import torch

from training import load_run
from training.checkpoints import checkpoint
from training.runs import metrics

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ZERO = Path(__file__).parent.parent.parent / "ds_configs"
FLAGS = (
    "--data.length",
    "6",
    "--updates",
    "12",
    "--save-every",
    "6",
    "--keep-last",
    "9",
    "--device",
    "cuda",
)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "bf16_weights"])
@pytest.mark.parametrize("zero", ["plain", "zero0", "zero1", "zero2", "zero3"])
def test_it_trains_and_goes_on_as_if_it_had_not_stopped(tmp_path, launch_ranks, precision, zero):
    if precision == "bf16_weights" and zero in ("plain", "zero0"):
        pytest.skip("refused: nothing keeps the weights in float32")
    ranks = None if zero == "plain" else 1
    config = () if zero == "plain" else ("--deepspeed-config", str(ZERO / f"{zero}.json"))
    start = (
        "pointer_chase",
        *FLAGS,
        "--precision",
        precision,
        *config,
        "--output",
        tmp_path,
        "--name",
        "run",
    )
    launch_ranks("ponder_train.py", *start, folder=tmp_path, ranks=ranks, timeout=300)
    folder = tmp_path / "run"
    lines = metrics.read_metrics(folder, "train")
    assert json.loads((folder / "summary.json").read_text())["skipped_updates"] <= 4
    assert ("loss_scale" in lines[-1]) == (precision == "fp16")
    assert all(each.isfinite().all() for each in load_run(folder).model.parameters())

    last = checkpoint.folder_of(folder / "checkpoints", 12)
    scale = last / "loss_scale.json"
    told = scale.read_text() if scale.exists() else None
    assert (told is None) == (precision != "fp16")
    last.rename(tmp_path / "gone")
    launch_ranks("ponder_train.py", "--resume", folder, folder=tmp_path, ranks=ranks, timeout=300)
    again = metrics.read_metrics(folder, "train")
    assert [line["loss"] for line in again] == pytest.approx(
        [line["loss"] for line in lines], rel=1e-3
    )  # atomics
    assert (scale.read_text() if scale.exists() else None) == told
