"""What srun says becomes what other launchers say: tried on the variables of job steps, without a
cluster."""

import pytest

from halting import UsageError
from training.distributed.slurm import adopt, machines

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("alone", ["alone"]),
        ("gpu[01-03,07],login1", ["gpu01", "gpu02", "gpu03", "gpu07", "login1"]),
        ("a,b-2", ["a", "b-2"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        (
            "rack[1-2]n[01,03].local",
            ["rack1n01.local", "rack1n03.local", "rack2n01.local", "rack2n03.local"],
        ),
    ],
)
def test_lists_of_machines(text: str, names: list[str]) -> None:
    assert machines(text) == names


@pytest.mark.parametrize("text", ["", "gpu[1-", "gpu[a-b]", "gpu]1[", "a,,b", "a b"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match="SLURM_STEP_NODELIST"):
        machines(text)


def test_a_task_of_a_job_step_is_a_rank() -> None:
    environment = dict(STEP)
    adopt(environment)
    told = {name: value for name, value in environment.items() if name not in STEP}
    port = told.pop("MASTER_PORT")
    assert told == {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "gpu07"}
    other = {**STEP, "SLURM_PROCID": "0"}
    adopt(other)
    assert other["MASTER_PORT"] == port and 1024 < int(port) < 32768, (
        "alike on all ranks, below the ports of clients"
    )
    next_job = {**STEP, "SLURM_JOB_ID": "4712"}
    adopt(next_job)
    assert next_job["MASTER_PORT"] != port


@pytest.mark.parametrize(
    "environment",
    [
        {
            "SLURM_JOB_ID": "4711",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_NTASKS": "8",
        },  # the batch script
        {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {**STEP, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},  # torchrun inside of a step
        {},
    ],
)
def test_what_is_no_rank_of_srun(environment: dict[str, str]) -> None:
    before = dict(environment)
    adopt(environment)
    assert environment == before


def test_what_is_named_already_stays_and_a_gpu_of_its_own_is_the_first() -> None:
    environment = {
        **STEP,
        "MASTER_ADDR": "10.1.2.3",
        "MASTER_PORT": "29501",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    adopt(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.1.2.3", "29501")
    assert environment["LOCAL_RANK"] == "0"
    four = {**STEP, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    adopt(four)
    assert four["LOCAL_RANK"] == "1"
