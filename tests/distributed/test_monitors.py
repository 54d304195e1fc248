"""DeepSpeed's monitors get every figure of metrics.jsonl; one that cannot work ends all ranks
before they part."""

import csv
import math
import sys
from pathlib import Path

import pytest
from conftest import HERE

from training.runs import metrics
from training.runs.metrics import Metrics

TINY = [
    *(
        "pointer_chase",
        "--data.length",
        "6",
        "--batch-size",
        "4",
        "--model.width",
        "16",
        "--model.num-heads",
        "2",
    ),
    *(
        "--updates",
        "4",
        "--eval-every",
        "2",
        "--test-examples",
        "4",
        "--eval-examples",
        "4",
        "--name",
        "run",
    ),
]


def reported(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the csv monitor's files hold, by name."""
    found = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            _, *rows = csv.reader(file)
        found[path.stem] = [(int(update), float(value)) for update, value in rows]
    return found


def measured(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The finite numbers of metrics.jsonl, under the same names."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in metrics.read_metrics(run):
        for name, value in line.items():
            if (
                name not in ("kind", "update")
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                found.setdefault(f"{line['kind']}_{name}", []).append((line["update"], value))
    return found


def test_one_process_reports_every_figure_through_deepspeed(tmp_path: Path, launch_ranks) -> None:
    words = [*TINY, "--output", tmp_path / "runs", "--report-to", "csv", "tensorboard"]
    launch_ranks("ponder_train.py", *words, folder=tmp_path, ranks=None)
    run = tmp_path / "runs" / "run"
    told = reported(run / "csv")
    assert told == measured(run) and len(told["train_loss"]) == 4 and "evaluation_accuracy" in told
    assert list((run / "tensorboard").glob("events.out.*")) and list(run.glob("events.out.*"))


def test_a_package_that_rank_0_lacks_ends_every_rank_at_once(tmp_path: Path, launch_ranks) -> None:
    """DeepSpeed finds out on rank 0 alone; the others would wait for it."""
    (tmp_path / "wandb.py").write_text("raise ImportError('not in this environment')\n")
    words = [*TINY, "--output", tmp_path / "runs", "--report-to", "csv", "wandb"]
    words += ["--deepspeed_config", HERE.parent.parent / "ds_configs" / "zero2.json"]
    ended = launch_ranks(
        "ponder_train.py", *words, folder=tmp_path, ready=False, timeout=60, before=tmp_path
    )
    for each in ended:
        assert each.code == 2, each.output
        assert (
            "error: --report-to wandb needs the package wandb, which rank 0 cannot import"
            in each.output
        )
        assert (
            "not in this environment" in each.output
            and "fix:  Run pip install wandb" in each.output
        )
    assert not (tmp_path / "runs").exists()


def test_figures_are_kept_where_tensorboard_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    told: list = []
    kept = Metrics(tmp_path, reports=[told.extend])
    kept.write("train", 1, loss=0.5, norm=math.nan, says="words")
    kept.close()
    assert metrics.read_metrics(tmp_path) == [
        {"kind": "train", "update": 1, "loss": 0.5, "norm": None, "says": "words"}
    ]
    assert told == [("train/loss", 0.5, 1)] and not list(tmp_path.glob("events.out.*"))
