"""DeepSpeed's own objections, by whatever exception, before a run begins."""

import pytest

from training.engine.ds_config.rehearsal import deepspeed_objections

pytest.importorskip("deepspeed")


def objections(passed: dict) -> dict[str, str]:
    """What it says of each key."""
    found = deepspeed_objections(passed, "ds.json", gpu=False)
    assert all(each.what.startswith("ds.json: ") and each.write for each in found)
    return {each.what.removeprefix("ds.json: ").partition(" = ")[0]: each.why for each in found}


def test_settings_that_ds_configs_has_are_not_rehearsed(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.run", refuse)
    offload = {"device": "cpu", "pin_memory": True}
    zero = {"stage": 3, "reduce_bucket_size": 50000000, "offload_param": offload}
    assert objections({"zero_optimization": zero}) == {}
    for unusual in ({"stage3_max_live_parameters": 1}, {"reduce_bucket_size": 0}):
        with pytest.raises(AssertionError, match="a process was started"):
            objections({"zero_optimization": {"stage": 3, **unusual}})


def test_all_that_it_says_of_values():
    found = objections(
        {
            "zero_optimization": {"stage": 2, "reduce_bucket_size": 0, "overlap_comm": "perhaps"},
            "communication_data_type": "fp8",
            "comms_logger": {"prof_ops": 3},
            "timers": {"throughput": {"enabled": "so"}},
        }
    )
    assert set(found) == {
        "zero_optimization.reduce_bucket_size",
        "zero_optimization.overlap_comm",
        "communication_data_type",
        "comms_logger.prof_ops",
        "timers.enabled",
    }
    assert "greater than 0" in found["zero_optimization.reduce_bucket_size"]
    assert "Supported data types" in found["communication_data_type"]


def test_what_it_says_once_they_are_used():
    found = objections(
        {
            "zero_optimization": {"stage": 3, "overlap_comm": True},
            "prescale_gradients": True,
            "steps_per_print": 0,
            "flops_profiler": {"enabled": True, "output_file": "/dev/null/profile"},
        }
    )
    assert set(found) == {
        "prescale_gradients",
        "steps_per_print",
        "flops_profiler.output_file",
    }
    assert "ZeRO-3" in found["prescale_gradients"]


def test_the_file_of_its_profile_is_not_written(tmp_path):
    path = tmp_path / "profile.txt"
    profiler = {"enabled": True, "profile_step": 1, "output_file": str(path)}
    assert objections({"flops_profiler": profiler}) == {}
    assert not path.exists()


def test_nothing_where_it_has_none():
    told = {"steps_per_print": 5, "wall_clock_breakdown": True}
    assert objections({"zero_optimization": {"stage": 1, "overlap_comm": True}, **told}) == {}
