"""What a client may send: every packet is judged whole, and nothing breaks the judge."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.embedded.packets import (
    MAX_FILTERS,
    MAX_MESSAGE_BYTES,
    MAX_TOPIC_BYTES,
    Cut,
    ViolationError,
    header_is_whole,
    judge_body,
    judge_header,
)
from harness.network.mqtt_raw import packet, text


def judge(data: bytes) -> Cut | None:
    """Judge one packet as the stream is read; ``None`` when it may pass."""
    header = b""
    while not header_is_whole(header):
        header += data[len(header) : len(header) + 1]
    try:
        length = judge_header(header)
        body = data[len(header) :]
        assert length == len(body)
        judge_body(header, body)
    except ViolationError as violation:
        return violation.reason
    return None


@pytest.mark.parametrize(
    "data",
    [
        packet(0x30, text("cw1/r001/7/u/lvl") + b"data"),
        packet(0x32, text("cw1/r001/7/u/rec") + b"\x00\x01"),
        packet(0x3B, text("t") + b"\xff\xff" + bytes(70_000)),
        packet(0x40, b"\x00\x01"),
        packet(0x82, b"\x00\x01" + text("cw1/r001/7/d/+") + b"\x01"),
        packet(0x82, b"\x00\x01" + (text("#") + b"\x02") * MAX_FILTERS),
        packet(0xA2, b"\x00\x01" + text("a") + text("b")),
        packet(0xC0, b""),
        packet(0xE0, b""),
    ],
)
def test_what_mqtt_allows_passes(data: bytes) -> None:
    assert judge(data) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc0\x80\x80\x80\x80", Cut.MALFORMED),  # a length of five bytes
        (packet(0x00, b""), Cut.PROTOCOL),
        (packet(0xF0, b""), Cut.PROTOCOL),
        (packet(0x10, text("MQTT")), Cut.PROTOCOL),  # a second CONNECT
        (packet(0x20, b"\0\0"), Cut.PROTOCOL),  # brokers send CONNACK
        (packet(0x50, b"\0\1"), Cut.PROTOCOL),  # PUBREC belongs to QoS 2
        (packet(0x34, text("t") + b"\0\1"), Cut.QOS),
        (packet(0x36, text("t") + b"\0\1"), Cut.MALFORMED),  # QoS 3
        (packet(0x38, text("t")), Cut.MALFORMED),  # again, at QoS 0
        (packet(0x32, text("t") + b"\0\0"), Cut.MALFORMED),  # packet id 0
        (packet(0x32, text("t") + b"\1"), Cut.MALFORMED),
        (packet(0x30, b"\x00\x09short"), Cut.MALFORMED),
        (packet(0x30, b"\x00"), Cut.MALFORMED),
        (packet(0x30, text("a/+/b")), Cut.TOPIC),
        (packet(0x30, text("a/#")), Cut.TOPIC),
        (packet(0x30, text("") + b"x"), Cut.TOPIC),
        (packet(0x30, text("a\0b")), Cut.TOPIC),
        (packet(0x30, text(b"\xff\xfe")), Cut.TOPIC),
        (packet(0x30, text(b"\xed\xa0\x80")), Cut.TOPIC),  # half of a surrogate pair
        (packet(0x30, text("a" * (MAX_TOPIC_BYTES + 1))), Cut.TOPIC),
        (packet(0x30, bytes(200))[:1] + b"\x81\x80\x40", Cut.OVERSIZE),
        (packet(0x41, b"\0\1"), Cut.MALFORMED),
        (packet(0x40, b"\0\0"), Cut.MALFORMED),
        (packet(0x40, b"\0\1\0"), Cut.OVERSIZE),
        (packet(0x80, b"\0\1" + text("a") + b"\0"), Cut.MALFORMED),  # flags
        (packet(0x82, b"\0\1"), Cut.MALFORMED),
        (packet(0x82, b"\0\0" + text("a") + b"\0"), Cut.MALFORMED),
        (packet(0x82, b"\0\1" + text("a") + b"\3"), Cut.MALFORMED),  # QoS 3
        (packet(0x82, b"\0\1" + text("aa")), Cut.MALFORMED),  # no QoS
        (packet(0x82, b"\0\1" + text("") + b"\0\0\0"), Cut.TOPIC),
        (packet(0x82, b"\0\1" + (text("a") + b"\0") * (MAX_FILTERS + 1)), Cut.OVERSIZE),
        (packet(0xA2, b"\0\1" + text("a") * (MAX_FILTERS + 1)), Cut.OVERSIZE),
        (packet(0xC1, b""), Cut.MALFORMED),
        (packet(0xC0, b"x"), Cut.OVERSIZE),
        (packet(0xE0, b"x"), Cut.OVERSIZE),
    ],
)
def test_what_it_forbids_has_a_reason(data: bytes, reason: Cut) -> None:
    assert judge(data) is reason


@given(st.integers(0, 255), st.binary(max_size=300))
@example(0x30, b"")
@example(0x82, b"\0\1")
def test_any_bytes_are_judged(first: int, body: bytes) -> None:
    assert judge(packet(first, body)) in (None, *Cut)


@given(st.integers(MAX_MESSAGE_BYTES + 1, 2**28 - 1), st.integers(0, 255))
def test_nothing_beyond_the_largest_message_is_read(length: int, first: int) -> None:
    header = bytes([first]) + bytes(length >> 7 * i & 0x7F | 0x80 * (i < 3) for i in range(4))
    with pytest.raises(ViolationError):
        judge_header(header)
