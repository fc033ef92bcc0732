"""The small HTTP server under garbage, slow senders and too many of them: it goes on answering."""

import socket
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.network import http_server as httpd
from commonwatt.network.http_server import HttpServer
from harness.network.mqtt_raw import read_to_the_end
from harness.network.waiting import free_port


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(httpd, "CONNECTION_S", 0.5)
    port = free_port()
    server = HttpServer(f"127.0.0.1:{port}", CollectorRegistry(), lambda: {"fine": True})
    server.start()
    yield port
    server.stop()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\xff\x13\n\r\n",
        b"GET\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /status HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"GET /status HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=["binary", "no path", "version", "long line", "many headers", "body to come", "length below zero"],
)
def test_garbage_is_refused_and_the_next_is_answered(port: int, request_: bytes) -> None:
    with connect(port) as sock:
        sock.sendall(request_)
        read_to_the_end(sock)
    assert answers(port)


def test_a_slow_sender_is_cut_however_it_drips(port: int) -> None:
    with connect(port) as sock:
        sock.sendall(b"GET /status HT")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    sock.sendall(b"x")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert b"200" not in read_to_the_end(sock)
        stop.set()
        dripping.join()


def scrape_s(port: int) -> float:
    """How long a scrape takes, in seconds; it must be answered."""
    began = time.monotonic()
    assert answers(port)
    return time.monotonic() - began


def test_a_scrape_is_answered_at_once_beside_hundreds_of_half_open_connections() -> None:
    port = free_port()
    server = HttpServer(f"127.0.0.1:{port}", CollectorRegistry(), lambda: {"fine": True})
    server.start()
    half_open = [connect(port) for _ in range(150)]
    try:
        for sock in half_open[::2]:
            with suppress(OSError):  # The oldest are closed already.
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127")
        assert max(scrape_s(port) for _ in range(20)) < 2.0
    finally:
        for sock in half_open:
            sock.close()
        server.stop()


def test_a_scrape_is_answered_while_half_open_connections_come_without_end(port: int) -> None:
    stop = threading.Event()

    def flood() -> None:
        half_open = deque[socket.socket]()
        while not stop.is_set():
            half_open.append(connect(port))
            if len(half_open) == 100:
                half_open.popleft().close()
        for sock in half_open:
            sock.close()

    flooding = [threading.Thread(target=flood) for _ in range(2)]
    for thread in flooding:
        thread.start()
    try:
        assert max(scrape_s(port) for _ in range(10)) < 3.0
    finally:
        stop.set()
        for thread in flooding:
            thread.join()


def test_at_the_bound_the_oldest_unfinished_request_is_closed_and_an_answer_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(httpd, "MAX_CONNECTIONS", 3)
    asked, may_answer = threading.Event(), threading.Event()

    def slow() -> dict[str, object]:
        asked.set()
        may_answer.wait(10)
        return {}

    port = free_port()
    server = HttpServer(f"127.0.0.1:{port}", CollectorRegistry(), slow)
    server.start()
    # Its request is in before the others connect: an unfinished one would be the oldest.
    answered = connect(port)
    answered.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert asked.wait(10)
    oldest, second, newest = (connect(port) for _ in range(3))
    try:
        newest.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_to_the_end(newest).endswith(b"ok\n")
        second.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_to_the_end(second).endswith(b"ok\n")
        assert read_to_the_end(oldest) == b""
        may_answer.set()
        assert read_to_the_end(answered).endswith(b"{}")
    finally:
        may_answer.set()
        for sock in (answered, oldest, second, newest):
            sock.close()
        server.stop()


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_host_with_many_connections_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch, ipv6: bool) -> None:
    monkeypatch.setattr(httpd, "MAX_CONNECTIONS", 3)
    if ipv6:  # Each connection of the crowd comes from another address of its /64.
        accept = httpd._Bounded.get_request
        addresses = iter(["2001:db8:0:1::1", *(f"2001:db8::{n}" for n in range(9))])
        monkeypatch.setattr(httpd._Bounded, "get_request", lambda server: (accept(server)[0], (next(addresses), 1)))
    port = free_port()
    server = HttpServer(f"127.0.0.1:{port}", CollectorRegistry(), dict)
    server.start()
    other = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.0.0.2", 0))
    other.sendall(b"GET /health HTTP/1.1\r\n")
    crowd = [connect(port) for _ in range(9)]
    try:
        assert read_to_the_end(crowd[0]) == b"", "the oldest of the crowd gave way"
        other.sendall(b"Host: localhost\r\n\r\n")
        assert read_to_the_end(other).endswith(b"ok\n")
    finally:
        for sock in (other, *crowd):
            sock.close()
        server.stop()


def test_threads_that_can_not_be_started_take_no_room(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    really_start, failed = threading.Thread.start, list[None]()

    def start(thread: threading.Thread) -> None:
        if len(failed) < 2 * httpd.MAX_CONNECTIONS:
            failed.append(None)
            raise RuntimeError("can't start new thread")
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2 * httpd.MAX_CONNECTIONS):
        with connect(port) as sock:
            assert read_to_the_end(sock) == b""
    assert len(failed) == 2 * httpd.MAX_CONNECTIONS
    assert answers(port)
