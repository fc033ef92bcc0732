"""The small HTTP server of brokers, gateways and meters."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from commonwatt.network.http_server import HttpServer


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
