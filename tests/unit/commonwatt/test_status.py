"""What a part says of itself, in a terminal of its own machine."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from commonwatt.cli.main import make_app
from commonwatt.cli.status import MAX_LINE, ask, lines
from commonwatt.identity.certificates import Kind
from commonwatt.network.http_server import HttpServer
from commonwatt.network.tls import server_context
from harness.network.waiting import free_port
from harness.real.enrolled import authority, certificate

TOLD = {"time": 1_800_014_400, "connected": {"meters": True, "head_end": False}, "alarms": []}


@pytest.fixture
def address() -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    server = HttpServer(address, CollectorRegistry(), lambda: TOLD)
    server.start()
    yield address
    server.stop()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Result]:
    def run(text: str, *words: str) -> Result:
        config = tmp_path / "part.toml"
        config.write_text(text)
        return CliRunner().invoke(make_app("status"), ["status", "--config", str(config), *words])

    return run


def test_a_part_that_runs_is_told_line_by_line(asked: Callable[..., Result], address: str) -> None:
    done = asked(f'[gateway]\nmicrogrid = "r001"\nhttp = "{address}"\n')
    assert "times: UTC\ntime: 2027-01-15 12:00:00Z\nconnected: meters yes, head_end no\nalarms: none\n" in done.stdout
    assert json.loads(asked(f'[broker]\nhttp = "{address}"\n', "--json").stdout) == TOLD


def test_one_that_listens_everywhere_is_asked_on_its_own_machine(asked: Callable[..., Result], address: str) -> None:
    everywhere = f"0.0.0.0:{address.rpartition(':')[2]}"
    done = asked(f'[broker]\nhttp = "{everywhere}"\nhttp_plain_text = true\n')
    assert (done.exit_code, "alarms: none" in done.stdout) == (0, True)


def test_one_that_does_not_answer_fails_and_says_where(asked: Callable[..., Result]) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = asked(f'[utility]\nhttp = "{address}"\n')
    assert done.exit_code == 1
    assert f"the utility does not answer at {address}" in done.stderr


def test_a_broker_without_an_address_says_what_to_add(asked: Callable[..., Result]) -> None:
    done = asked("[broker]\n")
    assert (done.exit_code, "has no http" in done.stderr) == (2, True)


def test_what_is_no_part_of_ours_is_told(asked: Callable[..., Result], address: str, tmp_path: Path) -> None:
    at = f"127.0.0.1:{free_port()}"
    stranger = HttpServer(at, CollectorRegistry(), lambda: [1])  # type: ignore[arg-type,return-value]
    stranger.start()
    try:
        done = asked(f'[broker]\nhttp = "{at}"\n')
    finally:
        stranger.stop()
    assert (done.exit_code, "another program" in done.stderr) == (1, True)


def test_what_is_long_is_counted() -> None:
    long = {f"meter {number}": {"level": number} for number in range(MAX_LINE)}
    told = {"batteries": long, "donors": ["1", "2"], "reason": "x" * MAX_LINE * 2}
    assert lines(told) == [f"batteries: {MAX_LINE}", "donors: 1, 2", f"reason: {'x' * MAX_LINE * 2}"]


def test_the_schedule_in_force_and_its_source_are_one_line() -> None:
    told = {"periods": {"collect_s": 60, "relay_s": 900}, "tuned": ["relay_s"]}
    assert lines(told) == ["schedule: collect 60 s (file), relay 900 s (tuned by the utility)"]


def test_a_silent_meter_is_shown_with_its_last_message() -> None:
    told = {"meters": {"silent": {"10001": 1_800_014_400, "10002": None}}}
    assert lines(told) == ["meters: silent (10001 2027-01-15 12:00:00Z, 10002 not heard yet)"]


def test_over_https_the_certificate_of_its_file_is_believed_and_no_other(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path / "a"), Kind.BROKER, "utility")
    other = certificate(authority(tmp_path / "b"), Kind.BROKER, "utility")
    address = f"127.0.0.1:{free_port()}"
    server = HttpServer(address, CollectorRegistry(), lambda: TOLD)
    server.start()
    assert server._server is not None
    server._server.socket = server_context(own).wrap_socket(server._server.socket, server_side=True)
    config = tmp_path / "utility.toml"
    try:
        config.write_text(f'[utility]\nhttp = "{address}"\nhttp_certificate = "{own}"\n')
        assert ask(config) == TOLD
        config.write_text(f'[utility]\nhttp = "{address}"\nhttp_certificate = "{other}"\n')
        with pytest.raises(Exception, match="certificate verify failed"):
            ask(config)
    finally:
        server.stop()
