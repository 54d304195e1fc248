"""Machines that do not share the run folder are refused before anything is in it."""

from pathlib import Path

from conftest import HERE


def test_ranks_that_do_not_share_the_run_folder_all_end_and_leave_none(
    tmp_path: Path, launch_ranks
) -> None:
    config = HERE.parent.parent / "ds_configs" / "zero1.json"
    (tmp_path / "1" / "runs" / "run").mkdir(
        parents=True
    )  # of an earlier run of that machine, perhaps
    words = ["pointer_chase", "--batch-size", "4", "--deepspeed_config", config, "--name", "run"]
    ended = launch_ranks(
        "apart_train.py", tmp_path, *words, folder=tmp_path, ready=False, timeout=60
    )
    for each in ended:
        assert each.code == 2, each.output
        assert (
            "is not the same folder for rank 1 on " in each.output
            and "fix:  Start all machines" in each.output
        )
    assert not (tmp_path / "0" / "runs" / "run").exists()
    assert list((tmp_path / "1" / "runs" / "run").iterdir()) == []
