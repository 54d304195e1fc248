"""What the deepspeed command was told, what it makes of that in silence, and what is started
again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import small, train_only

from halting import UsageError
from training.cli import launch
from training.distributed.launch_command import check_command, hosts
from training.distributed.launcher_watch import LauncherWatch, _launcher_words

MODULE = ["--module", "training.train"]


def test_hosts_of_a_hostfile(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# the cluster\nmachine1 slots=8\n\nmachine2   slots=4  # older\n")
    assert hosts(path) == {"machine1": 8, "machine2": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("machine1\n", "line 1: machine1. It does not say how many ranks"),
        ("machine1 slots=8\nmachine1 slots=4\n", "line 2: machine1 slots=4"),
        ("machine1 slots=eight\n", "line 1"),
        ("# nothing\n", "names no machine"),
    ],
)
def test_a_hostfile_that_is_none(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        hosts(path)


def test_a_hostfile_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes("# équipe\nlocalhost slots=1\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"--hostfile .* from line 1, byte 2 \(0xe9\)") as refused:
        hosts(path)
    assert "Windows-1252" in refused.value.why
    path.write_bytes(b"\xef\xbb\xbfmachine1 slots=1\n")
    assert hosts(path) == {"machine1": 1}


def test_a_hostfile_that_is_not_there_is_refused_where_deepspeed_goes_on_alone(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match=r"nowhere cannot be read") as error:
        check_command(["--hostfile", str(tmp_path / "nowhere")], 2, False)
    assert "goes on with this machine alone" in error.value.why


def test_a_machine_that_the_hostfile_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("machine1 slots=8\n")
    for words in (["--include", "machine1@machine3:0,1"], ["--exclude=machine3"]):
        with pytest.raises(UsageError, match="names the machine machine3"):
            check_command([f"--hostfile={path}", *words], 8, True)
    check_command(["-H", str(path), "--include", "machine1:0,2"], 2, True)


def test_one_rank_that_nobody_asked_for() -> None:
    with pytest.raises(UsageError, match="without a number of ranks"):
        check_command(["--master_port", "29501"], 1, False)
    for words, world, has_gpu in (
        (["--num_gpus", "1"], 1, False),
        (["--num_accelerators=1"], 1, False),
        (["--master_port", "29501"], 1, True),
        ([], 1, False),
    ):
        check_command(words, world, has_gpu)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "python /usr/bin/deepspeed --num_gpus 2 --module training.train bytes --seed 1",
            ["--num_gpus", "2"],
        ),
        (
            "python -m deepspeed.launcher.runner --hostfile h --module training.train",
            ["--hostfile", "h"],
        ),
        ("python /usr/bin/deepspeed --num_gpus 2 mine.py --num_gpus 3", ["--num_gpus", "2"]),
        ("bash", []),
    ],
)
def test_the_launchers_own_words(line: str, words: list[str]) -> None:
    assert list(_launcher_words(line.split())) == words


def test_a_process_that_no_launcher_started_waits_for_nobody() -> None:
    """A shell may end, as one does that has started a run with nohup."""
    assert (
        LauncherWatch.of_this_process() == LauncherWatch(None, None)
        and LauncherWatch(None, None).gone is None
    )


def test_a_parent_that_has_gone() -> None:
    assert LauncherWatch(os.getppid(), None).gone is None
    assert LauncherWatch(os.getppid() + 1, None).gone == "the launcher had gone"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as other:
        watch = LauncherWatch(os.getppid(), other.pid)
        assert watch.gone == "the deepspeed command had gone", (
            "it is not the parent of this process's parent"
        )
        other.kill()


def test_a_job_gets_its_folders_name_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "pointer_chase-001").mkdir(parents=True)
    given = ["--num_gpus", "2", *MODULE, "pointer_chase", "--updates", "5"]
    job = launch.job_of(given)
    assert job.folder == Path("runs/pointer_chase-002") and job.launcher == ("--num_gpus", "2")
    assert job.words == ("pointer_chase", "--updates", "5", "--name", "pointer_chase-002")
    assert job.command()[1:] == [
        "-m",
        "deepspeed.launcher.runner",
        "--num_gpus",
        "2",
        *MODULE,
        *job.words,
    ]
    assert job.again().command()[5:] == [*MODULE, "--resume", "runs/pointer_chase-002"]
    assert launch.job_of([*given, "--name", "mine"]).folder == Path("runs/mine")
    assert launch.job_of([*given[:4], "pointer_chase", "--name", "mine"]).words[-2:] == (
        "--name",
        "mine",
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "does not start training.train"),
        (["--num_gpus", "2", "train.py"], "does not start training.train"),
        (["--num_gpus", "2", *MODULE, "nothing_like_it"], "no recipe nothing_like_it"),
        (["--num_gpus", "2", *MODULE, "pointer_chase", "--name", "there"], "there exists already"),
        (["--hostfile", "nowhere", *MODULE, "pointer_chase"], "nowhere cannot be read"),
    ],
)
def test_what_launch_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "there" / "final").mkdir(parents=True)
    with pytest.raises(UsageError, match=says):
        launch.main(["--max-restarts", "1", "--", *given])


@pytest.mark.parametrize(
    "words", [["--max-restarts", "many", "--"], ["--max-restart", "1", "--"], ["--wait"]]
)
def test_flags_of_launch_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(UsageError):
        launch.main(words)


def test_what_is_not_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes stand in for the launcher; the run folder is a real one."""
    assert train_only(small(tmp_path, name="run", updates=4)) == 0

    class Ends(launch.LaunchedJob):
        codes: list[int] = []  # noqa: RUF012 — of each start, in turn

        def command(self) -> list[str]:
            return [sys.executable, "-c", f"import sys; sys.exit({self.codes.pop(0)})"]

        def again(self) -> launch.LaunchedJob:
            return self

    job = Ends((), (), tmp_path / "run")
    for codes, restarts, expected, says in (
        ([0], 3, 0, None),
        ([2], 3, 2, "input has to be mended"),
        ([1], 0, 1, "--max-restarts is 0"),
        ([1, 1], 3, 1, "died twice after the checkpoint of update 4"),
        ([1, 0], 3, 0, "restart 1 of 3 from update 4"),
    ):
        job.codes[:] = codes
        assert launch.supervise(job, restarts, 0.0) == expected and not job.codes
        said = capsys.readouterr().err
        assert says in said if says else not said
    job.codes[:] = [1]
    nowhere = Ends((), (), tmp_path / "not there")
    nowhere.codes[:] = [1]
    assert (
        launch.supervise(nowhere, 3, 0.0) == 1
        and "before its first checkpoint" in capsys.readouterr().err
    )
