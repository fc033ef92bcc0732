"""The small HTTP server under garbage, slow senders and too many of them: it goes on answering."""

import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.network import http_server as httpd
from commonwatt.network.http_server import HttpServer
from harness.network.waiting import eventually, free_port


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


def drained(sock: socket.socket) -> bytes:
    """Everything the server says until it closes."""
    got = b""
    try:
        while piece := sock.recv(65_536):
            got += piece
    except ConnectionResetError:
        return got
    return got


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
        drained(sock)
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
        assert b"200" not in drained(sock)
        stop.set()
        dripping.join()


def test_more_connections_than_there_is_room_for_are_closed_and_room_comes_back(port: int) -> None:
    waiting = [connect(port) for _ in range(httpd.MAX_CONNECTIONS)]
    try:
        eventually(lambda: threading.active_count() > httpd.MAX_CONNECTIONS)
        with connect(port) as one_more:
            assert drained(one_more) == b""
        eventually(lambda: answers(port))
    finally:
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("kind", [threading.Thread, threading.Timer])
def test_threads_that_can_not_be_started_take_no_room(
    port: int, kind: type[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_start, failed = threading.Thread.start, list[None]()

    def start(thread: threading.Thread) -> None:
        if type(thread) is kind and len(failed) < 2 * httpd.MAX_CONNECTIONS:
            failed.append(None)
            raise RuntimeError("can't start new thread")
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2 * httpd.MAX_CONNECTIONS):
        with connect(port) as sock:
            assert drained(sock) == b""
    assert len(failed) == 2 * httpd.MAX_CONNECTIONS
    assert answers(port)
