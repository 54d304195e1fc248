"""Who has to go so that another can come."""

import socket
import time

from training.serving import connections


def test_addresses_have_their_share_and_who_is_answered_stays() -> None:
    pairs = [socket.socketpair() for _ in range(6)]
    ours = [pair[0] for pair in pairs]
    among = connections.Connections(most=4, most_of_one=2)
    assert among.admit(ours[0], "a") and among.admit(ours[1], "a")
    assert not among.admit(ours[2], "a") and among.admit(ours[2], "b")
    for each in ours[:3]:
        among.is_answered(each)
    among.waits(ours[1])
    time.sleep(connections.GRACE * 1.1)
    assert among.admit(ours[3], "a") and pairs[1][1].recv(1) == b"", "the one that waits has to go"
    among.leave(ours[1])
    among.leave(ours[0])
    assert among.admit(ours[0], "c") and among.admit(ours[4], "d")
    assert not among.admit(ours[5], "e"), "nobody has waited long"
    for pair in pairs:
        for each in pair:
            each.close()
