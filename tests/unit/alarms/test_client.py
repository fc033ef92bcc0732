"""An Alertmanager that is slow, gone or out of its mind costs a page nothing, and is told in words."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from commonwatt.runtime.clock import Clock
from harness.network.waiting import free_port
from utility.alarms import client
from utility.alarms.client import Alertmanager, AlertmanagerError
from utility.alarms.silences import ways_of
from utility.alarms.watch import Watch

NOW = 1_800_000_000
CLOCK = Clock(origin=NOW, monotonic_origin=1e12)  # it stands still
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@contextmanager
def answering(*answers: bytes, drip_s: float = 0.0) -> Iterator[str]:
    """Yield the address of a server that sends each connection the next bytes, one at a time if it drips."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                try:
                    with server.accept()[0] as connection:
                        connection.recv(65_536)
                        if drip_s:
                            connection.sendall(answer[: len(HEAD)])
                            for byte in answer[len(HEAD) :]:
                                connection.sendall(bytes([byte]))
                                time.sleep(drip_s)
                        else:
                            connection.sendall(answer)
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        host, port = server.getsockname()
        yield f"{host}:{port}"


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


def test_alertmanager_that_drips_or_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WITHIN_S", 0.3)
    monkeypatch.setattr(client, "MAX_BYTES", 1_000)
    with answering(HEAD + b" " * 500, drip_s=0.02) as address:
        before = time.monotonic()
        with pytest.raises(AlertmanagerError, match=r"for longer than|timed out"):
            Alertmanager(address, None).alerts()
        assert time.monotonic() - before < 2
    with answering(HEAD + b" " * 1_001) as address, pytest.raises(AlertmanagerError, match="more than 1000 bytes"):
        Alertmanager(address, None).alerts()


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
        def expire(self, silence: str) -> None:
            asked.append(silence)

    with answering(made, b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno") as address:
        it = Watch(Half(address, None), CLOCK)
        with pytest.raises(AlertmanagerError, match="400 Bad: no; nothing is silenced"):
            it.silence(ways_of("r001", ""), NOW, NOW + 60, "ann", "cable")
    assert asked == ["first"]
