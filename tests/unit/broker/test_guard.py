"""The CONNECT packet: what is read, what is judged, and that no bytes break it."""

import asyncio
import contextlib
import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.admission.connect import (
    AdmissionError,
    Connect,
    Refusal,
    connack,
    connect_for_broker,
    judge,
    parse_connect,
)
from broker.admission.guard import read_connect
from commonwatt.identity.devices import Device, Role, digest
from harness.network.mqtt_raw import packet, text

TOKEN = b"its-token"
METER = Device(identity="17", role=Role.METER, microgrid="r001", token_sha256=digest(TOKEN))
DEVICES = {"17": METER}


def connect_packet(
    *, name: bytes = b"MQTT", level: int = 4, flags: int = 0xC2, keepalive_s: int = 60, payload: bytes | None = None
) -> bytes:
    payload = text(b"17") + text(b"17") + text(TOKEN) if payload is None else payload
    return packet(0x10, text(name) + struct.pack("!BBH", level, flags, keepalive_s) + payload)


def refusal(data: bytes) -> Refusal:
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
        (connect_packet(level=5), Refusal.PROTOCOL),
        (connect_packet(level=3), Refusal.PROTOCOL),
        (connect_packet(name=b"MQIsdp", level=3), Refusal.PROTOCOL),
        (connect_packet(name=b"HTTP"), Refusal.GARBAGE),
        (connect_packet(flags=0xC3), Refusal.GARBAGE),
        (connect_packet(flags=0x42, payload=text(b"17") + text(TOKEN)), Refusal.GARBAGE),  # [MQTT-3.1.2-22]
        (connect_packet(flags=0xE2), Refusal.GARBAGE),  # retain of a will there is not
        (connect_packet(flags=0xC6, payload=text(b"17") + text(b"t") + text(b"m")), Refusal.WILL),
        (connect_packet() + b"\0", Refusal.GARBAGE),
        (connect_packet()[:-1], Refusal.GARBAGE),
        (connect_packet(payload=text(b"17") + text(b"17") + text(TOKEN) + b"x"), Refusal.GARBAGE),
        (connect_packet(payload=text(b"17") + b"\xff\xff17"), Refusal.GARBAGE),
        (connect_packet(flags=2, payload=text(b"\xff")), Refusal.GARBAGE),
        (connect_packet(flags=2, payload=text(b"1\x007")), Refusal.GARBAGE),
        (packet(0x20, b""), Refusal.GARBAGE),
        (b"\x10\xff\xff\xff\xff\x01", Refusal.GARBAGE),
        (b"", Refusal.GARBAGE),
        (packet(0x10, bytes(5000)), Refusal.OVERSIZE),
    ],
)
def test_connect_that_nobody_here_sends_is_refused_by_name(data: bytes, reason: Refusal) -> None:
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
        ("18", None, TOKEN, Refusal.IDENTITY),
        ("", "17", TOKEN, Refusal.IDENTITY),
        ("17", "18", TOKEN, Refusal.USERNAME),
        ("17", None, None, Refusal.TOKEN),
        ("17", None, b"", Refusal.TOKEN),
        ("17", "17", b"another", Refusal.TOKEN),
        ("17", "17", METER.token_sha256.encode(), Refusal.TOKEN),
    ],
)
def test_who_does_not_prove_an_identity_is_refused(
    client_id: str, username: str | None, password: bytes | None, reason: Refusal
) -> None:
    with pytest.raises(AdmissionError) as caught:
        judge(Connect(client_id=client_id, username=username, password=password, keepalive_s=0), DEVICES)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("proved", "password", "reason"),
    [
        ("18", None, Refusal.CERTIFICATE),
        ("18", TOKEN, Refusal.CERTIFICATE),
        ("17", b"another token", Refusal.TOKEN),
    ],
)
def test_a_certificate_is_of_the_client_id_and_does_not_excuse_a_wrong_token(
    proved: str, password: bytes | None, reason: Refusal
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
    assert caught.value.reason is Refusal.REVOKED


@pytest.mark.parametrize("password", [None, b"wrong"])
def test_who_proves_nothing_is_not_told_that_a_device_was_revoked(password: bytes | None) -> None:
    connect = Connect(client_id="17", username=None, password=password, keepalive_s=0)
    with pytest.raises(AdmissionError) as caught:
        judge(connect, {"17": replace(METER, revoked="stolen")})
    assert caught.value.reason is Refusal.TOKEN


def test_refusals_are_answered_with_the_codes_of_the_standard() -> None:
    codes = {reason: answer[3] for reason in Refusal if (answer := connack(reason)) is not None}
    assert codes == {
        Refusal.PROTOCOL: 1,
        Refusal.IDENTITY: 2,
        Refusal.USERNAME: 4,
        Refusal.TOKEN: 4,
        Refusal.WILL: 5,
        Refusal.CERTIFICATE: 5,
        Refusal.EXPIRED: 5,
        Refusal.REVOKED: 5,
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


def reading_refused(data: bytes, *, ended: bool, timeout_s: float = 5.0) -> Refusal:
    with pytest.raises(AdmissionError) as caught:
        read(data, ended=ended, timeout_s=timeout_s)
    return caught.value.reason


def test_the_guard_takes_the_connect_and_not_a_byte_more() -> None:
    assert read(connect_packet() + b"next", ended=False) == (connect_packet(), b"next")


@pytest.mark.parametrize("length", [0, 1, 5, 30])
def test_a_connect_that_does_not_come_whole_in_time_is_refused(length: int) -> None:
    assert reading_refused(connect_packet()[:length], ended=False, timeout_s=0.01) is Refusal.TIMEOUT


def test_a_connection_closed_within_its_connect_is_counted_as_closed() -> None:
    assert reading_refused(connect_packet()[:9], ended=True) is Refusal.CLOSED


def test_an_oversize_connect_is_refused_before_its_body_comes() -> None:
    assert reading_refused(b"\x10\xff\xff\xff\x7f", ended=False) is Refusal.OVERSIZE


def test_what_is_no_mqtt_is_refused_at_its_first_byte() -> None:
    assert reading_refused(b"G", ended=False) is Refusal.GARBAGE
