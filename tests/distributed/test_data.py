"""Ranks that read different data are refused before they train."""

import json
from pathlib import Path

from conftest import HERE

from training.tasks import TextBytes


def test_ranks_with_different_corpora_are_refused_on_every_rank(
    tmp_path: Path, launch_ranks
) -> None:
    config = HERE.parent.parent / "ds_configs" / "zero1.json"
    digests = []
    for rank in ("0", "1"):
        folder = tmp_path / rank / "corpus"
        folder.mkdir(parents=True)
        (folder / "same.txt").write_text("the same on both " * 200)
        (folder / "local.txt").write_text(f"on rank {rank} alone " * 200)
        identity = TextBytes(str(folder), length=16).identity()
        digests.append(json.loads(identity.facts())["local.txt"])
    words = ["bytes", "--data.text", "corpus", "--data.length", "16", "--name", "run"]
    ended = launch_ranks(
        "apart_train.py",
        tmp_path,
        *words,
        *("--batch-size", "4", "--deepspeed_config", config),
        folder=tmp_path,
        ready=False,
        timeout=60,
    )
    for each in ended:
        assert each.code == 2, each.output
        assert f'data.local.txt is "{digests[0]}" on rank 0' in each.output
        assert f'"{digests[1]}" on rank 1' in each.output
        assert "fix:  Copy the same files to all machines" in each.output
    assert digests[0] != digests[1] and not (tmp_path / "0" / "runs").exists()
