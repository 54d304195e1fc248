"""What `ponder doctor --hostfile` looks at: whether the machines of a hostfile can train
together."""

import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.distributed.doctor.checks import Finding
from training.distributed.doctor.remote import NO_FOLDER, NO_PYTHON, Remote, RemoteResult
from training.distributed.fingerprint import PACKAGES
from training.distributed.launch_command import hosts

_AT_ONCE = 32
_SAME = ("python", *PACKAGES, "code")

_LISTEN = """
import select, socket, sys
with socket.create_server(("", int(sys.argv[1]))) as server:
    print("listening", flush=True)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [], 60)
        if server not in ready:
            break
        server.accept()[0].close()
"""
_KNOCK = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), "
    "int(sys.argv[3])).close()"
)

_SSH_SAYS = {
    "permission denied": (
        "It asks for a password or a key: run ssh-copy-id {host} where deepspeed is started."
    ),
    "host key verification failed": (
        "Its key is not known here: log in once by hand, ssh {host}, and compare the key."
    ),
    "connection refused": "Start sshd there, or write the port that it listens at: --ssh-port.",
    "could not resolve": (
        "Write a name that this machine knows, or the address itself, into the hostfile."
    ),
    "timed out": "Is it up, and does a firewall close ssh's port? --ssh-port names another one.",
    "no route": "Is it up, and on a network that this machine reaches?",
}


def examine_hosts(path: Path, port: int, remote: Remote | None) -> Iterator[Finding]:
    """All checks of a hostfile, in the order in which one thing needs another.

    Args:
        path: of the hostfile.
        port: where the ranks would meet, on the first machine.
        remote: how its machines are asked; None asks none, for launches by hand (--no_ssh).
    """
    try:
        listed = hosts(path)
    except UsageError as error:
        yield Finding("hostfile", "broken", f"{error.what} {error.why}", error.write)
        return
    yield check_entries(listed, path)
    addresses = {host: _addresses(host) for host in listed}
    yield check_names(addresses)
    if remote is None:
        yield check_port_here(next(iter(listed)), addresses, port)
        return
    yield check_pdsh(len(listed))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = dict(zip(listed, pool.map(remote.fingerprint, listed), strict=True))
    told = {host: json.loads(each.output) for host, each in ended.items() if each.code == 0}
    yield check_ssh(ended)
    if told:
        yield check_same(told)
        yield check_slots(listed, told)
    yield check_port(next(iter(listed)), told, port, remote)


def check_entries(listed: Mapping[str, int], path: Path) -> Finding:
    """Every machine has ranks."""
    empty = [host for host, slots in listed.items() if slots == 0]
    says = f"{len(listed)} machines, {sum(listed.values())} ranks: " + _few(
        [f"{host} {slots}" for host, slots in listed.items()]
    )
    if empty:
        fix = f"Write how many ranks each is to have, or drop its line from {path}."
        return Finding("hostfile", "broken", f"{says}; slots=0: {_few(empty)}", fix)
    return Finding("hostfile", "works", says)


def check_names(addresses: Mapping[str, set[str]]) -> Finding:
    """Every name has an address, and no two names the same one.

    Args:
        addresses: of each machine; empty where it has none.
    """
    unknown = [host for host, found in addresses.items() if not found]
    if unknown:
        fix = "Write names that this machine knows (/etc/hosts, DNS), or addresses."
        return Finding("names", "broken", f"no address for {_few(unknown)}", fix)
    known = list(addresses)
    for number, one in enumerate(known):
        other = next(
            (each for each in known[number + 1 :] if addresses[one] & addresses[each]), None
        )
        if other is not None:
            both = min(addresses[one] & addresses[other])
            fix = "Keep one line for a machine, with all of its slots."
            return Finding(
                "names", "broken", f"{one} and {other} are the same machine, {both}", fix
            )
    return Finding("names", "works", f"all {len(known)} have an address of their own")


def check_pdsh(machines: int) -> Finding:
    """What deepspeed starts the other machines with."""
    if machines == 1 or shutil.which("pdsh"):
        return Finding("pdsh", "works", shutil.which("pdsh") or "not needed for one machine")
    fix = (
        "Install pdsh where deepspeed is started (apt install pdsh), or start each machine by "
        "hand: deepspeed --no_ssh --node_rank N --master_addr ADDRESS …"
    )
    return Finding(
        "pdsh", "warns", "not found; deepspeed --hostfile starts machines through it", fix
    )


def check_ssh(ended: Mapping[str, RemoteResult]) -> Finding:
    """Every machine answers without a password, and has this folder and this Python."""
    wrong = {host: each for host, each in ended.items() if each.code != 0}
    if not wrong:
        return Finding("ssh", "works", f"all {len(ended)} answer, with this folder and this Python")
    said = [f"{host}: {_why(each)}" for host, each in wrong.items()]
    host, first = next(iter(wrong.items()))
    return Finding("ssh", "broken", _few(said), _mend(host, first))


def check_same(told: Mapping[str, Mapping[str, Any]]) -> Finding:
    """The machines have the same versions and the same code.

    Args:
        told: the fingerprint of each.
    """
    first, *others = told
    for name in _SAME:
        other = next((host for host in others if told[host][name] != told[first][name]), None)
        if other is not None:
            says = f"{name} is {told[first][name]} on {first} and {told[other][name]} on {other}"
            fix = (
                "Ranks that differ refuse to start: bring the same environment and the same code "
                "to all machines."
            )
            return Finding("same", "broken", says, fix)
    return Finding("same", "works", f"{', '.join(_SAME)} alike on {_few(list(told))}")


def check_slots(listed: Mapping[str, int], told: Mapping[str, Mapping[str, Any]]) -> Finding:
    """No machine gets more ranks than it has GPUs, or cores where it has none."""
    for host, about in told.items():
        slots = listed[host]
        gpus = about["gpus"]
        cores = about["cores"]
        if 0 < gpus < slots:
            fix = f"Write {host} slots={gpus}: each rank takes a GPU of its own."
            return Finding("slots", "broken", f"{host} has {gpus} GPUs for slots={slots}", fix)
        if gpus == 0 and slots > cores:
            fix = f"Ranks on a CPU wait for one another there: write {host} slots={cores}."
            return Finding(
                "slots", "warns", f"{host} has {cores} cores, and no GPU, for slots={slots}", fix
            )
    return Finding("slots", "works", "a GPU or a core for every rank")


def check_port(
    first: str, told: Mapping[str, Mapping[str, Any]], port: int, remote: Remote
) -> Finding:
    """Nobody listens where the ranks would meet, and all machines can come to it.

    Args:
        first: the machine of rank 0.
        told: the fingerprint of each machine that answered.
        port: the port.
        remote: how they are asked.
    """
    if first not in told:
        return Finding(
            "port",
            "warns",
            f"port {port} of {first} is unknown, as it does not answer",
            "See ssh above.",
        )
    address = next(iter(told[first]["addresses"]), None)
    if address is None:
        fix = (
            "deepspeed asks it by `hostname -I`: name an address yourself, deepspeed --master_addr "
            "ADDRESS."
        )
        return Finding("port", "warns", f"{first} does not say which addresses it has", fix)
    with remote.listening(first, _LISTEN, port) as wrong:
        if wrong is not None:
            fix = (
                f"Write another port, such as deepspeed --master_port {port + 1}, or end what "
                "listens there."
            )
            return Finding("port", "broken", f"port {port} of {first} cannot be used: {wrong}", fix)
        others = [host for host in told if host != first]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ended = list(
                pool.map(
                    lambda host: remote.python(host, _KNOCK, address, port, remote.connect), others
                )
            )
    barred = [
        f"{host} ({_last(each)})"
        for host, each in zip(others, ended, strict=True)
        if each.code != 0
    ]
    if barred:
        fix = (
            f"{address} is what `hostname -I` names first there, and what deepspeed takes. Name "
            "one that all reach, deepspeed --master_addr ADDRESS, or open the port in its "
            "firewall."
        )
        return Finding(
            "port", "broken", f"no way to {address}:{port} of {first} from {_few(barred)}", fix
        )
    return Finding("port", "works", f"{address}:{port} of {first} is free, and the others reach it")


def check_port_here(first: str, addresses: Mapping[str, set[str]], port: int) -> Finding:
    """The same without asking anybody: known where the first machine is this one."""
    try:
        with socket.socket() as own:
            own.bind((min(addresses[first], default=""), 0))
    except OSError:
        says = f"port {port} of {first} was not looked at: it is another machine"
        return Finding("port", "works", f"{says} (ponder doctor --hostfile there does)")
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        fix = (
            f"Write another port, such as deepspeed --master_port {port + 1}, or end what listens "
            "there."
        )
        return Finding(
            "port", "broken", f"port {port} of this machine cannot be used: {error.strerror}", fix
        )
    return Finding("port", "works", f"port {port} of this machine is free")


def _addresses(host: str) -> set[str]:
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _why(ended: RemoteResult) -> str:
    if ended.code == NO_FOLDER:
        return "this folder is not there"
    if ended.code == NO_PYTHON:
        return "this Python is not there"
    return _last(ended)


def _mend(host: str, ended: RemoteResult) -> str:
    if ended.code in (NO_FOLDER, NO_PYTHON):
        return (
            "deepspeed uses the same paths on all machines: share the folders, or install at the "
            "same place there."
        )
    said = ended.error.lower()
    known = next((fix for part, fix in _SSH_SAYS.items() if part in said), None)
    known = known or "Run by hand what fails, and fix what it says: ssh -o BatchMode=yes {host}"
    return known.format(host=host)


def _last(ended: RemoteResult) -> str:
    lines = [line.strip() for line in ended.error.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {ended.code}"


def _few(words: list[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
