"""The small HTTP server of brokers, gateways and meters, also under garbage and slow senders."""

import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from commonwatt.identity.certificates import Purpose
from commonwatt.network import http_server as httpd
from commonwatt.network.http_server import MAX_BODY_BYTES, HttpRequest, HttpServer, Response
from harness.care.certificates import authority, certificate
from harness.network.mqtt import read_to_the_end
from harness.network.waiting import free_port


@pytest.fixture
def base() -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("commonwatt_tests", "Tests.", registry=registry).inc(3)
    server = HttpServer("127.0.0.1:0", registry, lambda: {"connected": True})
    server.start()
    assert server._server is not None
    yield f"http://127.0.0.1:{server._server.server_address[1]}"
    server.stop()
    server.stop()


def get(url: str, host: str | None = None) -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_prometheus_finds_the_metrics(base: str) -> None:
    code, content_type, text = get(f"{base}/metrics")
    assert (code, content_type.split(";")[0]) == (200, "text/plain")
    assert "commonwatt_tests_total 3.0" in text


def test_status_is_json(base: str) -> None:
    code, content_type, text = get(f"{base}/status")
    assert (code, content_type, json.loads(text)) == (200, "application/json", {"connected": True})


def test_health_is_ok(base: str) -> None:
    assert get(f"{base}/health")[::2] == (200, "ok\n")


@pytest.mark.parametrize("path", ["", "/", "/favicon.ico", "/metrics/x"])
def test_other_addresses_tell_which_there_are(base: str, path: str) -> None:
    code, _, text = get(base + path)
    assert code == 404
    assert all(known in text for known in ("/metrics", "/status", "/health"))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "a b", "[::1"]
)
def test_a_page_of_somebody_else_reads_nothing(base: str, host: str) -> None:
    for path in ("/metrics", "/status", "/health"):
        code, _, text = get(base + path, host)
        assert (code, "http_hosts" in text, "connected" in text) == (421, True, False)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9101", "127.0.0.1:9101", "[::1]:9101", "10.1.0.1", "us.example"]
)
def test_by_an_address_or_a_name_of_ours_it_answers(host: str) -> None:
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), dict, ["us.example"])
    server.start()
    assert server._server is not None
    code, *_ = get(f"http://127.0.0.1:{server._server.server_address[1]}/status", host)
    server.stop()
    assert code == 200


def test_an_address_of_ipv6_is_listened_on() -> None:
    server = HttpServer("[::1]:0", CollectorRegistry(), dict)
    server.start()
    assert server._server is not None
    code, *_ = get(f"http://[::1]:{server._server.server_address[1]}/health")
    server.stop()
    assert code == 200


def test_it_starts_without_asking_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda _: pytest.fail("asked for a name"))
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), dict)
    server.start()
    server.stop()


def test_taken_address_is_an_error_a_person_is_told(base: str) -> None:
    second = HttpServer(base.removeprefix("http://"), CollectorRegistry(), dict)
    with pytest.raises(OSError, match=f"can't listen on {base.removeprefix('http://')}: .* in use"):
        second.start()
    second.stop()


def echo(request: HttpRequest) -> Response | None:
    if request.path == "/status":
        return None
    text = f"{request.method} {request.path} {request.address} {request.body.decode()}"
    return Response(status=201, body=text, headers=(("X-Test", "yes"),))


@pytest.fixture
def pages() -> Iterator[str]:
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: {"connected": True}, pages=echo)
    server.start()
    assert server._server is not None
    yield f"http://127.0.0.1:{server._server.server_address[1]}"
    server.stop()


def post(url: str, body: bytes, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_pages_answer_first_but_not_for_metrics(pages: str) -> None:
    assert get(f"{pages}/a?b=1") == (201, "text/plain; charset=utf-8", "GET /a 127.0.0.1 ")
    assert json.loads(get(f"{pages}/status")[2]) == {"connected": True}
    assert get(f"{pages}/health")[2] == "GET /health 127.0.0.1 "
    assert "# " in get(f"{pages}/metrics")[2] or get(f"{pages}/metrics")[2] == ""
    assert get(f"{pages}/a", "evil.example")[0] == 421


def test_a_form_is_read_up_to_its_bound(pages: str, base: str) -> None:
    assert post(f"{pages}/a", "ü b".encode()) == (201, "POST /a 127.0.0.1 ü b")
    assert post(f"{pages}/a", b"x" * (MAX_BODY_BYTES + 1))[0] == 413
    for length in ("", "-5", "0000000000099999", "٣", "ten"):
        assert raw_post(pages, length) == b"HTTP/1.0 413"
    assert post(f"{base}/status", b"a=b")[0] == 405
    assert post(f"{pages}/a", b"name=x", Host="evil.example")[0] == 421


def raw_post(url: str, length: str) -> bytes:
    """Return the start of the answer to a POST with this length."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(f"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
        return sock.recv(12)


def test_a_server_with_a_certificate_speaks_tls_only(tmp_path: Path) -> None:
    pem = certificate(authority(tmp_path), Purpose.BROKER, "r001")
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: {"connected": True}, certificate=pem)
    server.start()
    assert server._server is not None
    port = server._server.server_address[1]
    trust = ssl.create_default_context(cafile=str(pem.with_name("ca.pem")))
    with socket.create_connection(("127.0.0.1", port)) as silent:
        # A client that sends nothing must not hold up the next one.
        with urllib.request.urlopen(f"https://localhost:{port}/status", timeout=5, context=trust) as answer:
            assert json.load(answer) == {"connected": True}
        silent.sendall(b"GET /status HTTP/1.1\r\n\r\n")
        with pytest.raises((OSError, HTTPException)):
            get(f"http://127.0.0.1:{port}/status")
    pem.write_text("not a certificate")
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/health", timeout=5, context=trust) as answer:
        assert answer.read() == b"ok\n", "the old certificate stays in use"
    renewed = certificate(authority(tmp_path / "renewed"), Purpose.BROKER, "r001")
    pem.write_bytes(renewed.read_bytes())
    trust = ssl.create_default_context(cafile=str(renewed.with_name("ca.pem")))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/health", timeout=5, context=trust) as answer:
        assert answer.read() == b"ok\n"
    server.stop()


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
