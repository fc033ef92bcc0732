"""The API's connections: slow ones and too many are cut, others are answered; by a real server."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from importlib.resources import files

import pytest
import uvicorn
from starlette.types import Scope, Send

from harness.network.waiting import eventually, free_port
from utility.assembly.service import KEEP_S, listen
from utility.webkit import connections as http
from utility.webkit.connections import MAX_HEAD_BYTES, bounded, only_ours


class Server:
    """A uvicorn server with our bounds and an application that says who asks."""

    def __init__(self) -> None:
        self.cut = 0
        self.asked = 0
        self.port = free_port()
        config = uvicorn.Config(
            only_ours(self._app, {"us.example"}),
            port=self.port,
            http=bounded(self._count),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            lifespan="off",
        )
        self._released = asyncio.Event()
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))
        self._thread.start()
        eventually(lambda: self._server.started)

    def _count(self) -> None:
        self.cut += 1

    async def _app(self, scope: Scope, _receive: object, send: Send) -> None:
        if scope["path"] == "/slow":
            self.asked += 1
            await self._released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    def release(self) -> None:
        """Let /slow be answered."""
        self._server.servers[0].get_loop().call_soon_threadsafe(self._released.set)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def says(self, request: bytes) -> bytes:
        """Everything the server says to a request until it closes."""
        got = b""
        with self.connect() as sock:
            try:
                sock.sendall(request)
                while piece := sock.recv(65_536):
                    got += piece
            except (ConnectionResetError, BrokenPipeError):
                return got
        return got

    def answers(self) -> bool:
        return b"fine" in self.says(b"GET / HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "REQUEST_WITHIN_S", 0.4)
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 20)
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 32 * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: us.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: us.example\r\n" + b"X: " + b"y" * 32 * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: us.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: us.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "zeros", "no host", "long line", "long header", "two lengths", "bad chunk"],
)
def test_garbage_is_refused_and_the_next_is_answered(server: Server, request_: bytes) -> None:
    assert b"HTTP/1.1 200" not in server.says(request_) or request_.startswith(b"POST")
    assert server.answers()


def test_who_does_not_finish_a_request_is_cut(server: Server) -> None:
    assert server.says(b"GET / HT") == b""
    assert server.cut == 1
    assert server.says(b"") == b""
    assert server.cut == 2
    assert server.answers()


def test_an_honest_request_is_answered_at_once_beside_hundreds_of_half_open_connections(server: Server) -> None:
    half_open = [server.connect() for _ in range(250)]
    for sock in half_open[::2]:
        with contextlib.suppress(OSError):  # The oldest are closed already.
            sock.sendall(b"GET / HTTP/1.1\r\nHost: us")
    began = time.monotonic()
    assert server.answers()
    assert time.monotonic() - began < 1.0
    eventually(lambda: server.cut >= 230)
    for sock in half_open:
        sock.close()


def test_an_answer_is_not_cut_for_half_open_connections(server: Server) -> None:
    with server.connect() as asking:
        asking.sendall(b"GET /slow HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")
        eventually(lambda: server.asked)
        half_open = [server.connect() for _ in range(60)]
        eventually(lambda: server.cut >= 40)
        server.release()
        assert asking.recv(65_536).startswith(b"HTTP/1.1 200")
    for sock in half_open:
        sock.close()


def test_when_every_connection_is_being_answered_one_more_is_closed(server: Server) -> None:
    asking = [server.connect() for _ in range(20)]
    for sock in asking:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")
    eventually(lambda: server.asked == 20)
    assert server.says(b"") == b""
    server.release()
    for sock in asking:
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        sock.close()


def test_a_body_nobody_wants_is_not_kept(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nHost: us.example\r\nContent-Length: 100000000\r\n\r\n"
    server.says(head + b"x" * 1_000_000)
    assert server.answers()


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("US.example", True),
        ("evil.example", False),
        ("us.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_a_page_of_somebody_else_reads_nothing(server: Server, host: str, answered: bool) -> None:
    said = server.says(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert (b"HTTP/1.1 200" in said, b"fine" in said) == (answered, answered)
    assert answered or b"HTTP/1.1 421" in said


def test_the_body_of_an_answer_does_not_wait_until_the_client_acknowledges_its_head() -> None:
    with listen("127.0.0.1:0") as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_browser_that_shows_the_town_keeps_its_connection_between_two_polls() -> None:
    script = files("utility.webkit").joinpath("console", "static", "console.js").read_text(encoding="utf-8")
    (every_ms,) = re.findall(r"}, (\d+)\);", script)
    assert int(every_ms) / 1000 < KEEP_S < http.REQUEST_WITHIN_S
