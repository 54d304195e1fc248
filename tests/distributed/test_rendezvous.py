"""How ranks meet: all of them, once each, about to run the same; or a clear error on every one, in
time."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import free_port

from halting import UsageError
from training.config.run_config import RunConfig
from training.distributed import rendezvous
from training.distributed.fingerprint import code, facts
from training.distributed.members import Member, Members
from training.distributed.rendezvous import Place, meet
from training.tasks.data_identity import DataIdentity, FileDigest

CONFIG = {"recipe": "pointer_chase", "data": {"kind": "PointerChase"}}


def meeting(
    told: list[dict[str, str]],
    seconds: float = 20.0,
    world: int | None = None,
    ranks: list[int] | None = None,
) -> list[Members | str]:
    """What each rank gets, or the error that it raises. Each is a thread here: only sockets lie
    between them."""
    port, world, stores = free_port(), world or len(told), []

    def come(rank: int, about: dict[str, str]) -> Members | str:
        try:
            store, members = meet(
                Place(rank, world, "127.0.0.1", port), about, timedelta(seconds=seconds)
            )
            stores.append(store)  # rank 0's is where the others read: it lives as long as they do
            return members
        except UsageError as error:
            return f"{error.what} {error.why} {error.write}"

    with ThreadPoolExecutor(len(told)) as pool:
        return list(pool.map(come, ranks or range(len(told)), told))


def test_all_know_one_another() -> None:
    met = meeting([{"config": "{}", "torch": "2.13.0"}] * 3)
    for rank, members in enumerate(met):
        assert isinstance(members, Members) and members.rank == rank
        assert members.everyone == tuple(
            Member(each, socket.gethostname(), os.getpid()) for each in range(3)
        )
        assert members.gone() == []


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("torch", ("2.13.0", "2.12.1"), "torch is 2.13.0 on rank 0"),
        ("code", ("abc", "def"), "code is abc on rank 0"),
        ("data", ('{"a.txt": "x"}', '{"a.txt": "y"}'), 'data.a.txt is "x" on rank 0'),
        ("data", ('{"a.txt": "x"}', '{"b.txt": "x"}'), 'data.a.txt is "x" on rank 0'),
        (
            "config",
            ('{"loop": {"max_steps": 10}, "seed": 0}', '{"loop": {"max_steps": 12}, "seed": 0}'),
            None,
        ),
    ],
)
def test_ranks_that_differ_are_refused_on_every_rank(
    name: str, values: tuple[str, str], says: str | None
) -> None:
    met = meeting([{name: values[0]}, {name: values[0]}, {name: values[1]}])
    assert met[0] == met[1] == met[2]
    assert (
        isinstance(met[0], str)
        and "rank 2" in met[0]
        and "All ranks have to run the same" in met[0]
    )
    assert (says or "config.loop.max_steps is 10 on rank 0") in met[0]


def test_a_rank_that_does_not_come_is_named_on_every_other_one(capsys, monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "_SAY_EVERY", 0.5)
    met = meeting([{}, {}], seconds=3, world=4)
    assert all(isinstance(each, str) and "2 ranks (2, 3) of 4 did not come" in each for each in met)
    assert "within 3 s" in str(met[0])
    said = capsys.readouterr().err
    assert "waiting at 127.0.0.1" in said and "for 2 ranks (2, 3) of 4, at most 3 s" in said


def test_a_rank_that_is_there_twice_is_refused() -> None:
    met = meeting([{}, {}, {}], seconds=3, world=2, ranks=[0, 1, 1])
    assert any(
        isinstance(each, str) and "Two processes say that they are rank 1 of 2" in each
        for each in met
    )


def test_a_rank_without_rank_0_says_where_it_waited(capsys, monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "_SAY_EVERY", 0.5)
    [met] = meeting([{}], seconds=2, world=2, ranks=[1])
    assert (
        isinstance(met, str)
        and "Rank 1 on" in met
        and "no answer within 2 s" in met
        and "--master_addr" in met
    )
    assert f"rank 1 on {socket.gethostname()} waits for rank 0" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1 is taken") as error:
            meet(Place(0, 2, "127.0.0.1", port), {}, timedelta(seconds=5))
    assert f"--master_port {port + 1}" in error.value.write


def test_an_address_that_nobody_has() -> None:
    with pytest.raises(UsageError, match=r"cannot use no\.such\.machine\.invalid"):
        meet(Place(1, 2, "no.such.machine.invalid", 29500), {}, timedelta(seconds=5))


def test_the_fingerprint_tells_configs_code_and_own_files_apart(
    tmp_path: Path, monkeypatch
) -> None:
    own = tmp_path / "mine.py"
    own.write_text("from halting import GravesACT\n\nclass Mine(GravesACT):\n    pass\n")
    config = RunConfig(**CONFIG, halting={"kind": f"{own}:Mine"})
    before = facts(config)
    assert {"config", "code", "python", "torch", "deepspeed", "WORLD_SIZE"} <= before.keys()
    assert json.loads(before["config"])["recipe"] == "pointer_chase"
    assert facts(config) == before and code(RunConfig(**CONFIG)) != before["code"]
    data = DataIdentity("/data", {"a.txt": FileDigest.of(b"text")})
    assert facts(config, data) == {**before, "data": data.facts()}
    own.write_text(own.read_text() + "\n# a change\n")
    assert code(config) != before["code"]
    monkeypatch.setenv("WORLD_SIZE", "7")
    assert facts(config)["WORLD_SIZE"] == "7"


def test_a_dead_rank_is_told_from_living_ones() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        here = socket.gethostname()
        living, elsewhere = Member(1, here, other.pid), Member(2, "another-machine", 1)
        members = Members([Member(0, here, os.getpid()), living, elsewhere], 0)
        assert members.gone() == [] and members.await_gone(0.1) == []
        other.kill()
        assert members.await_gone(5.0) == [living], (
            "also while it is a zombie, which nobody has waited for yet"
        )
        assert str(living) == f"rank 1 (process {other.pid} on {here})"
