"""The small HTTP server of brokers, gateways and meters."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from commonwatt.identity.certificates import Kind
from commonwatt.network.http_pages import MAX_BODY_BYTES, Request, Response
from commonwatt.network.http_server import HttpServer
from harness.real.enrolled import authority, certificate


@pytest.fixture
def base() -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("commonwatt_tests", "Tests.", registry=registry).inc(3)
    server = HttpServer("127.0.0.1:0", registry, lambda: {"connected": True})
    server.start()
    assert server._server is not None
    yield f"http://127.0.0.1:{server._server.server_port}"
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
    code, *_ = get(f"http://127.0.0.1:{server._server.server_port}/status", host)
    server.stop()
    assert code == 200


def test_an_address_of_ipv6_is_listened_on() -> None:
    server = HttpServer("[::1]:0", CollectorRegistry(), dict)
    server.start()
    assert server._server is not None
    code, *_ = get(f"http://[::1]:{server._server.server_port}/health")
    server.stop()
    assert code == 200


def test_taken_address_is_an_error_a_person_is_told(base: str) -> None:
    second = HttpServer(base.removeprefix("http://"), CollectorRegistry(), dict)
    with pytest.raises(OSError, match=f"can't listen on {base.removeprefix('http://')}: .* in use"):
        second.start()
    second.stop()


def echo(request: Request) -> Response | None:
    if request.path == "/status":
        return None
    text = f"{request.method} {request.path} {request.address} {request.body.decode()}"
    return Response(status=201, body=text, headers=(("X-Test", "yes"),))


@pytest.fixture
def pages() -> Iterator[str]:
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: {"connected": True}, pages=echo)
    server.start()
    assert server._server is not None
    yield f"http://127.0.0.1:{server._server.server_port}"
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
    pem = certificate(authority(tmp_path), Kind.BROKER, "r001")
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: {"connected": True}, certificate=pem)
    server.start()
    assert server._server is not None
    port = server._server.server_port
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
    renewed = certificate(authority(tmp_path / "renewed"), Kind.BROKER, "r001")
    pem.write_bytes(renewed.read_bytes())
    trust = ssl.create_default_context(cafile=str(renewed.with_name("ca.pem")))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/health", timeout=5, context=trust) as answer:
        assert answer.read() == b"ok\n"
    server.stop()
