"""Two hosts on one machine: each a network of its own with its own address and name, and a cable
between them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HOST = (
    "import socket, sys; socket.sethostname(sys.argv[1]); print('ready', flush=True); "
    "sys.stdin.read()"
)
NAMES, ADDRESSES = ("first", "second"), ("10.77.0.1", "10.77.0.2")


def lacking() -> str | None:
    """What two hosts need and this machine lacks; None where they can be had."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if os.geteuid() != 0:
        return "networks of their own need root"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "true"], capture_output=True, text=True, check=False
    )
    return (
        None if tried.returncode == 0 else f"no networks of their own here: {tried.stderr.strip()}"
    )


@dataclass(frozen=True)
class TwoHosts:
    """Where commands run.

    Args:
        holders: a process in each, which keeps it.
    """

    holders: tuple[int, int]

    def inside(self, host: int) -> list[str]:
        """What comes before a command that is to run on a host."""
        return ["nsenter", "--target", str(self.holders[host]), "--net", "--uts", "--"]

    def cut(self) -> None:
        """Pulls the cable: from now on what one sends never arrives, and nobody is told."""
        subprocess.run([*self.inside(0), "ip", "link", "set", "cable0", "down"], check=True)

    def ssh(self, folder: Path) -> Path:
        """A folder for PATH with an `ssh` that enters one of the hosts instead of logging in, so
        that what is said to a machine is really run there; what is no host of these says what ssh
        says."""
        lines = [
            "#!/bin/sh",
            'while [ "$1" = -o ] || [ "$1" = -p ]; do shift 2; done',
            'case "$1" in',
        ]
        for number, address in enumerate(ADDRESSES):
            lines.append(f'{address}) shift; exec {" ".join(self.inside(number))} sh -c "$*";;')
        lines.append(
            '*) echo "ssh: connect to host $1 port 22: Connection timed out" >&2; exit 255;;'
        )
        folder.mkdir(exist_ok=True)
        (folder / "ssh").write_text("\n".join([*lines, "esac", ""]))
        (folder / "ssh").chmod(0o755)
        return folder


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Both, until the end; what still runs in them has then no network."""
    holders = [
        subprocess.Popen(
            ["unshare", "--net", "--uts", sys.executable, "-S", "-c", _HOST, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in NAMES
    ]
    try:
        for holder in holders:
            assert holder.stdout and holder.stdout.readline() == "ready\n"
        hosts = TwoHosts((holders[0].pid, holders[1].pid))
        there = [
            "ip",
            "link",
            "add",
            "cable0",
            "type",
            "veth",
            "peer",
            "name",
            "cable1",
            "netns",
            str(holders[1].pid),
        ]
        subprocess.run([*hosts.inside(0), *there], check=True)
        for number, address in enumerate(ADDRESSES):
            for words in (
                ["addr", "add", f"{address}/24", "dev", f"cable{number}"],
                ["link", "set", f"cable{number}", "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run([*hosts.inside(number), "ip", *words], check=True)
        yield hosts
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


@contextmanager
def real_ssh(hosts: TwoHosts, folder: Path) -> Iterator[Path]:
    """While entered, an sshd listens on both hosts, which lets in whoever has the key in a folder;
    gives a folder for PATH whose `ssh` has that key. Needs sshd."""
    folder.mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    Path("/run/sshd").mkdir(
        exist_ok=True
    )  # sshd asks for it, and only its package's own start makes it
    told = folder / "config"
    told.write_text(
        f"HostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'user.pub'}\nStrictModes "
        "no\nUsePAM no\n"
        "PermitRootLogin yes\nPidFile none\nPasswordAuthentication no\n"
    )
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    daemons = [
        subprocess.Popen(
            [*hosts.inside(number), sshd, "-D", "-e", "-f", str(told)], stderr=subprocess.DEVNULL
        )
        for number in range(2)
    ]
    options = (
        f"-F none -i {folder / 'user'} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "-q"
    )
    place = folder / "bin"
    place.mkdir()
    (place / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    (place / "ssh").chmod(0o755)
    try:
        yield place
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
