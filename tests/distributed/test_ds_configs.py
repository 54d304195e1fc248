"""ds_configs as people have them train at the first try with the losses of ours, and their
checkpoints go on with or without DeepSpeed; or they are refused, with all reasons."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ds_config_worker import SETTINGS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "trouble" / "ds_configs"
FILES = sorted(SHARED.glob("*.json"))
ON_GPUS = ("A_", "E_", "F_")  # fp16
TRAINS = ("B_", "H_", "W_", "Z7_")
REASONS = {
    "AA_": ["zero_optimization twice"],
    "AC_": ["UTF-16"],
    "A_": ["fp16.enabled", "reduce_bucket_size"],
    "E_": ["fp16.enabled", "offload_optimizer.device", "offload_param.device", "persitance"],
    "F_": ["fp16.enabled"],
    "L_": ["aio belongs at the top"],
    "N5_": ["zero_quantized_gradients"],
    "Q_": ["mics_shard_size"],
    "U5_": ["sparse_gradients"],
}
"""Why a file is refused on a CPU."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("ds_configs")
    launch_ranks("ds_config_worker.py", folder, *FILES, folder=folder, ranks=2, timeout=400)
    return json.loads((folder / "found.json").read_text())


def check_trained(case: dict) -> None:
    assert "theirs" in case, case
    theirs = case["theirs"]
    # 16 bits round what ranks and micro-batches add up in another order.
    close = 1e-5 if case["precision"] == "float32" else 1e-2
    losses = theirs["before"]["losses"] + theirs["after"]["losses"]
    assert losses == pytest.approx(case["ours"]["losses"], rel=1e-5)
    for figure in ("losses", "norms"):
        assert theirs["resumed"][figure] == pytest.approx(theirs["after"][figure], rel=1e-6)
        assert theirs["alone"][figure] == pytest.approx(theirs["after"][figure], rel=close)


@pytest.mark.parametrize("name", SETTINGS)
def test_trains_as_with_our_own_file(found, name):
    check_trained(found[name])


def test_what_was_taken_over(found):
    assert found["axolotl"]["precision"] == "bf16"
    stages = {name: found[name]["stage"] for name in SETTINGS}
    assert stages["transformers"] == 3 and stages["llamafactory"] == 2 and stages["cifar"] == 1


def test_what_deepspeed_objects_to_is_said_before_there_is_a_run_folder(tmp_path):
    """By the dry run and by the training, in the same words."""
    path = tmp_path / "ds.json"
    zero = {"stage": 1, "reduce_bucket_size": 0, "overlap_comm": "perhaps"}
    path.write_text(json.dumps({"zero_optimization": zero}))
    words = [sys.executable, "-m", "training.train", "pointer_chase", "--deepspeed", str(path)]
    said = []
    for more in ([], ["--dry-run"]):
        ended = subprocess.run(
            [*words, "--output", str(tmp_path / "runs"), *more],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2, ended.stderr
        lines = ended.stderr.splitlines()
        assert any(line.startswith("dry run: nothing") for line in lines) == bool(more)
        beside = ("starting: ", "dry run: ")
        said.append("\n".join(line for line in lines if not line.startswith(beside)))
    assert said[0] == said[1] and not (tmp_path / "runs").exists()
    assert said[0].count("error: ") == said[0].count("  why:  DeepSpeed refuses it") == 2
    assert "reduce_bucket_size = 0" in said[0] and 'overlap_comm = "perhaps"' in said[0]


@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_a_file_of_the_shared_folder(found, path):
    if path is None:
        pytest.skip("no ../shared/data/trouble/ds_configs here")
    case = found[path.name]
    if path.name.startswith(TRAINS):
        check_trained(case)
        return
    reasons = next((words for start, words in REASONS.items() if path.name.startswith(start)), None)
    if reasons is None:
        assert "refused" in case or "theirs" in case, case
        return
    assert case["reasons"] == len(reasons), case
    assert all(word in case["refused"] for word in reasons), case
