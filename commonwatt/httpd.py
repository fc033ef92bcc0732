"""The small HTTP server of parts that have no API: /metrics for Prometheus, /status for people, /health."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, disable_created_metrics, generate_latest

from commonwatt.config import split_address

# A `_created` series beside every counter would double the page, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class HttpServer:
    """Serves a registry's metrics and a status on a daemon thread.

    ``status`` is called on the server's threads: it must only read what is replaced whole.
    """

    def __init__(self, address: str, registry: CollectorRegistry, status: Callable[[], dict[str, object]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one request."""
                if self.path == "/metrics":
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

        self._address = split_address(address)
        self._handler = Handler
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> threading.Thread:
        """Listen, and answer on a thread of its own, which is returned.

        Raises:
            OSError: The address is taken.
        """
        self._server = ThreadingHTTPServer(self._address, self._handler)
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
