"""Through which network interface ranks talk: the one that leads to where they meet."""

import os
import socket

import psutil

_NAMES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def choose_interface(address: str) -> str | None:
    """Has gloo and NCCL talk through the interface by which this machine reaches an address, unless
    the environment names one.

    By itself gloo takes the address that the machine's own name has, which is often one of this
    machine alone (127.0.1.1) or none; NCCL takes the first interface that looks like a network.
    Where the ranks meet, all of them come.

    Args:
        address: where the ranks meet, a name or a number.

    Returns:
        the interface's name; None where it is not known, and nothing was set.
    """
    name = interface_to(address)
    if name is not None:
        for variable in _NAMES:
            # NCCL takes a name for the beginning of one, unless "=" stands before it.
            os.environ.setdefault(variable, f"={name}" if variable.startswith("NCCL") else name)
    return name


def interface_to(address: str) -> str | None:
    """The interface of this machine that leads to an address; None where none does."""
    try:
        kind, _, _, _, where = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(where)  # a datagram socket sends nothing by that
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == kind and each.address.partition("%")[0] == own for each in addresses):
            return name
    return "lo" if own.startswith("127.") and "lo" in psutil.net_if_addrs() else None
