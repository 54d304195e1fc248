"""Starting: without a launcher, without a compiler, without noise; and giving up on a rank that
does nothing."""

import json

import pytest


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder = tmp_path_factory.mktemp("alone")
    [ended] = launch_ranks("start_worker.py", "alone", folder, folder=folder, ranks=None)
    found = json.loads((folder / "found.json").read_text())
    library_log = (folder / "library_log.log").read_text()
    return {
        **found,
        "screen": ended.output,
        "library_log": library_log,
        "built": (folder / "extensions").exists(),
    }


def test_a_plain_process_is_a_world_of_one(alone):
    assert alone["under_launcher"] is False
    assert alone["losses"] == pytest.approx(alone["reference"], rel=1e-5)
    assert alone["distributed_after_close"] is False


def test_nothing_is_compiled(alone):
    """The name that is struck from DeepSpeed's private table is still the one that decides."""
    assert (
        alone["shared_memory_op"] == "deepspeed_shm_comm"
        and "deepspeed_shm_comm" in alone["known_ops"]
    )
    assert not alone["shared_memory_built"] and not alone["built"]
    assert not alone["compiler_imported"], "it takes a second of every start"


def test_chatter_goes_to_the_file(alone):
    assert alone["screen"] == ""
    assert (
        "a line of DeepSpeed's" in alone["library_log"]
        and "a warning of Python's" in alone["library_log"]
    )


def test_a_misspelt_key_is_a_usage_error(alone):
    assert "typo.json has the key zero_optimization.overlap_com (true)" in alone["typo"]
    assert "Did you mean zero_optimization.overlap_comm" in alone["typo"]


def test_a_rank_that_does_nothing_is_given_up_on(tmp_path, launch_ranks):
    launch_ranks("start_worker.py", "hang", tmp_path, folder=tmp_path, timeout=60)
    found = json.loads((tmp_path / "found.json").read_text())
    assert "imed out" in found["error"] and 3 < found["waited"] < 15


def test_the_watchdog_ends_what_hangs(tmp_path, launch_ranks):
    with pytest.raises(pytest.fail.Exception, match="took over 3 s"):
        launch_ranks("sleeper.py", folder=tmp_path, ranks=1, timeout=3)
