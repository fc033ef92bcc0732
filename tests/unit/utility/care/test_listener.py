"""The care listener: controllers reach it by HTTPS of the town's authority alone, and learn why they are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.identity.certificates import Kind
from commonwatt.site.bundle import JOINS_FILE
from harness.network.waiting import free_port
from harness.real.enrolled import authority, certificate
from utility.care.api.joining import Joining
from utility.care.api.listener import CareRequest, Handler, Listener, Refused
from utility.care.store.packages import routes_of

FILE = bytes(range(256)) * 1000


def answer(request: CareRequest) -> dict[str, object]:
    if request.content.get("name") != "r001":
        raise Refused("r002 is unknown")
    return {"echo": request.content["name"], "from": request.address}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[Listener, CareConnection]]:
    broker = certificate(authority(tmp_path / "town"), Kind.BROKER, "head-end")
    address = f"127.0.0.1:{free_port()}"
    routes: dict[tuple[str, str], Handler] = {
        ("POST", "join"): answer,
        ("GET", "file"): lambda request: FILE[int(request.rest[0]) :][:65_536],
    }
    made = Listener(address, broker, routes)
    made.start()
    yield made, CareConnection((f"127.0.0.1:{free_port()}", address), broker.with_name("ca.pem"))
    made.stop()


def test_a_request_goes_to_the_first_address_that_answers(listener: tuple[Listener, CareConnection]) -> None:
    made, connection = listener
    assert connection.post("/join", {"name": "r001"}) == {"echo": "r001", "from": "127.0.0.1"}
    assert made.counts == {("join", "done"): 1}


def test_a_refusal_comes_with_its_reason_and_is_counted(listener: tuple[Listener, CareConnection]) -> None:
    made, connection = listener
    with pytest.raises(CareRefused, match="r002 is unknown"):
        connection.post("/join", {"name": "r002"})
    assert made.counts == {("join", "refused"): 1}


def test_what_one_machine_of_the_utility_refuses_the_next_may_grant(
    listener: tuple[Listener, CareConnection], tmp_path: Path
) -> None:
    made, connection = listener

    def refuse(_: CareRequest) -> dict[str, object]:
        raise Refused("an old bundle\x1b[2J")

    own = connection.ca.with_name("certificate.pem")
    other = Listener(f"127.0.0.1:{free_port()}", own, {("POST", "join"): refuse})
    other.start()
    first = other._server._address
    both = CareConnection((first, *connection.addresses), connection.ca)
    assert both.post("/join", {"name": "r001"})["echo"] == "r001"
    other.stop()
    made.stop()
    other.start()
    with pytest.raises(CareRefused, match=r"an old bundle\\x1b\[2J"):
        both.post("/join", {"name": "r001"})
    other.stop()


def test_a_damaged_file_of_the_utility_is_said_to_the_controller_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{'0' * 64}.release").write_text("torn")
    (tmp_path / JOINS_FILE).write_text("{")
    broker = certificate(authority(tmp_path / "town"), Kind.BROKER, "head-end")
    joins = Joining(tmp_path, lambda use: use, lambda: True, lambda: 1_800_000_000)
    routes: dict[tuple[str, str], Handler] = {("POST", "join"): joins.answer, **routes_of(tmp_path)}
    made = Listener(f"127.0.0.1:{free_port()}", broker, routes)
    made.start()
    connection = CareConnection((made._server._address,), broker.with_name("ca.pem"))
    asked: dict[str, dict[str, object]] = {
        "join": dict.fromkeys(("code", "signature", "gateway", "broker"), "x"),
        "release": {"sha256": "0" * 64, "architecture": "amd64"},
    }
    for path, content in asked.items():
        with pytest.raises(CareUnreachable, match=r"503 .*a file of the utility .*its log says what to do"):
            connection.post(f"/{path}", content)
    made.stop()
    assert made.counts == {("join", "failed"): 1, ("release", "failed"): 1}
    assert "unpack the utility's bundle again" in caplog.text
    assert "no release file; make it at the office" in caplog.text
    assert "Traceback" not in caplog.text
    assert "unpack the utility's bundle again" in made.refusals("join")[0], "it is an alarm"


def test_what_is_too_large_is_answered_by_no_handler(listener: tuple[Listener, CareConnection]) -> None:
    made, connection = listener
    with pytest.raises(CareUnreachable):
        connection.post("/join", {"name": "r001" * 20_000})
    assert not made.counts


def test_a_file_comes_in_pieces(listener: tuple[Listener, CareConnection]) -> None:
    _, connection = listener
    found = b""
    while piece := connection.piece("/file", len(found)):
        found += piece
    assert found == FILE


def test_a_listener_of_another_authority_is_not_trusted(
    listener: tuple[Listener, CareConnection], tmp_path: Path
) -> None:
    _, connection = listener
    other = certificate(authority(tmp_path / "other"), Kind.BROKER, "head-end").with_name("ca.pem")
    with pytest.raises(CareUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        CareConnection(connection.addresses, other).post("/join", {"name": "r001"})


@pytest.mark.parametrize("path", ["/status", "/health", "/", "/console", "/releases"])
def test_nothing_else_is_served(listener: tuple[Listener, CareConnection], path: str) -> None:
    made, connection = listener
    with pytest.raises(CareUnreachable, match="404"):
        connection.piece(path, 0)
    assert made.counts == {("other", "unknown"): 1}
