"""The broker's door: which clients it admits, how long a connection has, what CONNECT says, and its log."""

import asyncio
import contextlib
import logging
import socket
import struct
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker import listener
from broker.connect import AdmissionError, Connect, ConnectRefusal, connack, connect_for_broker, judge, parse_connect
from broker.listener import (
    MAX_TOLD_APART,
    AdmittedDevices,
    Guard,
    Listener,
    PendingConnections,
    ThrottledLog,
    read_connect,
)
from broker.metrics import BrokerMetrics
from commonwatt.identity.devices import Device, DeviceRole, digest, load_devices, save_devices
from harness.network.mqtt import packet, text
from harness.network.waiting import become, cancelled

TIMEOUT_S = 30.0


class SlowTls:
    """Handshakes that are done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[float] = []  # when each began, in the loop's time
        self.done = asyncio.Event()

    async def shake_hands(self, _protocol: object, accepted: socket.socket, _timeout_s: float) -> asyncio.Transport:
        self.begun.append(asyncio.get_running_loop().time())
        await self.done.wait()
        accepted.close()
        return Mock(spec=asyncio.Transport)


async def opened(listener: Listener) -> int:
    listener.capacity = 1000
    return await listener.open("127.0.0.1", 0)


def test_the_handshake_takes_from_the_time_for_the_connect() -> None:
    async def scene() -> None:
        metrics, tls, served = BrokerMetrics(), SlowTls(), list[float]()

        async def serve(_reader: object, _writer: object, ends: float) -> None:
            served.append(ends)

        listener = Listener(serve, Guard(dict, metrics, TIMEOUT_S), metrics, cast("Any", tls))
        with socket.create_connection(("127.0.0.1", await opened(listener))):
            await become(lambda: tls.begun)
            tls.done.set()
            await become(lambda: served)
        await listener.close()
        assert served[0] <= tls.begun[0] + TIMEOUT_S

    asyncio.run(scene())


def test_who_is_turned_away_from_a_crowd_is_named_and_not_who_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "broker.listener")

    async def scene() -> None:
        metrics = BrokerMetrics()

        async def serve(_reader: object, writer: asyncio.StreamWriter, _ends: float) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                writer.close()

        listener = Listener(serve, Guard(dict, metrics, TIMEOUT_S), metrics)
        listener._pending_connections = PendingConnections(2)
        port = await opened(listener)
        idle = ("127.0.0.2", "127.0.0.2")
        with ExitStack() as stack:
            for address in idle:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(address, 0)))
            await become(lambda: len(listener._pending_connections) == len(idle))
            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)))
            await become(lambda: caplog.records)
        await listener.close()
        await cancelled(*listener.tasks)

    asyncio.run(scene())
    (record,) = caplog.records
    assert record.getMessage().startswith("refused connection from 127.0.0.2: crowded")


def test_a_door_that_accepts_no_more_is_told_to_the_watchdog_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        metrics = BrokerMetrics()
        listener = Listener(Mock(), Guard(dict, metrics), metrics)
        port = await opened(listener)
        assert listener.accepting() is None
        monkeypatch.setattr(listener, "_enter", Mock(side_effect=lambda accepted: accepted.close() or 1 / 0))
        with socket.create_connection(("127.0.0.1", port)):
            await become(listener.accepting)
        assert listener.accepting() == "one has ended"
        await listener.close()
        assert listener.accepting() is None

    asyncio.run(scene())
    assert "no more connections are accepted" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_damaged_file_is_not_read_again_for_everybody_who_knocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reading = tmp_path / "devices.json", Mock(side_effect=load_devices)
    monkeypatch.setattr(listener, "load_devices", reading)
    device = Device(identity="1", role=DeviceRole.METER, microgrid="r001", token_sha256="0" * 64)
    save_devices(path, [device])
    devices = AdmittedDevices(path, BrokerMetrics())
    devices.load()
    path.write_text("{ not json")
    for _ in range(10):
        assert devices.refreshed() == {"1": device}
    assert reading.call_count == 2
    # It may be readable without having changed, so that somebody has to try.
    assert devices.refreshed(anew=True) == {"1": device}
    assert reading.call_count == 3
    save_devices(path, [])
    assert devices.refreshed() == {}
    assert devices.metrics.value("commonwatt_broker_devices_file_errors_total") == 2


def test_who_opens_many_connections_displaces_its_own() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=4)
    assert pending.enter("meter", "10.0.0.1") is None
    turned_away = [pending.enter(f"idle {n}", "10.0.0.66") for n in range(10)]
    assert turned_away == [None] * 3 + [(f"idle {n}", "10.0.0.66") for n in range(7)]
    assert len(pending) == 4


def test_who_was_judged_makes_room() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=1)
    assert pending.enter("first", "a") is None
    pending.leave("first")
    pending.leave("first")
    assert len(pending) == 0
    assert pending.enter("second", "a") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from("abc"))), st.integers(1, 5))
def test_there_are_never_more_than_the_limit(steps: list[tuple[bool, int, str]], limit: int) -> None:
    pending: PendingConnections[int] = PendingConnections(limit)
    inside: set[int] = set()
    for enters, number, source in steps:
        if enters and number not in inside:
            inside.add(number)
            turned_away = pending.enter(number, source)
            if turned_away is not None:
                inside.remove(turned_away[0])
        elif not enters:
            pending.leave(number)
            inside.discard(number)
        assert len(pending) == len(inside) <= limit


class Telling:
    """Lines logged at times of a test's choice."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self.time = 0.0
        self.log = ThrottledLog(logging.getLogger(__name__), lambda: self.time)
        self._caplog = caplog

    def tell(self, who: str | None = "17", reason: str = "refused: token") -> None:
        self.log.tell(who, reason, f"{reason}, {None if who is None else who[:10]}")

    def lines(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def telling(caplog: pytest.LogCaptureFixture) -> Telling:
    return Telling(caplog)


def test_a_client_refused_in_a_loop_gets_a_line_a_minute(telling: Telling) -> None:
    for _ in range(6_218):
        telling.tell()
        telling.time += 59 / 6_218
    assert telling.lines() == ["refused: token, 17"]
    telling.time = 60.0
    telling.tell()
    assert telling.lines() == ["refused: token, 17 ... and 6217 more"]
    telling.tell()
    assert telling.lines() == []


def test_each_identity_and_each_reason_is_told_at_once(telling: Telling) -> None:
    for who in ("17", "18", None, "17"):
        telling.tell(who)
        telling.tell(who, "refused: will")
    assert len(telling.lines()) == 6


def test_invented_identities_fill_neither_memory_nor_log(telling: Telling) -> None:
    for number in range(5 * MAX_TOLD_APART):
        telling.tell(f"{number}" + "x" * 4_000)
    assert len(telling.lines()) == len(telling.log) == MAX_TOLD_APART + 1
    telling.time = 61.0
    telling.tell("another")
    assert telling.lines() == [f"refused: token ... and {4 * MAX_TOLD_APART - 1} more", "refused: token, another"]
    assert len(telling.log) == 1


TOKEN = b"its-token"
METER = Device(identity="17", role=DeviceRole.METER, microgrid="r001", token_sha256=digest(TOKEN))
DEVICES = {"17": METER}


def connect_packet(
    *, name: bytes = b"MQTT", level: int = 4, flags: int = 0xC2, keepalive_s: int = 60, payload: bytes | None = None
) -> bytes:
    payload = text(b"17") + text(b"17") + text(TOKEN) if payload is None else payload
    return packet(0x10, text(name) + struct.pack("!BBH", level, flags, keepalive_s) + payload)


def refusal(data: bytes) -> ConnectRefusal:
    with pytest.raises(AdmissionError) as caught:
        parse_connect(data)
    return caught.value.reason


def test_connect_is_read_whole() -> None:
    assert parse_connect(connect_packet()) == Connect(client_id="17", username="17", password=TOKEN, keepalive_s=60)


def test_connect_with_an_empty_user_name_is_read() -> None:
    parsed = parse_connect(connect_packet(payload=text(b"17") + text(b"") + text(TOKEN)))
    assert (parsed.username, parsed.password) == ("", TOKEN)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (connect_packet(level=5), ConnectRefusal.PROTOCOL),
        (connect_packet(level=3), ConnectRefusal.PROTOCOL),
        (connect_packet(name=b"MQIsdp", level=3), ConnectRefusal.PROTOCOL),
        (connect_packet(name=b"HTTP"), ConnectRefusal.GARBAGE),
        (connect_packet(flags=0xC3), ConnectRefusal.GARBAGE),
        (connect_packet(flags=0x42, payload=text(b"17") + text(TOKEN)), ConnectRefusal.GARBAGE),  # [MQTT-3.1.2-22]
        (connect_packet(flags=0xE2), ConnectRefusal.GARBAGE),  # retain of a will there is not
        (connect_packet(flags=0xC6, payload=text(b"17") + text(b"t") + text(b"m")), ConnectRefusal.WILL),
        (connect_packet() + b"\0", ConnectRefusal.GARBAGE),
        (connect_packet()[:-1], ConnectRefusal.GARBAGE),
        (connect_packet(payload=text(b"17") + text(b"17") + text(TOKEN) + b"x"), ConnectRefusal.GARBAGE),
        (connect_packet(payload=text(b"17") + b"\xff\xff17"), ConnectRefusal.GARBAGE),
        (connect_packet(flags=2, payload=text(b"\xff")), ConnectRefusal.GARBAGE),
        (connect_packet(flags=2, payload=text(b"1\x007")), ConnectRefusal.GARBAGE),
        (packet(0x20, b""), ConnectRefusal.GARBAGE),
        (b"\x10\xff\xff\xff\xff\x01", ConnectRefusal.GARBAGE),
        (b"", ConnectRefusal.GARBAGE),
        (packet(0x10, bytes(5000)), ConnectRefusal.OVERSIZE),
    ],
)
def test_connect_that_nobody_here_sends_is_refused_by_name(data: bytes, reason: ConnectRefusal) -> None:
    assert refusal(data) is reason


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda body: packet(0x10, text(b"MQTT") + b"\x04" + body)))
@example(b"\x10")
@example(b"\x10\x80\x80\x80\x80")
def test_arbitrary_bytes_are_parsed_or_refused_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(AdmissionError):
        assert "\0" not in parse_connect(data).client_id


@given(st.binary(max_size=80), st.integers(0, 60))
def test_a_damaged_connect_is_parsed_or_refused_and_nothing_else(noise: bytes, at: int) -> None:
    whole = connect_packet()
    with contextlib.suppress(AdmissionError):
        parse_connect(whole[:at] + noise + whole[at + len(noise) :])


@pytest.mark.parametrize("username", [None, "", "17"])
def test_the_right_token_is_admitted_whether_or_not_the_user_name_repeats_the_identity(username: str | None) -> None:
    assert judge(Connect(client_id="17", username=username, password=TOKEN, keepalive_s=0), DEVICES) is METER


@pytest.mark.parametrize(
    ("client_id", "username", "password", "reason"),
    [
        ("18", None, TOKEN, ConnectRefusal.IDENTITY),
        ("", "17", TOKEN, ConnectRefusal.IDENTITY),
        ("17", "18", TOKEN, ConnectRefusal.USERNAME),
        ("17", None, None, ConnectRefusal.TOKEN),
        ("17", None, b"", ConnectRefusal.TOKEN),
        ("17", "17", b"another", ConnectRefusal.TOKEN),
        ("17", "17", METER.token_sha256.encode(), ConnectRefusal.TOKEN),
    ],
)
def test_who_does_not_prove_an_identity_is_refused(
    client_id: str, username: str | None, password: bytes | None, reason: ConnectRefusal
) -> None:
    with pytest.raises(AdmissionError) as caught:
        judge(Connect(client_id=client_id, username=username, password=password, keepalive_s=0), DEVICES)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("proved", "password", "reason"),
    [
        ("18", None, ConnectRefusal.CERTIFICATE),
        ("18", TOKEN, ConnectRefusal.CERTIFICATE),
        ("17", b"another token", ConnectRefusal.TOKEN),
    ],
)
def test_a_certificate_is_of_the_client_id_and_does_not_excuse_a_wrong_token(
    proved: str, password: bytes | None, reason: ConnectRefusal
) -> None:
    with pytest.raises(AdmissionError) as caught:
        judge(Connect(client_id="17", username=None, password=password, keepalive_s=0), DEVICES, proved)
    assert caught.value.reason is reason


@pytest.mark.parametrize("password", [None, TOKEN])
def test_a_certificate_proves_an_identity_without_a_token(password: bytes | None) -> None:
    assert judge(Connect(client_id="17", username=None, password=password, keepalive_s=0), DEVICES, "17") is METER


@pytest.mark.parametrize("proved", [None, "17"])
def test_a_revoked_device_is_refused_whatever_it_shows(proved: str | None) -> None:
    connect = Connect(client_id="17", username=None, password=TOKEN, keepalive_s=0)
    with pytest.raises(AdmissionError, match="stolen") as caught:
        judge(connect, {"17": replace(METER, revoked="stolen")}, proved)
    assert caught.value.reason is ConnectRefusal.REVOKED


@pytest.mark.parametrize("password", [None, b"wrong"])
def test_who_proves_nothing_is_not_told_that_a_device_was_revoked(password: bytes | None) -> None:
    connect = Connect(client_id="17", username=None, password=password, keepalive_s=0)
    with pytest.raises(AdmissionError) as caught:
        judge(connect, {"17": replace(METER, revoked="stolen")})
    assert caught.value.reason is ConnectRefusal.TOKEN


def test_refusals_are_answered_with_the_codes_of_the_standard() -> None:
    codes = {reason: answer[3] for reason in ConnectRefusal if (answer := connack(reason)) is not None}
    assert codes == {
        ConnectRefusal.PROTOCOL: 1,
        ConnectRefusal.IDENTITY: 2,
        ConnectRefusal.USERNAME: 4,
        ConnectRefusal.TOKEN: 4,
        ConnectRefusal.WILL: 5,
        ConnectRefusal.CERTIFICATE: 5,
        ConnectRefusal.EXPIRED: 5,
        ConnectRefusal.REVOKED: 5,
    }


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=300))
def test_what_amqtt_is_shown_is_a_clean_session_without_secrets(identity: str) -> None:
    shown = connect_for_broker(identity)
    assert parse_connect(shown) == Connect(client_id=identity, username=None, password=None, keepalive_s=0)
    flags = shown[len(shown) - len(identity.encode()) - 5]
    assert flags == 0x02


def read(data: bytes, *, ended: bool, timeout_s: float = 5.0) -> tuple[bytes, bytes]:
    """Return the CONNECT read from a stream of ``data``, and what is left in the stream."""

    async def run() -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        if ended:
            reader.feed_eof()
        connect = await read_connect(reader, asyncio.get_running_loop().time() + timeout_s)
        reader.feed_eof()
        return connect, await reader.read()

    return asyncio.run(run())


def reading_refused(data: bytes, *, ended: bool, timeout_s: float = 5.0) -> ConnectRefusal:
    with pytest.raises(AdmissionError) as caught:
        read(data, ended=ended, timeout_s=timeout_s)
    return caught.value.reason


def test_the_guard_takes_the_connect_and_not_a_byte_more() -> None:
    assert read(connect_packet() + b"next", ended=False) == (connect_packet(), b"next")


@pytest.mark.parametrize("length", [0, 1, 5, 30])
def test_a_connect_that_does_not_come_whole_in_time_is_refused(length: int) -> None:
    assert reading_refused(connect_packet()[:length], ended=False, timeout_s=0.01) is ConnectRefusal.TIMEOUT


def test_a_connection_closed_within_its_connect_is_counted_as_closed() -> None:
    assert reading_refused(connect_packet()[:9], ended=True) is ConnectRefusal.CLOSED


def test_an_oversize_connect_is_refused_before_its_body_comes() -> None:
    assert reading_refused(b"\x10\xff\xff\xff\x7f", ended=False) is ConnectRefusal.OVERSIZE


def test_what_is_no_mqtt_is_refused_at_its_first_byte() -> None:
    assert reading_refused(b"G", ended=False) is ConnectRefusal.GARBAGE
