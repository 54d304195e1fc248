"""The HTTP server behind `ponder serve`: a page, and the ponder map of a text as JSON."""

import io
import socket
import socketserver
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page.data import page_data
from training.runs.map_json import map_json
from training.runs.metrics import to_json
from training.serving.bounded_lock import BoundedLock, Busy
from training.serving.connections import Connections, TimedReader
from training.serving.map_request import Limits, MapRequest, Refusal

MOST_CONNECTIONS = 128
MOST_OF_ONE_ADDRESS = 64
_PATIENCE = 10.0  # seconds for a request to arrive, its first byte to its last
_DRAINING = 1.0  # seconds for which a refused body is read
_DRAINED = (
    1 << 20
)  # bytes of a refused body that are read, so that its sender comes to read the refusal
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class MapServer(ThreadingHTTPServer):
    """Answers until `shutdown`. The model thinks about one text at a time.

    Args:
        address: where it listens; port 0 for a free one.
        think: the ponder map of a text, with a step limit or the trained one; UsageError for a text
            that cannot be.
        page: the HTML of the page.
        about: what is said of the run, JSON values.
        limits: on what is asked.
        most_waiting: requests that may wait for the model; more are told to come again.
        names: hosts by which it may be called, beside addresses and "localhost".
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        think: Callable[[str, int | None], PonderMap],
        page: str,
        about: dict[str, Any],
        limits: Limits,
        most_waiting: int,
        names: frozenset[str] = frozenset(),
    ):
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.think = think
        self.page = page.encode()
        self.about = about
        self.limits = limits
        self.turns = BoundedLock(most_waiting)
        self.names = names | {"localhost"}
        self.connections = Connections(MOST_CONNECTIONS, MOST_OF_ONE_ADDRESS)
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host, port = self.server_address[:2]
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))
        return f"http://[{anywhere}]:{port}/" if ":" in anywhere else f"http://{anywhere}:{port}/"

    def server_bind(self) -> None:
        """Binds without asking a name server who this machine is, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = (
            str(self.server_address[0]),
            int(self.server_address[1]),
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, up to `MOST_CONNECTIONS`, and `MOST_OF_ONE_ADDRESS` from
        one; beyond, the one that waits longest for its request makes room, or the new one goes."""
        if not self.connections.admit(request, str(client_address[0])):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its first request to its last."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like; anything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            traceback.print_exc()

    def known_host(self, header: str | None) -> bool:
        """Whether a Host header names this server: by an address, "localhost" or one of its names.
        Another name may be one that a stranger's page has pointed at this machine (DNS
        rebinding)."""
        try:
            host = (urlsplit(f"//{header}").hostname or "") if header else ""
        except ValueError:
            return False
        if host in self.names:
            return True
        try:
            ip_address(host)
        except ValueError:
            return False
        return True


def _parsed(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        Refusal: for what is none, such as http://[.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        wrong = UsageError(
            f"{url[:100]!r} is no address.", f"{error}.", "Send a path such as /api/run."
        )
        raise Refusal(400, wrong) from None


class _Handler(BaseHTTPRequestHandler):
    server: MapServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "ponder"
    sys_version = ""
    timeout = _PATIENCE
    _unread = False  # whether a body may still be coming

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._arriving = TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._arriving)

    def handle_one_request(self) -> None:
        """One request, which has to arrive within one deadline, header and body."""
        self.server.connections.waits(self.connection)
        self._arriving.allow(self.timeout or _PATIENCE)
        super().handle_one_request()

    def do_GET(self) -> None:
        """The page, and what there is to know of the run."""
        self._answer(
            {"/": self._page, "/api/run": lambda: self._json(200, self.server.about)}, "GET"
        )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """The ponder map of a text, for programs and for the page."""
        self._answer(
            {"/api/map": lambda: self._map(map_json), "/api/page": lambda: self._map(page_data)},
            "POST",
        )

    def _other(self) -> None:
        self._answer({}, self.command)

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _other

    def handle_expect_100(self) -> bool:
        """A body that is too large is refused before it is sent."""
        self._unread = True
        try:
            self._length()
        except Refusal as refusal:
            self._refuse(refusal)
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses, in the form of every refusal."""
        phrase = message or HTTPStatus(code).phrase
        self.close_connection = True
        self.request_version = "HTTP/1.1"
        self._refuse(
            Refusal(code, UsageError(f"{phrase}.", "The request cannot be read.", "Send HTTP/1.1."))
        )

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who typed what is nobody's business."""

    def _answer(self, known: dict[str, Callable[[], None]], method: str) -> None:
        """Finds who answers, and turns what goes wrong into an answer too."""
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if not self._unread:
            self.server.connections.is_answered(self.connection)
        try:
            self._check_sender()
            path = _parsed(self.path).path
            if path not in known:
                raise self._not_there(path, method)
            known[path]()
        except Refusal as refusal:
            self._refuse(refusal)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:  # noqa: BLE001  a fault of ours must not end the server
            traceback.print_exc()
            fault = UsageError(
                "The server failed.", "Its own output says why.", "Tell who runs it."
            )
            self._refuse(Refusal(500, fault))

    def _check_sender(self) -> None:
        """No page of another site may ask in its reader's name."""
        host = self.headers.get("Host")
        origin = self.headers.get("Origin")
        if not self.server.known_host(host):
            raise Refusal(
                403,
                UsageError(
                    f"The host is {host!r}.",
                    "It is not known here; a stranger's page may have pointed that name at this "
                    "machine.",
                    "Call it by its address, or start it with --name and that name.",
                ),
            )
        if origin is not None and _parsed(origin).netloc != host:
            raise Refusal(
                403,
                UsageError(
                    f"The request comes from a page of {origin!r}.",
                    "Only this server's own page may ask.",
                    "Ask from a program, which sends no Origin.",
                ),
            )

    def _not_there(self, path: str, method: str) -> Refusal:
        methods = {
            "/": "GET, HEAD",
            "/api/run": "GET, HEAD",
            "/api/map": "POST",
            "/api/page": "POST",
        }
        if path in methods:
            wrong = UsageError(
                f"{method} {path}",
                f"is not done; {path} takes {methods[path]}.",
                f"Use {methods[path]}.",
            )
            return Refusal(405, wrong, Allow=methods[path])
        there = UsageError(
            f"There is no {path[:100]!r}.",
            "The paths are /, /api/run and /api/map.",
            "Ask for one of them.",
        )
        return Refusal(404, there)

    def _length(self) -> int:
        """How long the body says it is."""
        given = self.headers.get("Content-Length")
        most = self.server.limits.body
        if given is None or "Transfer-Encoding" in self.headers:
            why = UsageError(
                "The body has no length.",
                "It is read only where it is known to be short.",
                "Send Content-Length.",
            )
            raise Refusal(411, why)
        if not (given.isascii() and given.isdigit()):
            raise Refusal(
                400,
                UsageError(
                    f"Content-Length is {given[:40]!r}.",
                    "It is no number.",
                    "Send the bytes' number.",
                ),
            )
        if len(given) > 18 or int(given) > most:
            size = UsageError(
                f"The body has {given[:40]} bytes.", f"The limit is {most}.", "Send a shorter text."
            )
            raise Refusal(413, size)
        return int(given)

    def _body(self) -> bytes:
        """The body, whole."""
        kind = self.headers.get_content_type()
        if kind != "application/json":
            wrong = UsageError(
                f"The body is {kind[:60]}.",
                "Only JSON is read.",
                "Send Content-Type: application/json.",
            )
            raise Refusal(415, wrong)
        length = self._length()
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            body = b""
        if len(body) < length:
            self.close_connection = True
            late = UsageError(
                "The body did not arrive.",
                f"A request has {_PATIENCE:.0f} seconds, header and body.",
                "Send all of it at once.",
            )
            raise Refusal(408, late)
        self._unread = False
        self.server.connections.is_answered(self.connection)
        return body

    def _map(self, form: Callable[[PonderMap], dict[str, Any]]) -> None:
        asked = MapRequest.read(self._body(), self.server.limits)
        try:
            with self.server.turns.turn():
                found = self.server.think(asked.text, asked.max_steps)
        except UsageError as error:
            raise Refusal(400, error) from error
        except Busy:
            many = UsageError(
                "The model is busy.",
                "Too many texts wait for it already.",
                "Ask again in a second.",
            )
            raise Refusal(503, many, Retry_After="1") from None
        self._json(200, form(found))

    def _page(self) -> None:
        self._send(200, "text/html; charset=utf-8", self.server.page)

    def _json(self, status: int, values: Any, **headers: str) -> None:
        self._send(status, "application/json", to_json(values).encode(), **headers)

    def _refuse(self, refusal: Refusal) -> None:
        self._json(refusal.status, refusal.values(), **refusal.headers)

    def _drain(self) -> None:
        """Reads a little of what nobody wants: closing at once would take the answer from who sends
        it."""
        try:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self._arriving.allow(_DRAINING)
            left = _DRAINED
            while left > 0 and (got := self._arriving.read(min(left, 1 << 16))):
                left -= len(got)
        except OSError:
            return

    def _send(self, status: int, kind: str, content: bytes, **headers: str) -> None:
        self.close_connection = self.close_connection or self._unread
        self.connection.settimeout(self.timeout)
        self.send_response(status)
        closing = {"Connection": "close"} if self.close_connection else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lengths = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in (_HEADERS | lengths | named | closing).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if self._unread:
            self._drain()
