"""The doctor asks two hosts with networks of their own: whether they are alike, and can meet."""

import subprocess
import sys
from pathlib import Path

import pytest
from two_hosts import ADDRESSES, lacking, two_hosts

from training.distributed.doctor.checks import Finding
from training.distributed.doctor.hosts import check_port, check_ssh, examine_hosts
from training.distributed.doctor.remote import Remote

_TAKE = (
    "import socket; taken = socket.create_server(('', 29517)); print('taken', flush=True); input()"
)


@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
def test_two_hosts_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = tmp_path / "hosts", ADDRESSES[0]
    path.write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    with two_hosts() as hosts:
        monkeypatch.setenv("PATH", str(hosts.ssh(tmp_path / "bin")), prepend=":")
        found = {finding.name: finding for finding in examine_hosts(path, 29517, Remote())}
        assert {each.state for name, each in found.items() if name != "pdsh"} == {"works"}, found
        assert "code alike on 10.77.0.1, 10.77.0.2" in found["same"].says
        assert found["port"].says == "10.77.0.1:29517 of 10.77.0.1 is free, and the others reach it"

        absent = check_ssh({"10.77.0.3": Remote().python("10.77.0.3", "")})
        assert absent.state == "broken" and "timed out" in absent.says and "firewall" in absent.fix
        told = {address: {"addresses": [first]} for address in ADDRESSES}
        listener = subprocess.Popen(
            [*hosts.inside(0), sys.executable, "-c", _TAKE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with listener:
            assert listener.stdout and listener.stdout.readline() == "taken\n"
            taken = check_port(first, told, 29517, Remote())
            listener.communicate("\n")
        assert (
            taken.state == "broken"
            and "in use" in taken.says
            and "--master_port 29518" in taken.fix
        )
        hosts.cut()
        barred = check_port(first, told, 29517, Remote(connect=1))
        assert barred.state == "broken" and "no way to 10.77.0.1:29517" in barred.says
        assert "from 10.77.0.2" in barred.says and "--master_addr" in barred.fix
        lost = check_port(first, {}, 29517, Remote())
        assert lost == Finding(
            "port", "warns", f"port 29517 of {first} is unknown, as it does not answer", lost.fix
        )
