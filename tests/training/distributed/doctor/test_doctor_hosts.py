"""The doctor's look at a hostfile: each thing that is wrong with its machines is found, named, and
has a fix."""

import shutil
import socket
from pathlib import Path

import pytest

from training.distributed.doctor.checks import check_builds, check_launcher
from training.distributed.doctor.hosts import (
    check_names,
    check_port_here,
    check_same,
    check_slots,
    check_ssh,
    examine_hosts,
)
from training.distributed.doctor.remote import NO_FOLDER, NO_PYTHON, Remote, RemoteResult
from training.distributed.fingerprint import machine


def first_finding(folder: Path, text: str):
    path = folder / "hosts"
    path.write_text(text)
    return next(examine_hosts(path, 29500, None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a slots=2\nb slots=x\n", "line 2: b slots=x. It is no entry"),
        ("a slots=2\na slots=2\n", "a second time"),
        ("# nobody\n", "names no machine"),
        ("a slots=2\nb slots=0\n", "2 machines, 2 ranks: a 2, b 0; slots=0: b"),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path: Path, text: str, says: str):
    finding = first_finding(tmp_path, text)
    assert finding.state == "broken" and says in finding.says and finding.fix
    missing = next(examine_hosts(tmp_path / "absent", 29500, None))
    assert missing.state == "broken" and "cannot be read" in missing.says


def test_a_file_that_is_right(tmp_path: Path):
    assert first_finding(tmp_path, "a slots=2\n\nb slots=1  # the old one\n").state == "works"


def test_names_without_an_address_and_two_of_one_machine(tmp_path: Path):
    path = tmp_path / "hosts"
    path.write_text("localhost slots=1\nno.such.machine.invalid slots=1\n")
    _, names, *_ = examine_hosts(path, 29500, None)
    assert names.state == "broken" and names.says == "no address for no.such.machine.invalid"
    both = check_names({"a": {"10.0.0.1"}, "b": {"10.0.0.2"}, "c": {"10.0.0.1", "fe80::1"}})
    assert both.state == "broken" and both.says == "a and c are the same machine, 10.0.0.1"
    assert check_names({"a": {"10.0.0.1"}, "b": {"10.0.0.2"}}).state == "works"


@pytest.mark.parametrize(
    ("ended", "says", "fix"),
    [
        (
            RemoteResult(255, "", "banner\na@b: Permission denied (publickey).\n"),
            "Permission denied",
            "ssh-copy-id b",
        ),
        (RemoteResult(255, "", "Host key verification failed.\n"), "Host key", "ssh b"),
        (RemoteResult(255, "", "ssh: something new\n"), "something new", "ssh -o BatchMode=yes b"),
        (RemoteResult(NO_FOLDER, "", ""), "this folder is not there", "same paths"),
        (RemoteResult(NO_PYTHON, "", ""), "this Python is not there", "same paths"),
        (
            RemoteResult(1, "", "ModuleNotFoundError: No module named 'torch'\n"),
            "No module named 'torch'",
            "by hand",
        ),
    ],
)
def test_a_machine_that_does_not_answer(ended: RemoteResult, says: str, fix: str):
    finding = check_ssh({"a": RemoteResult(0, "{}", ""), "b": ended})
    assert finding.state == "broken" and "b: " in finding.says
    assert says in finding.says and fix in finding.fix


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_what_ssh_itself_says():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        ended = Remote(port=unheard.getsockname()[1]).python("127.0.0.1", "")
    finding = check_ssh({"127.0.0.1": ended})
    assert "Connection refused" in finding.says and "--ssh-port" in finding.fix


def test_versions_that_differ_and_too_many_ranks():
    mine = machine()
    assert mine["code"] and mine["cores"]
    same = check_same({"a": mine, "b": mine, "c": mine})
    assert same.state == "works"
    other = check_same({"a": mine, "b": mine, "c": {**mine, "torch": "2.12.0"}})
    assert (
        other.state == "broken" and other.says == f"torch is {mine['torch']} on a and 2.12.0 on c"
    )
    assert check_same({"a": mine, "b": {**mine, "code": "0123"}}).says.startswith("code is ")
    with_gpus = {"a": {**mine, "gpus": 2}, "b": {**mine, "gpus": 0, "cores": 4}}
    assert check_slots({"a": 2, "b": 4}, with_gpus).state == "works"
    assert check_slots({"a": 3, "b": 4}, with_gpus).fix.startswith("Write a slots=2")
    assert check_slots({"a": 2, "b": 5}, with_gpus).state == "warns"


def test_the_port_of_this_machine():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        finding = check_port_here("localhost", {"localhost": {"127.0.0.1"}}, port)
    assert (
        finding.state == "broken"
        and f"port {port}" in finding.says
        and str(port + 1) in finding.fix
    )
    assert check_port_here("localhost", {"localhost": {"127.0.0.1"}}, port).state == "works"
    elsewhere = check_port_here("b", {"b": {"192.0.2.1"}}, port)
    assert elsewhere.state == "works" and "was not looked at" in elsewhere.says


def test_builds_of_another_environment(tmp_path: Path):
    assert check_builds(tmp_path / "absent").state == "works"
    build = tmp_path / "cpu_adam"
    build.mkdir()
    (build / "build.ninja").write_text(
        "cflags = -isystem /opt/one/lib/python3.11/site-packages/torch/include\n"
    )
    assert check_builds(tmp_path, Path("/opt/one")).state == "works"
    finding = check_builds(tmp_path, Path("/opt/on"))
    assert (
        finding.state == "warns"
        and "cpu_adam" in finding.says
        and f"rm -r '{build}'" in finding.fix
    )


def test_a_hostfile_that_nobody_named(tmp_path: Path):
    assert check_launcher(tmp_path / "hostfile").state == "works"
    (tmp_path / "hostfile").write_text("a slots=1\n")
    assert (
        "without --hostfile deepspeed takes the machines of"
        in check_launcher(tmp_path / "hostfile").says
    )
