"""An Alertmanager that is slow, gone or out of its mind costs a page nothing, and is reported in words."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import parse_headers
from operator import methodcaller

import pytest

from commonwatt.runtime.clock import Clock
from harness.network.waiting import free_port
from utility.alarms.jobs import client
from utility.alarms.jobs.client import Alertmanager, AlertmanagerError
from utility.alarms.jobs.watch import Watch
from utility.alarms.silences import ways_of

NOW = 1_800_000_000
CLOCK = Clock(origin=NOW, monotonic_origin=1e12)  # it stands still
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@contextmanager
def serving(*answers: Callable[[socket.socket], object]) -> Iterator[str]:
    """Yield the address of a server that answers each connection's request by the next function."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                with suppress(OSError), server.accept()[0] as connection:
                    receive(connection)
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        host, port = server.getsockname()
        yield f"{host}:{port}"


def receive(connection: socket.socket) -> None:
    """Read a request to its end: a connection that is closed with bytes unread is reset, and its answer may be lost."""
    with connection.makefile("rb") as request:
        request.readline()
        request.read(int(parse_headers(request).get("Content-Length", "0")))


def answering(*answers: bytes) -> AbstractContextManager[str]:
    """Return a server that sends each connection the next bytes."""
    return serving(*(methodcaller("sendall", answer) for answer in answers))


class Dripping:
    """A server that sends one byte a look at the clock, each of which is 100 s after the last."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looked = threading.Semaphore(0)

    def monotonic(self) -> float:
        self.now += 100
        self._looked.release()
        return self.now

    def answer(self, connection: socket.socket) -> None:
        connection.sendall(HEAD)
        while self._looked.acquire(timeout=10):
            connection.sendall(b" ")


def watch(address: str) -> Watch:
    return Watch(Alertmanager(address, None), CLOCK)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (HEAD + b"not JSON", "answers what is not Alertmanager's"),
        (HEAD + b'{"alerts": []}', "answers what is not Alertmanager's"),
        (HEAD + b'[{"labels": {"a": 1}, "startsAt": "2026-01-01T00:00:00Z"}]', "0.labels.a"),
        (HEAD + b'[{"labels": {}, "startsAt": "2026-01-01T00:00:00"}]', "0.startsAt"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", "answers 503 No: busy"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n", "answers 302 Found"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        (b"", "127.0.0.1"),
    ],
)
def test_answer_that_is_none_is_told_and_the_last_alarms_stay(answer: bytes, words: str) -> None:
    good = b'[{"labels": {"alertname": "CommonwattStuck"}, "startsAt": "2026-01-01T00:00:00Z", "new": 1}]'
    with answering(HEAD + good, HEAD + b"[]", answer) as address:
        it = watch(address)
        it.look()
        assert ([one.name for one in it.seen.alarms], it.seen.complaint) == (["CommonwattStuck"], "")
        it.look()
    assert ([one.name for one in it.seen.alarms], it.seen.time) == (["CommonwattStuck"], NOW)
    assert words in it.seen.complaint


def test_alertmanager_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WITHIN_S", 300.0)
    slow = Dripping()
    monkeypatch.setattr(client, "time", slow)
    with serving(slow.answer) as address, pytest.raises(AlertmanagerError, match="for longer than 300 s"):
        Alertmanager(address, None).ask("alerts")
    assert slow.now == 400, "begun at 100; bytes at 200, 300 and 400"


def test_answer_that_is_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 1_000)
    with answering(HEAD + b" " * 1_001) as address, pytest.raises(AlertmanagerError, match="more than 1000 bytes"):
        Alertmanager(address, None).ask("alerts")


def test_connection_of_a_refused_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 1_000)
    closed = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + b" " * 1_001)
        with suppress(ConnectionResetError):
            connection.recv(1)
        closed.set()

    with serving(answer) as address, pytest.raises(AlertmanagerError) as error:
        Alertmanager(address, None).ask("alerts")
    assert closed.wait(10), f"open while {error} is kept"


def test_alertmanager_that_is_gone_is_told_and_silences_nothing() -> None:
    it = watch(f"127.0.0.1:{free_port()}")
    it.look()
    assert (it.seen.time, "refused" in it.seen.complaint) == (None, True)
    with pytest.raises(AlertmanagerError, match=r"refused.*; nothing is silenced"):
        it.silence(ways_of("r001", ""), NOW, NOW + 60, "ann", "cable")


def test_silence_of_two_is_taken_back_if_the_second_is_refused() -> None:
    made = HEAD + b'{"silenceID": "first"}'
    asked: list[str] = []

    class Half(Alertmanager):
        def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
            if method != "DELETE":
                return super().ask(path, method, body)
            asked.append(path)
            return b""

    with answering(made, b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno") as address:
        it = Watch(Half(address, None), CLOCK)
        with pytest.raises(AlertmanagerError, match="400 Bad: no; nothing is silenced"):
            it.silence(ways_of("r001", ""), NOW, NOW + 60, "ann", "cable")
    assert asked == ["silence/first"]
