"""Requests to `ponder serve` that nobody should send."""

import contextlib
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.material import Material
from benchmarks.trouble.pools import JSON, WORDS, draw

KIND = "http"
_DEADLINE = 2.0
"""Seconds that a request has here; ten in the product."""
_HEAD = "POST /api/map HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_GOOD = b'{"text": "1 0 1 1"}'
_MOST_OF_ONE = 64
_SMUGGLED = (
    f"{_HEAD}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    "GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n"
).encode()
_STATUSES = {100, 200, 400, 403, 404, 405, 408, 411, 413, 414, 415, 417, 431, 501, 503, 505}

Attack = Callable[[int], str | None]
"""Attacks a port; what is wrong with the answers, or None."""


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    if number % 8 == 7:
        says, attack = source.choice(_DRIPPERS)
    else:
        says, attack = source.choice((_raw, _raw, _json, _json, _header, _path))(source)
    return Case(
        KIND,
        number,
        says,
        rule="answered",
        prepare=material.copy,
        run=partial(_attacked, attack=attack),
        check=_told,
        limit=60.0,
    )


def _attacked(place: Path, attack: Attack) -> int:
    """Serves the run in this process, attacks it, and asks whether it still answers."""
    from training.cli.serve import Options, open_server  # late: cases are made without torch
    from training.runs.loaded import load_run
    from training.serving import map_server

    map_server._Handler.timeout = _DEADLINE
    server = open_server(load_run(place / "runs" / "base"), Options(port=0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wrong = attack(server.server_port)
    began = time.monotonic()
    answer = _sent(server.server_port, _request(_GOOD))
    if b" 200 " not in answer[:20]:
        wrong = f"a good request got {answer[:60]!r} afterwards"
    if time.monotonic() - began > 2 * _DEADLINE:
        wrong = f"a good request took {time.monotonic() - began:.1f} s afterwards"
    if wrong is not None:
        print(f"wrong: {wrong}", flush=True)
    return 0


def _told(place: Path, ended: Ended) -> str | None:
    """What the child found wrong."""
    found = re.search(r"^wrong: (.*)", ended.said, re.MULTILINE)
    return None if found is None else f"nonsense: {found[1]}"


def _request(body: bytes, head: str = _HEAD) -> bytes:
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("utf-8", "surrogateescape") + body


def _sent(port: int, content: bytes, seconds: float = 10.0) -> bytes:
    """What comes back, until the other side closes or a whole answer is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                got += part
    return got


def _is_answered(port: int, content: bytes, allowed: set[int] = _STATUSES) -> str | None:
    """What is wrong with the answers to some bytes."""
    began = time.monotonic()
    got = _sent(port, content)
    if time.monotonic() - began > 3 * _DEADLINE:
        return f"it took {time.monotonic() - began:.1f} s"
    statuses = [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]
    if odd := set(statuses) - allowed:
        return f"status {sorted(odd)}"
    if b"Traceback" in got or b'File "' in got:
        return "the answer tells of the program's inside"
    return None


def _raw(source: random.Random) -> tuple[str, Attack]:
    """Bytes that are hardly HTTP."""
    good = _request(_GOOD)
    place = source.randrange(len(good))
    slips = (
        ("cut", good[:place]),
        (
            "a bit flipped",
            good[:place] + bytes([good[place] ^ (1 << source.randrange(8))]) + good[place + 1 :],
        ),
        ("random bytes", source.randbytes(2000)),
        ("nothing", b""),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(200)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a long line", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"),
        ("many headers", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
        ("a long header", b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n"),
        ("headers without end", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50),
        ("folded headers", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\tc\r\n\r\n"),
        ("a NUL in a header", b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n"),
        ("line feeds alone", b"GET / HTTP/1.1\nHost: localhost\n\n"),
        ("two requests in one", good + good),
        (
            "a smuggled request",
            _SMUGGLED,
        ),
        ("version 9.9", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        ("version 0.9", b"GET /\r\n"),
        ("a method of its own", b"\xff\xfe / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("blank lines first", b"\r\n\r\n\r\n" + good),
    )
    says, content = source.choice(slips)
    return f"raw: {says}", partial(_is_answered, content=content)


def _json(source: random.Random) -> tuple[str, Attack]:
    """Bodies that are hardly JSON, or not what is asked for."""
    values = [value for value in JSON if value != _GOOD]
    bodies = (
        json.dumps({"text": source.choice(values)}).encode("utf-8", "surrogatepass"),
        json.dumps({"text": source.choice(WORDS)}).encode("utf-8", "surrogatepass"),
        json.dumps({"text": "1 0 1 1", "max_steps": source.choice(values)}).encode(
            "utf-8", "surrogatepass"
        ),
        json.dumps({"text": "1 0 1 1", source.choice(("x", "run", "", "__class__")): 1}).encode(),
        json.dumps(source.choice(values)).encode("utf-8", "surrogatepass"),
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"text": "1", "text": "0"}',
        b'{"text": "1 0 1 1", "max_steps": NaN}',
        b'{"text": "1 0 1 1", "max_steps": 1e400}',
        b'{"text": "1 0 1 1", "max_steps": ' + b"9" * 5000 + b"}",
        b'{"text": "' + b"1 " * 20_000 + b'"}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf" + _GOOD,
        _GOOD.decode().encode("utf-16"),
        b"",
        b" ",
        b"null",
    )
    body = source.choice(bodies)
    return f"body {body[:50]!r}", partial(_is_answered, content=_request(body))


def _header(source: random.Random) -> tuple[str, Attack]:
    """Headers that lie."""
    headers = (
        "Content-Length: -1",
        "Content-Length: 1e3",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 50",
        "Content-Length: ٣",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: ",
        "Content-Length: 1000",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: gzip\r\nContent-Length: 19",
        "Expect: 100-continue\r\nContent-Length: 19",
        "Expect: nonsense\r\nContent-Length: 19",
        "Host: evil.example\r\nContent-Length: 19",
        "Host: [::1\r\nContent-Length: 19",
        "Host: localhost@evil.example\r\nContent-Length: 19",
        "Host: \r\nContent-Length: 19",
        "Origin: http://evil.example\r\nContent-Length: 19",
        "Origin: null\r\nContent-Length: 19",
        "Origin: http://[\r\nContent-Length: 19",
        "Content-Type: text/plain\r\nContent-Length: 19",
        "Content-Type: \r\nContent-Length: 19",
        "Content-Type: application/json; charset=utf-7\r\nContent-Length: 19",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 19",
        "Range: bytes=0-1\r\nContent-Length: 19",
        "Cookie: " + "x" * 60_000 + "\r\nContent-Length: 19",
    )
    header = source.choice(headers)
    name = header.partition(":")[0]
    kept = "".join(
        line + "\r\n" for line in _HEAD.split("\r\n")[:-1] if not line.startswith(f"{name}:")
    )
    content = f"{kept}{header}\r\n\r\n".encode() + _GOOD
    return f"header {header[:60]!r}", partial(_is_answered, content=content)


def _path(source: random.Random) -> tuple[str, Attack]:
    """Paths that are not there, and methods that are not done."""
    paths = (
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//",
        "/api/map/",
        "/api/../",
        "*",
        "http://evil.example/",
        "/\x00",
        "/é",
        "/%",
        "/?x",
        "/api/run?" + "a" * 10_000,
        "/config.json",
        "/runs",
        "[",
        "http://[",
    )
    method = source.choice(
        (
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "DELETE",
            "OPTIONS",
            "TRACE",
            "CONNECT",
            "get",
            "FOO",
            "PATCH",
        )
    )
    path = source.choice(paths)
    content = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    return f"{method} {path[:40]!r}", partial(_is_answered, content=content)


def _drip(port: int, content: bytes, count: int, pause: float = 0.2) -> str | None:
    """Many connections that send a byte now and then, while others ask."""
    ended: list[float] = []
    stop = threading.Event()

    def dripping() -> None:
        began = time.monotonic()
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 10) as connection,
        ):
            for letter in content:
                if stop.is_set():
                    return
                connection.sendall(bytes([letter]))
                connection.settimeout(pause)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        break
                    break
        ended.append(time.monotonic() - began)

    threads = [threading.Thread(target=dripping, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(1.2)
    answers = []
    for _ in range(3):
        began = time.monotonic()
        answers.append((_sent(port, _request(_GOOD))[:15], time.monotonic() - began))
        time.sleep(0.3)
    time.sleep(2 * _DEADLINE)
    still = sum(thread.is_alive() for thread in threads)
    stop.set()
    if any(b" 200" not in answer for answer, _ in answers):
        return f"{count} drippers keep others out: {answers}"
    if max(seconds for _, seconds in answers) > 2 * _DEADLINE:
        return f"{count} drippers make others wait: {answers}"
    if still > _MOST_OF_ONE // 8:
        return f"{still} of {count} drippers are still there after {3 * _DEADLINE:.0f} s"
    return None


def _hold(port: int, count: int, content: bytes) -> str | None:
    """Many connections that send something and nothing more."""
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(content)
            held.append(connection)
    time.sleep(1.2)
    answer = _sent(port, _request(_GOOD))
    for connection in held:
        connection.close()
    return (
        None
        if b" 200" in answer[:15]
        else f"{count} silent connections keep others out: {answer[:40]!r}"
    )


def _unread(port: int, count: int) -> str | None:
    """Many that ask for the page and never read it."""
    held = []
    for _ in range(count):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            held.append(connection)
    time.sleep(1.5 * _DEADLINE)
    answer = _sent(port, _request(_GOOD))
    for connection in held:
        connection.close()
    return (
        None
        if b" 200" in answer[:15]
        else f"{count} that don't read keep others out: {answer[:40]!r}"
    )


_BODY = _request(_GOOD + b" " * 200)
_DRIPPERS: tuple[tuple[str, Attack], ...] = (
    ("a dripped body", partial(_drip, content=_BODY, count=1)),
    (
        "dripped headers of 20",
        partial(_drip, content=b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100, count=20),
    ),
    (
        "dripped headers of 100",
        partial(_drip, content=b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100, count=100),
    ),
    (
        "dripped headers of 200",
        partial(_drip, content=b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100, count=200),
    ),
    ("dripped bodies of 60", partial(_drip, content=_BODY, count=60)),
    (
        "a dripped body that is refused",
        partial(
            _drip,
            content=_HEAD.encode() + b"Content-Length: 99999999\r\n\r\n" + b" " * 300,
            count=20,
        ),
    ),
    ("a dripped first line", partial(_drip, content=b"G" * 300, count=70)),
    ("140 that say nothing", partial(_hold, count=140, content=b"")),
    (
        "140 that say half a header",
        partial(_hold, count=140, content=b"GET / HTTP/1.1\r\nHost: loc"),
    ),
    (
        "140 that keep alive",
        partial(_hold, count=140, content=b"GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ),
    (
        "100 that wait for a body",
        partial(_hold, count=100, content=_HEAD.encode() + b"Content-Length: 50\r\n\r\n{"),
    ),
    ("40 that don't read", partial(_unread, count=40)),
)
