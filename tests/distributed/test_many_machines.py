"""Two hosts with networks of their own: the losses of one, and a clear end on both when the cable
is pulled."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import HERE, LAUNCHER_NAMES, free_port
from two_hosts import ADDRESSES, lacking, real_ssh, two_hosts

ROOT = HERE.parent.parent
UPDATES = 20
TRAINING = [
    *(
        "pointer_chase",
        "--data.length",
        "6",
        "--batch-size",
        "8",
        "--model.width",
        "16",
        "--model.num-heads",
        "2",
    ),
    *(
        "--eval-every",
        "100000",
        "--test-examples",
        "8",
        "--eval-examples",
        "8",
        "--schedule.kind",
        "WarmupConstant",
    ),
    # Given, they stay as they are in runs of other lengths.
    *("--schedule.warmup", "10", "--penalty.warmup", "20"),
    *("--deepspeed_config", str(ROOT / "ds_configs" / "zero2.json")),
]
LOST_AFTER = 5
PATIENCE = 240.0

pytestmark = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))


@contextmanager
def started(folder: Path, name: str, *command: str, path: str = "") -> Iterator[subprocess.Popen]:
    """A command whose output goes to a file; its process group, and what else has the folder, is
    ended at the end."""
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHER_NAMES}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{path}{os.environ['PATH']}"
    with (folder / f"{name}.txt").open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for each in at_work(folder):
            each.kill()
        process.kill()
        process.wait()


def at_work(folder: Path) -> list[psutil.Process]:
    """What runs in a folder."""
    found = [
        each for each in psutil.process_iter(["cwd", "status"]) if each.info["cwd"] == str(folder)
    ]
    return [
        each
        for each in found
        if each.info["status"] != psutil.STATUS_ZOMBIE and each.pid != os.getpid()
    ]


def losses(folder: Path, name: str) -> list[float]:
    path = folder / "runs" / name / "metrics.jsonl"
    lines = (
        [line for line in path.read_text().splitlines() if line.endswith("}")]
        if path.exists()
        else []
    )
    return [told["loss"] for told in map(json.loads, lines) if told["kind"] == "train"]


def wait_for(what: str, condition, folder: Path, seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            said = "\n".join(
                f"{path.name}:\n{path.read_text()[-4000:]}" for path in sorted(folder.glob("*.txt"))
            )
            pytest.fail(f"{what} did not come in {seconds:g} s:\n{said}")
        time.sleep(0.1)


@dataclass(frozen=True)
class Launched:
    """What came of two launches.

    Args:
        one_host: losses of two ranks on one host, under torchrun.
        two_hosts: of one rank on each of two, started by hand.
        codes: with which deepspeed ended on each, once the cable was pulled.
        said: what was on the screen of each.
    """

    one_host: list[float]
    two_hosts: list[float]
    codes: list[int | None]
    said: list[str]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "hosts").write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    words = ["-m", "training.train", *TRAINING, "--updates", str(UPDATES), "--name", "one"]
    with started(folder, "one", *torchrun, "--master_port", str(free_port()), *words) as one:
        wait_for("the end of one host", lambda: one.poll() is not None, folder)
        assert one.returncode == 0, (folder / "one.txt").read_text()[-5000:]
    deepspeed = [
        sys.executable,
        "-m",
        "deepspeed.launcher.runner",
        "--hostfile",
        "hosts",
        "--no_ssh",
    ]
    deepspeed += ["--master_addr", ADDRESSES[0], "--master_port", "29517"]
    words = ["--module", "training.train", *TRAINING, "--updates", "100000", "--name", "two"]
    words += ["--lost-after", str(LOST_AFTER)]
    with two_hosts() as hosts:
        commands = [
            [*hosts.inside(host), *deepspeed, "--node_rank", str(host), *words] for host in range(2)
        ]
        with (
            started(folder, "first", *commands[0]) as first,
            started(folder, "second", *commands[1]) as second,
        ):
            wait_for(
                "training",
                lambda: len(losses(folder, "two")) >= UPDATES or first.poll() is not None,
                folder,
            )
            hosts.cut()
            wait_for(
                "the end of both", lambda: None not in (first.poll(), second.poll()), folder, 60
            )
            assert not at_work(folder)
    said = [(folder / f"{name}.txt").read_text() for name in ("first", "second")]
    return Launched(
        losses(folder, "one"),
        losses(folder, "two")[:UPDATES],
        [first.returncode, second.returncode],
        said,
    )


def test_two_hosts_have_the_losses_of_one_bit_for_bit(launched: Launched) -> None:
    """One is started by torchrun, the other by hand with deepspeed --no_ssh."""
    assert len(launched.one_host) == UPDATES
    assert launched.two_hosts == launched.one_host, launched.said


def test_a_pulled_cable_ends_both_sides_and_each_names_the_other(launched: Launched) -> None:
    assert launched.codes == [1, 1]
    for own, other, host in ((0, 1, "second"), (1, 0, "first")):
        said = launched.said[own]
        assert (
            f"error: rank {other} (process " in said
            and f" on {host}) has given no sign of life for 5 s" in said
        )
        assert "cut from the network" in said and "--resume runs/two" in said
        assert "Traceback" not in said


@pytest.mark.skipif(
    not shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"), reason="sshd is not installed"
)
@pytest.mark.skipif(not shutil.which("pdsh"), reason="pdsh is not installed")
def test_a_hostfile_starts_both_through_ssh_and_they_stop_when_ssh_has_gone(
    tmp_path: Path, launched: Launched
) -> None:
    (tmp_path / "hosts").write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    (tmp_path / ".deepspeed_env").write_text("OMP_NUM_THREADS=1\n")
    deepspeed = [
        sys.executable,
        "-m",
        "deepspeed.launcher.runner",
        "--hostfile",
        "hosts",
        "--master_port",
        "29517",
    ]
    words = ["--module", "training.train", *TRAINING, "--updates", "100000", "--name", "ssh"]
    with two_hosts() as hosts, real_ssh(hosts, tmp_path / "keys") as place:
        command = [*hosts.inside(0), *deepspeed, *words]
        with started(tmp_path, "ssh", *command, path=f"{place}:") as runner:
            wait_for(
                "training",
                lambda: len(losses(tmp_path, "ssh")) >= UPDATES or runner.poll() is not None,
                tmp_path,
            )
            connections = [
                each
                for each in psutil.Process(runner.pid).children(recursive=True)
                if each.name() == "ssh"
            ]
            assert len(connections) == 2, (tmp_path / "ssh.txt").read_text()[-3000:]
            for each in connections:
                each.kill()
            wait_for("the end of all", lambda: not at_work(tmp_path), tmp_path, 60)
    assert losses(tmp_path, "ssh")[:UPDATES] == launched.one_host
    saved = max((tmp_path / "runs" / "ssh" / "checkpoints").iterdir()).name
    assert int(saved.rpartition("-")[2]) == len(losses(tmp_path, "ssh")), (
        "both saw that ssh had gone, and saved"
    )
