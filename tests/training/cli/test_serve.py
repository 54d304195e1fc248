"""The server of `ponder serve`: what it answers, whom it refuses, and that many at once don't fell
it."""

import contextlib
import functools
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from served import serving, tiny_run

from halting import UsageError
from halting.maps.ponder_map import PonderMap
from training.cli import serve
from training.runs.loaded import Run
from training.runs.map_json import map_json
from training.serving import connections, map_server
from training.serving.map_server import MapServer
from training.serving.server import only_here

TEXT = "red →0 →1"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def server(run: Run) -> Iterator[MapServer]:
    with serving(run, most_bytes=2000, most_waiting=16, name=("Lab",)) as started:
        yield started


def ask(
    server: MapServer, method: str, path: str, body: Any = None, headers: dict[str, str] = JSON
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and values of an answer; bytes as they are, where they are no JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    sent = json.dumps(body).encode() if isinstance(body, dict | list) else body
    connection.request(method, path, sent, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json" and content
    return response.status, dict(response.headers), json.loads(content) if is_json else content


def raw(server: MapServer, sent: bytes) -> bytes:
    """All that comes back for some bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_text_is_answered_with_its_map(server: MapServer, run: Run) -> None:
    status, headers, values = ask(server, "POST", "/api/map", {"text": TEXT})
    assert status == 200 and values == map_json(run.ponder_map(TEXT))
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers, "no other site may read it"
    status, _, values = ask(server, "POST", "/api/map", {"text": TEXT, "max_steps": 2})
    assert status == 200 and values["metadata"]["max_steps"] == 2
    status, _, values = ask(server, "POST", "/api/page", {"text": TEXT})
    assert status == 200 and values["about"]["texts"] == [["red", "→0", "→1"]]


def test_the_run_and_the_page(server: MapServer, run: Run) -> None:
    status, _, values = ask(server, "GET", "/api/run")
    assert status == 200 and (values["run"], values["rule"], values["max_steps"]) == (
        "tiny",
        "GravesACT",
        4,
    )
    assert values["limits"] == {"body_bytes": 2000, "tokens": 6, "max_steps": 8}
    status, _, found = ask(server, "POST", "/api/map", {"text": values["example"]})
    wanted = run.task.batch("test", 0, 1)
    assert [token["text"] for token in found["sequences"][0]] == run.task.decode(
        wanted.tokens[0].tolist()
    )
    status, headers, content = ask(server, "GET", "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'data-live="yes"' in content and b"connect-src 'self'" in content
    status, headers, empty = ask(server, "HEAD", "/")
    assert (status, headers["Content-Length"], empty) == (200, str(len(content)), b"")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "reason"),
    [
        ("POST", "/api/map", b"{", JSON, 400, "not JSON"),
        ("POST", "/api/map", b"[" * 1900, JSON, 400, "not JSON"),
        ("POST", "/api/map", b"\xff\xfe\xff", JSON, 400, "not JSON"),
        (
            "POST",
            "/api/map",
            b'{"text": %s}' % (b"9" * 1900),
            JSON,
            400,
            "not JSON|has to be a string",
        ),
        ("POST", "/api/map", [TEXT], JSON, 400, "no text"),
        ("POST", "/api/map", {"text": 7}, JSON, 400, "text is 7"),
        ("POST", "/api/map", {"text": TEXT, "steps": 4}, JSON, 400, "'steps'"),
        ("POST", "/api/map", {"text": TEXT, "max_steps": 9}, JSON, 400, "from 1 to 8"),
        ("POST", "/api/map", {"text": TEXT, "max_steps": 0}, JSON, 400, "max_steps is 0"),
        ("POST", "/api/map", {"text": TEXT, "max_steps": True}, JSON, 400, "max_steps is true"),
        ("POST", "/api/map", {"text": ""}, JSON, 400, "0 words"),
        ("POST", "/api/map", {"text": "mauve"}, JSON, 400, "mauve"),
        ("POST", "/api/map", {"text": "\ud800"}, JSON, 400, "ud800"),
        ("POST", "/api/map", {"text": "red " * 7}, JSON, 400, "7 words"),
        ("POST", "/api/map", {"text": "x" * 3000}, JSON, 413, "The limit is 2000"),
        ("POST", "/api/map", {"text": TEXT}, {"Content-Type": "text/plain"}, 415, "Only JSON"),
        ("POST", "/api/map", {"text": TEXT}, {}, 415, "Only JSON"),
        ("POST", "/api/map", {"text": TEXT}, {**JSON, "Content-Length": "-1"}, 400, "no number"),
        ("POST", "/api/map", {"text": TEXT}, {**JSON, "Content-Length": "9" * 30}, 413, "limit"),
        (
            "POST",
            "/api/map",
            {"text": TEXT},
            {**JSON, "Transfer-Encoding": "chunked"},
            411,
            "Content-Length",
        ),
        ("POST", "/", {"text": TEXT}, JSON, 405, "takes GET, HEAD"),
        ("GET", "/api/map", None, {}, 405, "takes POST"),
        ("PUT", "/api/map", {"text": TEXT}, JSON, 405, "takes POST"),
        ("GET", "/../etc/passwd", None, {}, 404, "passwd"),
        ("BREW", "/", None, {}, 501, "BREW"),
        ("GET", "/", None, {"Host": "evil.example:80"}, 403, "evil.example"),
        ("GET", "/", None, {"Host": ""}, 403, "not known here"),
        ("GET", "/", None, {"Host": "[::1"}, 403, "not known here"),
        (
            "POST",
            "/api/map",
            {"text": TEXT},
            {**JSON, "Origin": "http://evil.example"},
            403,
            "evil.example",
        ),
        ("POST", "/api/map", {"text": TEXT}, {**JSON, "Origin": "null"}, 403, "null"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(
    server: MapServer,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str],
    status: int,
    reason: str,
) -> None:
    got, sent, values = ask(server, method, path, body, headers)
    assert got == status, values
    assert set(values["error"]) == {"what", "why", "write"}
    assert any(each in " ".join(values["error"].values()) for each in reason.split("|")), values
    assert status != 405 or sent["Allow"] in values["error"]["write"]
    assert ask(server, "POST", "/api/map", {"text": TEXT})[0] == 200, "it goes on"


def test_hosts_that_are_its_own(server: MapServer) -> None:
    for host in ("localhost:9", "127.0.0.1", "[::1]:80", "192.168.7.7:8017", "lab:8017"):
        origin = {"Host": host, "Origin": f"http://{host}"}
        assert ask(server, "POST", "/api/map", {"text": TEXT}, {**JSON, **origin})[0] == 200


def test_a_body_over_the_limit_is_not_waited_for(server: MapServer) -> None:
    head = b"POST /api/map HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999999999\r\n"
    for sent in (head + b"\r\nxxxx", head + b"Expect: 100-continue\r\n\r\n"):
        answer = raw(server, sent)
        assert answer.startswith(b"HTTP/1.1 413 ") and b"Connection: close" in answer
        assert answer.count(b"HTTP/1.1") == 1


def test_what_is_no_http_is_refused(server: MapServer) -> None:
    assert b" 400 " in raw(server, b"hello there, server\r\n\r\n")
    assert raw(server, b"GET / HTTP/9.9\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    assert raw(server, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 414 ")
    body = b'{"text": "red"}GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n'
    smuggled = raw(
        server, b"GET /api/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + body
    )
    assert smuggled.count(b"HTTP/1.1 200") == 1, "a body that nobody reads is no second request"


def test_what_is_no_address_is_refused(server: MapServer) -> None:
    for head in (b"OPTIONS http://[ HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nOrigin: http://[\r\n"):
        answer = raw(server, head + b"Host: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ") and b"no address" in answer


def test_one_connection_serves_several_requests(server: MapServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    for text, status in ((TEXT, 200), ("mauve", 400), (TEXT, 200)):
        connection.request("POST", "/api/map", json.dumps({"text": text}), JSON)
        response = connection.getresponse()
        response.read()
        assert response.status == status and response.headers.get("Connection") is None
    connection.close()


def test_a_body_that_does_not_come_is_given_up(
    server: MapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_server._Handler, "timeout", 0.2)
    head = b"POST /api/map HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    assert raw(server, head).startswith(b"HTTP/1.1 408 ")
    assert raw(server, b"GET / HT") == b""


def test_fifty_at_once(server: MapServer) -> None:
    with ThreadPoolExecutor(50) as pool:
        with server.turns.turn():
            asked = [
                pool.submit(ask, server, "POST", "/api/map", {"text": TEXT}) for _ in range(50)
            ]
            busy = list(
                islice(as_completed(asked, timeout=60), 34)
            )  # 16 wait; all others are told at once
            assert {each.result()[0] for each in busy} == {503}
        answers = [each.result() for each in asked]
    assert sorted(status for status, _, _ in answers) == [200] * 16 + [503] * 34
    assert {headers.get("Retry-After") for status, headers, _ in answers if status == 503} == {"1"}
    with ThreadPoolExecutor(50) as pool:
        statuses = [
            each[0]
            for each in pool.map(
                lambda _: ask(server, "POST", "/api/map", {"text": TEXT}), range(50)
            )
        ]
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 16
    assert ask(server, "POST", "/api/map", {"text": TEXT})[0] == 200


def test_what_drips_in_is_given_up_as_what_does_not_come(
    server: MapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One deadline a request: each byte is in time, and all of them are not."""
    monkeypatch.setattr(map_server._Handler, "timeout", 0.4)
    head = b"POST /api/map HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    for at_once, drips, answer in ((head, b" " * 19 + b"{", b"408"), (b"", head, b"")):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
            connection.sendall(at_once)
            got = b""
            with contextlib.suppress(ConnectionError):
                for letter in drips:
                    connection.sendall(bytes([letter]))
                    time.sleep(0.1)
                    if select.select([connection], [], [], 0)[0]:
                        break
                else:
                    raise AssertionError("everything that dripped in was read")
                got = connection.recv(65536)
        assert answer in got and (answer or not got)


def answer(connection: socket.socket) -> bytes:
    """A whole answer, head and body."""
    got = b""
    while (head := got.partition(b"\r\n\r\n"))[1] == b"" or len(head[2]) < length_of(head[0]):
        more = connection.recv(65536)
        assert more, "closed before the end of an answer"
        got += more
    return got


def length_of(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.splitlines())
    return next(int(value) for name, _, value in lines if name.lower() == b"content-length")


def test_who_waits_longest_makes_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_server, "MOST_OF_ONE_ADDRESS", 3)
    get = b"GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(run) as server:
        held = [
            socket.create_connection(("127.0.0.1", server.server_port), timeout=30)
            for _ in range(3)
        ]
        for connection in held:
            connection.sendall(get)
            assert answer(connection).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionError):  # it may be closed before all is sent
            assert raw(server, get) == b"", "all of them have only just come"
        monkeypatch.setattr(connections, "GRACE", 0.0)
        assert ask(server, "GET", "/api/run")[0] == 200
        assert held[0].recv(1) == b"", "the first had waited longest"
        held[2].sendall(get)
        assert answer(held[2]).startswith(b"HTTP/1.1 200")
        for connection in held:
            connection.close()


def test_a_fault_of_ours_is_said_and_does_not_end_it(
    server: MapServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(text: str, max_steps: int | None) -> PonderMap:
        raise RuntimeError("the model broke")

    with monkeypatch.context() as patch:
        patch.setattr(server, "think", fails)
        status, _, values = ask(server, "POST", "/api/map", {"text": TEXT})
    assert status == 500 and "broke" not in json.dumps(values)
    assert "the model broke" in capsys.readouterr().err
    assert ask(server, "POST", "/api/map", {"text": TEXT})[0] == 200


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("0", False),
        ("::", False),
        ("192.0.2.1", False),
    ],
)
def test_what_is_loopback(host: str, here: bool) -> None:
    assert only_here(host) == here


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--host", "0.0.0.0"], "--expose"),
        (["--host", "::"], "--expose"),
        (["--host", ""], "no address"),
        (["--host", "no.such.host.invalid"], "no address"),
        (["--port", "70000"], "65535"),
        (["--most-tokens", "0"], "most-tokens"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_is_read(
    flags: list[str], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        serve.main(["nowhere", *flags])


def test_where_it_listens(run: Run) -> None:
    with serving(run) as server:
        assert (
            server.server_address[0] == "127.0.0.1"
            and server.url == f"http://127.0.0.1:{server.server_port}/"
        )
        with pytest.raises(UsageError, match="Another program"):
            serve.open_server(run, serve.Options(port=server.server_port))
    with serving(run, host="0.0.0.0", expose=True) as server:
        assert (
            server.url == f"http://127.0.0.1:{server.server_port}/"
            and ask(server, "GET", "/api/run")[0] == 200
        )


def test_long_texts_are_refused_where_positions_would_allow_them(run: Run) -> None:
    with serving(run, most_tokens=2) as server:
        status, _, values = ask(server, "POST", "/api/map", {"text": TEXT})
        assert status == 400 and values["error"]["what"] == "The text has 3 tokens."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(run: Run, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "training.cli.main", "serve", str(run.folder), "--port", "0"]
    root = Path(__file__).resolve().parent.parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell starts what it runs behind with SIGINT ignored.
    behind = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(
        command, cwd=root, env=environment, text=True, preexec_fn=behind, **pipes
    ) as child:
        try:
            assert child.stdout is not None
            first = child.stdout.readline()
            assert "for this machine alone" in first
            port = int(first.split("127.0.0.1:")[1].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=30) as idle:
                idle.sendall(b"GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert idle.recv(20).startswith(b"HTTP/1.1 200")
                child.send_signal(number)
                out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, out.strip(), err) == (0, "ended", "")
