"""The small HTTP server of parts that have no API: /metrics for Prometheus, /status for people, /healthz.

Check of the Host header, against DNS rebinding.
An attacker's DNS can resolve evil.example to 127.0.0.1; a page from there may then read this server's pages as its
own origin. The request's Host names that origin, and the page can't forge it: any other host name is refused.
An IP address can't be rebound.
"""

import json
import logging
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import BaseServer, TCPServer
from typing import TypeAlias
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, disable_created_metrics, generate_latest

from commonwatt.identity.guesses import network_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import server_context, stamp

REFUSAL = "this server is not called so; ask by its address, or name it in http_hosts\n"
"""The body of the answer to a request with another host name; its status is 421."""


def is_ours(header: str | None, names: Collection[str]) -> bool:
    """Return whether a request with this Host may be answered.

    Args:
        header: The Host header; ``None``: no header, so the client is no browser.
        names: The server's host names, lower case, besides ``localhost``.
    """
    if header is None:
        return True
    try:
        host = urlsplit(f"//{header}").hostname or ""
        if host in names or host == "localhost":
            return True
        ip_address(host)
    except ValueError:
        return False
    return True


MAX_BODY_BYTES = 4096  # most bytes of a request's body


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """A request whose host name was checked."""

    method: str  # GET or POST
    path: str  # the path without the query
    address: str  # the client's IP address
    headers: Mapping[str, str]  # the headers, by name in lower case
    body: bytes = b""  # the body of a POST


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer."""

    status: int = 200  # the HTTP status
    body: str = ""  # the text
    content_type: str = "text/plain; charset=utf-8"  # its type
    headers: tuple[tuple[str, str], ...] = ()  # further headers
    raw: bytes | None = None  # bytes in place of the text


Pages: TypeAlias = Callable[[HttpRequest], Response | None]
"""Answers a request, on the server's threads; ``None``: the server answers it."""

# `_created` series for every counter would double the page and are not used.
disable_created_metrics()  # type: ignore[no-untyped-call]


_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]

MAX_CONNECTIONS = 32  # most connections at a time
CONNECTION_S = 10.0  # most real seconds of a connection
GIVES_WAY_WITHIN_S = 1.0  # real seconds that a new connection waits for the thread of the connection closed for it

log = logging.getLogger(__name__)


class _Bounded(ThreadingHTTPServer):
    """A server with a thread for each connection, within the bounds above.

    When all are taken, the oldest connection without a complete request gives way to a new one: of the network
    that has most of them, so that one host keeps out no other; an IPv6 host has a whole /64.
    """

    daemon_threads = True
    # With the default of 5, the sixth of simultaneous connections waits for seconds.
    request_queue_size = MAX_CONNECTIONS
    # Python's own looks the machine's name up besides, which nothing here needs and which may wait for a name server.
    server_bind = TCPServer.server_bind

    def __init__(self, address: tuple[str, int], handler: "Callable[..., _Handler]", tls: "_Tls | None") -> None:
        self._tls = tls
        self._threads_left = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._ends: dict[_Request, float] = {}  # end time of each open connection, oldest first
        self._reading: dict[_Request, str] = {}  # those without a complete request, oldest first, with their network
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection; its TLS handshake is a part of reading its request, on its own thread."""
        connection, client_address = super().get_request()
        if self._tls is None:
            return connection, client_address
        try:
            return self._tls.wrap(connection), client_address
        except OSError:
            connection.close()
            raise

    def process_request(self, request: _Request, client_address: object) -> None:
        """Start a thread for a connection, or close it if every thread is answering a request."""
        if not self._threads_left.acquire(blocking=False):
            self._cut_oldest_reading()
            if not self._threads_left.acquire(timeout=GIVES_WAY_WITHIN_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._ends[request] = time.monotonic() + CONNECTION_S
            assert isinstance(client_address, tuple)
            self._reading[request] = network_of(client_address[0])
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # The system starts no more threads.
            self._forget(request)
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Read the request of a connection and answer it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """Close connections that exceed their time, however slow the client is. Called many times a second."""
        with self._lock:
            for request in [request for request, end in self._ends.items() if end <= time.monotonic()]:
                _cut(request)

    def is_answered(self, request: _Request) -> None:
        """Mark a connection's request as complete; the connection is then not closed for another."""
        with self._lock:
            self._reading.pop(request, None)

    def _cut_oldest_reading(self) -> None:
        with self._lock:
            if self._reading:
                ((most, _),) = Counter(self._reading.values()).most_common(1)
                oldest = next(each for each, network in self._reading.items() if network == most)
                del self._reading[oldest]
                _cut(oldest)

    def _forget(self, request: _Request) -> None:
        with self._lock:
            self._ends.pop(request, None)
            self._reading.pop(request, None)
        self._threads_left.release()

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Log an error of this program; ignore a client that disconnects."""
        del request
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a request of %s failed", client_address, exc_info=error)


def _cut(request: _Request) -> None:
    with suppress(OSError):
        if isinstance(request, socket.socket):
            # Of the base class: a TLS connection's own method would take the encryption from the thread that uses it.
            socket.socket.shutdown(request, socket.SHUT_RDWR)


class _Tls:
    """The server's side of TLS, with a certificate that is loaded again when its file is replaced."""

    def __init__(self, certificate: Path) -> None:
        self._certificate = certificate
        self._stamp = stamp(certificate)
        self._context = server_context(certificate)

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return a connection with TLS; its handshake comes with the first read."""
        try:
            if (seen := stamp(self._certificate)) != self._stamp:
                self._stamp = seen
                self._context = server_context(self._certificate)
        except ConfigError as error:
            log.error("the certificate of http can't be read again, the old one stays in use: %s", error)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


@dataclass(frozen=True, kw_only=True)
class _Content:
    """The content of an ``HttpServer``; its arguments, with all host names it answers to as ``names``."""

    registry: CollectorRegistry
    status: Callable[[], dict[str, object]]
    names: Collection[str] | None
    pages: Pages | None
    most_body_bytes: int


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    def __init__(self, content: _Content, request: _Request, client_address: object, server: BaseServer) -> None:
        self._content = content
        super().__init__(request, client_address, server)  # Reads and answers the requests.

    def do_GET(self) -> None:
        """Answer a GET."""
        self._handle(b"")

    def do_POST(self) -> None:
        """Read a form, and answer it."""
        length = self.headers["Content-Length"] or ""
        if self._content.pages is None:
            self._answer(405, "text/plain", b"nothing can be sent here\n")
        elif not (length.isascii() and length.isdecimal() and len(length) < 7 and int(length) <= self._most_bytes):
            text = f"a body with its length, of {self._most_bytes} bytes at most, is expected\n"
            self._answer(413, "text/plain", text.encode())
        else:
            self._handle(self.rfile.read(int(length)))

    @property
    def _most_bytes(self) -> int:
        return self._content.most_body_bytes

    def _handle(self, body: bytes) -> None:
        assert isinstance(self.server, _Bounded)
        self.server.is_answered(self.request)
        names = self._content.names
        if names is not None and not is_ours(self.headers["Host"], names):
            self._answer(421, "text/plain", REFUSAL.encode())
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self._content.registry))
        elif (answer := self._page(body)) is not None:
            content = answer.body.encode() if answer.raw is None else answer.raw
            self._answer(answer.status, answer.content_type, content, answer)
        elif self.path == "/health":
            self._answer(200, "text/plain", b"ok\n")
        elif self.path == "/status":
            self._answer(200, "application/json", json.dumps(self._content.status()).encode())
        else:
            self._answer(404, "text/plain", b"try /metrics, /status or /health\n")

    def _page(self, body: bytes) -> Response | None:
        """Return the answer of the pages, if there are pages, and one has this path."""
        if self._content.pages is None:
            return None
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        address = str(self.client_address[0])
        request = HttpRequest(method=self.command, path=path, address=address, headers=headers, body=body)
        return self._content.pages(request)

    def _answer(self, code: int, content_type: str, body: bytes, more: Response | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.headers if more is not None else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep the access log quiet."""


class HttpServer:
    """Serves a registry's metrics, a status and perhaps pages on a daemon thread.

    Args:
        address: Where it listens.
        registry: The metrics.
        status: Returns the status. It is called on the server's threads: it must only read values that are replaced
            whole. The same holds for ``pages``.
        hosts: Host names it answers to, besides localhost, the one in ``address``, and IP addresses; ``None``: any, as
            no browser is a client.
        pages: Answers every request but those to /metrics first.
        certificate: Certificate and key (PEM) to serve by HTTPS; loaded again when the file is replaced.
        most_body_bytes: Most bytes of a request's body.

    Raises:
        ConfigError: The certificate can't be used.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        status: Callable[[], dict[str, object]],
        hosts: Collection[str] | None = (),
        *,
        pages: Pages | None = None,
        certificate: Path | None = None,
        most_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        content = _Content(
            registry=registry,
            status=status,
            names=None if hosts is None else {split_address(address)[0].lower(), *hosts},
            pages=pages,
            most_body_bytes=most_body_bytes,
        )
        self._handler = partial(_Handler, content)
        self._tls = None if certificate is None else _Tls(certificate)
        self._address = address
        self._server: _Bounded | None = None

    def start(self) -> threading.Thread:
        """Listen, and answer requests on a new thread; return the thread.

        Raises:
            OSError: The address is in use; the message names it.
        """
        try:
            self._server = _Bounded(split_address(self._address), self._handler, self._tls)
        except OSError as error:
            raise OSError(
                error.errno,
                f"can't listen on {self._address}: {error.strerror}; is another service running there?",
            ) from error
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
