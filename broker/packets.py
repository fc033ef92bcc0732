"""Validate the packets of a connected client before amqtt gets them. Pure.

amqtt parses from the stream as it reads, answers packets that no client may send, and ends a connection without a
reason when a packet is inconsistent. It only gets whole packets that were validated here.
"""

from enum import StrEnum

from broker.connect import MAX_LENGTH_BYTES, AdmissionError, remaining_length
from commonwatt.model.exceptions import CommonwattError

MAX_MESSAGE_BYTES = 1 << 20  # largest PUBLISH, in bytes after its fixed header; MQTT itself allows 256 MiB
MAX_TOPIC_BYTES = 256  # most bytes of a topic or filter; ours have 45 at most
MAX_FILTERS = 64  # most filters in one SUBSCRIBE or UNSUBSCRIBE, and of one client; ours have one
# Packet types that a connected client may send; the others are a broker's, belong to QoS 2, or do not exist.
PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 3, 4, 8, 10, 12, 14

_MAX_FILTERS_BYTES = 2 + MAX_FILTERS * (MAX_TOPIC_BYTES + 3)
# Kind of packet: the flags it must have, and how long it may be after its fixed header, from and to.
_SHAPES = {
    PUBACK: (0, 2, 2),
    SUBSCRIBE: (2, 6, _MAX_FILTERS_BYTES),
    UNSUBSCRIBE: (2, 5, _MAX_FILTERS_BYTES),
    PINGREQ: (0, 0, 0),
    DISCONNECT: (0, 0, 0),
}
_DUP, _QOS_1, _QOS_2, _QOS_3 = 0x08, 0x02, 0x04, 0x06


class Cut(StrEnum):
    """Why an admitted connection was cut; the label of the counter."""

    OVERSIZE = "oversize"
    MALFORMED = "malformed"
    PROTOCOL = "protocol"
    QOS = "qos"
    TOPIC = "topic"
    SILENT = "silent"
    UNREAD = "unread"
    REGISTRATION = "registration"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ViolationError(CommonwattError):
    """A client violated MQTT or a limit; its connection must be cut, for ``reason``."""

    def __init__(self, reason: Cut, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def judge_header(header: bytes) -> int:
    """Validate the fixed header of a packet, and return how many bytes follow."""
    try:
        length, _ = remaining_length(header)
    except AdmissionError as error:
        raise ViolationError(Cut.MALFORMED, str(error)) from error
    kind, flags = header[0] >> 4, header[0] & 0x0F
    if kind == PUBLISH:
        _judge_publish_flags(flags)
        shortest, longest = 3, MAX_MESSAGE_BYTES
    else:
        if kind not in _SHAPES:
            raise ViolationError(Cut.PROTOCOL, f"a packet of type {kind}, which no client may send here")
        wanted, shortest, longest = _SHAPES[kind]
        if flags != wanted:
            raise ViolationError(Cut.MALFORMED, f"a packet of type {kind} with flags {flags:#x}")
    if length > longest:
        raise ViolationError(Cut.OVERSIZE, f"a packet of type {kind} of {length} bytes")
    if length < shortest:
        raise ViolationError(Cut.MALFORMED, f"a packet of type {kind} of {length} bytes")
    return length


def judge_body(header: bytes, body: bytes) -> None:
    """Validate a whole packet whose header is valid."""
    kind = header[0] >> 4
    if kind == PUBLISH:
        topic, end = _string(body, 0)
        if "+" in topic or "#" in topic:
            raise ViolationError(Cut.TOPIC, f"it published on a topic with a wildcard, {topic!r}")
        if header[0] & _QOS_3:
            _judge_packet_id(body, end)
    elif kind in (PUBACK, SUBSCRIBE, UNSUBSCRIBE):
        _judge_packet_id(body, 0)
    if kind in (SUBSCRIBE, UNSUBSCRIBE):
        _judge_filters(body, with_qos=kind == SUBSCRIBE)


def header_is_whole(header: bytes) -> bool:
    """Return whether ``header`` is a whole fixed header, or too long for one and ready to be refused."""
    return len(header) > 1 and (header[-1] < 0x80 or len(header) > MAX_LENGTH_BYTES)


def _judge_publish_flags(flags: int) -> None:
    qos = flags & _QOS_3
    if qos == _QOS_3 or (flags & _DUP and not qos):
        raise ViolationError(Cut.MALFORMED, f"a PUBLISH with flags {flags:#x}")
    if qos == _QOS_2:
        raise ViolationError(Cut.QOS, "a PUBLISH of QoS 2; only QoS 0 and 1 are supported")


def _judge_packet_id(body: bytes, at: int) -> None:
    if len(body) < at + 2 or body[at : at + 2] == b"\0\0":
        raise ViolationError(Cut.MALFORMED, "a packet without an id")


def _judge_filters(body: bytes, *, with_qos: bool) -> None:
    at, filters = 2, 0
    while at < len(body):
        _, at = _string(body, at)
        filters += 1
        if with_qos:
            if at >= len(body) or body[at] > _QOS_1:
                raise ViolationError(Cut.MALFORMED, "a SUBSCRIBE with an invalid QoS")
            at += 1
    if filters > MAX_FILTERS:
        raise ViolationError(Cut.OVERSIZE, f"{filters} filters in one packet")


def _string(body: bytes, at: int) -> tuple[str, int]:
    """Return the topic or filter at ``at``, and where it ends."""
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if len(body) < at + 2 or end > len(body):
        raise ViolationError(Cut.MALFORMED, "a topic longer than its packet")
    if end - at - 2 > MAX_TOPIC_BYTES:
        raise ViolationError(Cut.TOPIC, f"a topic of {end - at - 2} bytes")
    try:
        topic = body[at + 2 : end].decode()
    except UnicodeDecodeError as error:
        raise ViolationError(Cut.TOPIC, "a topic that is not UTF-8") from error
    if not topic or "\0" in topic:
        raise ViolationError(Cut.TOPIC, f"a topic MQTT forbids, {topic!r}")
    return topic, end
