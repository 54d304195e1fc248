"""`deepspeed --module training.train`: two CPU ranks write the run folder, and the losses, of one
process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE, LAUNCHER_NAMES, Launch, free_port

from training import load_run
from training.runs import growth
from training.train import main

ROOT = HERE.parent.parent
UPDATES = 20
SHORT = [
    "--updates",
    str(UPDATES),
    "--eval-examples",
    "16",
    "--test-examples",
    "16",
    "--eval-every",
    "10",
    "--map-every",
    "1",
]
SMALL_BYTES = [
    "--data.length",
    "32",
    "--batch-size",
    "8",
    "--model.width",
    "32",
    "--model.num-heads",
    "2",
]
STEERED = ["--penalty.target-steps", "3", "--penalty.warmup", "5"]
EXAMPLE = f"{ROOT / 'examples' / 'my_task.py'}:recipe"


def deepspeed(
    folder: Path, *words: str, timeout: float = 240.0
) -> subprocess.CompletedProcess[str]:
    """Runs the launcher with two ranks in a folder, under a watchdog that ends its whole process
    group."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_NAMES}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }
    command = [
        sys.executable,
        "-m",
        "deepspeed.launcher.runner",
        "--num_gpus",
        "2",
        "--master_port",
        str(free_port()),
    ]
    process = subprocess.Popen(
        [*command, "--module", "training.train", *words],
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"the launch took over {timeout} s:\n{output[-5000:]}")
    return subprocess.CompletedProcess(command, process.returncode, output)


def losses(folder: Path, what: str = "loss") -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[what] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize(
    ("recipe", "stage", "flags", "launched"),
    [
        ("pointer_chase", 0, STEERED, False),
        ("bytes", 1, SMALL_BYTES, False),
        (EXAMPLE, 2, ["--accumulation", "2"], True),
        (
            "pointer_chase",
            3,
            [
                "--model.prelude-layers",
                "1",
                "--model.coda-layers",
                "1",
                *STEERED,
                "--accumulation",
                "2",
            ],
            False,
        ),
    ],
)
def test_two_ranks_write_the_losses_of_one_process(
    tmp_path, monkeypatch, launch_ranks: Launch, recipe, stage, flags, launched
):
    """One run, that of a recipe in a file, goes through the launcher; the ranks of the others get
    the same words and the same environment without it."""
    monkeypatch.chdir(tmp_path)
    assert main([recipe, *SHORT, *flags, "--name", "alone"]) == 0
    config = str(ROOT / "ds_configs" / f"zero{stage}.json")
    words = [
        recipe,
        "--deepspeed_config",
        config,
        *SHORT,
        *flags,
        "--name",
        "ranks",
        "--report-to",
        "csv",
    ]
    words += ["--output", str(tmp_path / "runs")]
    if launched:
        ended = deepspeed(tmp_path, *words)
        assert ended.returncode == 0, ended.stdout[-5000:]
        said = ended.stdout
    else:
        said = "".join(
            each.output
            for each in launch_ranks("ponder_train.py", *words, folder=tmp_path, timeout=240)
        )
    alone, ranks = losses(tmp_path / "runs" / "alone"), losses(tmp_path / "runs" / "ranks")
    assert len(alone) == len(ranks) == UPDATES
    (first, after), (first_alone, after_alone) = (
        growth.read_growth(tmp_path / "runs" / name)[0] for name in ("ranks", "alone")
    )
    assert [each.metadata["update"] for each in (first, after)] == [0, 10]
    np.testing.assert_allclose(first.mass, first_alone.mass, atol=1e-3)
    np.testing.assert_allclose(after.ponder.mean(), after_alone.ponder.mean(), rtol=1e-2)
    np.testing.assert_allclose(ranks, alone, rtol=1e-5)
    told = (tmp_path / "runs" / "ranks" / "csv" / "train_loss.csv").read_text().split()
    assert told == ["step,loss", *(f"{update},{loss}" for update, loss in enumerate(ranks, 1))]
    for what in (
        "mean_ponder",
        "penalty",
    ):  # where a target is held, both ranks steer by the global batch's mean
        by_both, by_one = (losses(tmp_path / "runs" / name, what) for name in ("ranks", "alone"))
        np.testing.assert_allclose(by_both, by_one, rtol=1e-3)
    # One header and one summary: the second rank is silent.
    assert said.count(f"written to {tmp_path / 'runs' / 'ranks'}:") == 1
    assert not list((tmp_path / "extensions").glob("**/*.so")), "something was compiled"
    summary = json.loads((tmp_path / "runs" / "ranks" / "summary.json").read_text())
    assert summary["ranks"] == 2 and summary["updates"] == UPDATES
    # What the ranks wrote is a run like any other, and says what it said.
    run = load_run(tmp_path / "runs" / "ranks")
    output = run.forward(run.task.batch("test", 0, 16))
    assert summary["mean_steps"] == pytest.approx(
        float(output.trace.steps[output.trace.valid].double().mean()), rel=1e-3
    )


def test_bad_input_ends_every_rank_with_2_and_writes_nothing(tmp_path):
    config = tmp_path / "wrong.json"
    config.write_text('{"train_batch_size": 7}')
    ended = deepspeed(tmp_path, "pointer_chase", "--deepspeed_config", str(config), *SHORT)
    assert ended.returncode == 2, ended.stdout[-5000:]
    assert "wrong.json says --batch-size 7" in ended.stdout
    assert "--batch-size 7 cannot be shared by 2 ranks" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert not (tmp_path / "runs").exists()
