"""The small HTTP server of parts that have no API: /metrics for Prometheus, /status for people, /health."""

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, disable_created_metrics, generate_latest

from commonwatt.network.addresses import split_address
from commonwatt.network.hosts import REFUSAL, is_ours

# A `_created` series beside every counter would double the page, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]


_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]

MAX_CONNECTIONS = 32
"""Connections answered at a time; more are closed."""

CONNECTION_S = 10.0
"""Real seconds a connection may take, whatever it does."""

log = logging.getLogger(__name__)


class _Bounded(ThreadingHTTPServer):
    """A thread for each connection, so many and so long as the bounds above allow."""

    daemon_threads = True
    # The default of 5 makes the sixth who comes at once wait for seconds.
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Take a connection, if there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # The system gives us no thread: nobody else would give its place back.
            self._room.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Answer on a connection that ends when its time is over, however slowly somebody sends or reads."""
        timer = threading.Timer(CONNECTION_S, _cut, (request,))
        timer.daemon = True
        try:
            timer.start()
            super().process_request_thread(request, client_address)
        except RuntimeError:  # No thread for the timer: better no answer than one without an end.
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Log a fault of ours; that somebody has hung up is none."""
        del request
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a request of %s failed", client_address, exc_info=error)


def _cut(request: _Request) -> None:
    with suppress(OSError):
        if isinstance(request, socket.socket):
            request.shutdown(socket.SHUT_RDWR)


class HttpServer:
    """Serves a registry's metrics and a status on a daemon thread.

    ``status`` is called on the server's threads: it must only read what is replaced whole. ``hosts`` are names by which
    it is asked for, besides localhost, the one in ``address``, and IP addresses.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        status: Callable[[], dict[str, object]],
        hosts: Collection[str] = (),
    ) -> None:
        names = {split_address(address)[0].lower(), *hosts}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one request."""
                if not is_ours(self.headers["Host"], names):
                    self._answer(421, "text/plain", REFUSAL.encode())
                elif self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif self.path == "/status":
                    self._answer(200, "application/json", json.dumps(status()).encode())
                elif self.path == "/health":
                    self._answer(200, "text/plain", b"ok\n")
                else:
                    self._answer(404, "text/plain", b"try /metrics, /status or /health\n")

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Keep the access log quiet."""

        self._address = address
        self._handler = Handler
        self._server: _Bounded | None = None

    def start(self) -> threading.Thread:
        """Listen, and answer on a thread of its own, which is returned.

        Raises:
            OSError: The address, which it names, is taken.
        """
        try:
            self._server = _Bounded(split_address(self._address), self._handler)
        except OSError as error:
            raise OSError(
                error.errno,
                f"can't listen on {self._address}: {error.strerror}; is another service running there?",
            ) from error
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
