"""Parse and check an MQTT 3.1.1 CONNECT packet: from bytes and known devices to a device or a refusal. Pure.

amqtt looks up, takes over or deletes the session of a client id *before* it checks the password. So the check is made
here, and amqtt only gets ``connect_for_broker``: our own CONNECT for an authenticated identity.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from commonwatt.identity.devices import Device
from commonwatt.model.exceptions import CommonwattError

MAX_CONNECT_BYTES = 4096  # largest CONNECT packet, in bytes with its fixed header; ours have about 100
MAX_LENGTH_BYTES = 4  # most bytes of a remaining length

_CONNECT = 0x10
_LEVEL_3_1_1 = 4
_NAMES = (b"MQTT", b"MQIsdp")
"""Protocol names of MQTT 3.1.1 and 5, and of 3.1, whose clients understand return code 1 as well."""

_RESERVED, _CLEAN_SESSION, _WILL, _WILL_MORE, _PASSWORD, _USERNAME = 0x01, 0x02, 0x04, 0x38, 0x40, 0x80


class ConnectRefusal(StrEnum):
    """Why a connection was refused; the label of the counter."""

    CROWDED = "crowded"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    OVERSIZE = "oversize"
    GARBAGE = "garbage"
    PROTOCOL = "protocol"
    WILL = "will"
    IDENTITY = "identity"
    USERNAME = "username"
    TOKEN = "token"  # noqa: S105 - the name of a reason
    TLS = "tls"
    CERTIFICATE = "certificate"
    EXPIRED = "expired"
    REVOKED = "revoked"


RETURN_CODES: Mapping[ConnectRefusal, int] = {
    ConnectRefusal.PROTOCOL: 1,
    ConnectRefusal.IDENTITY: 2,
    ConnectRefusal.USERNAME: 4,
    ConnectRefusal.TOKEN: 4,
    ConnectRefusal.WILL: 5,
    ConnectRefusal.CERTIFICATE: 5,
    ConnectRefusal.EXPIRED: 5,
    ConnectRefusal.REVOKED: 5,
}
"""CONNACK return codes; the other refusals get no answer."""


class AdmissionError(CommonwattError):
    """A connection is refused, for ``reason``."""

    def __init__(self, reason: ConnectRefusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Connect:
    """The fields of a CONNECT."""

    client_id: str  # the identity it claims
    username: str | None  # ``None`` when the packet has none
    password: bytes | None  # ``None`` when the packet has none
    keepalive_s: int  # the client's keepalive, in seconds; 0: none


def parse_connect(packet: bytes) -> Connect:
    """Parse a whole CONNECT packet."""
    try:
        return _parse(packet)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise AdmissionError(ConnectRefusal.GARBAGE, f"malformed CONNECT: {error}") from error


def _parse(packet: bytes) -> Connect:
    if len(packet) > MAX_CONNECT_BYTES:
        raise AdmissionError(ConnectRefusal.OVERSIZE, f"CONNECT of {len(packet)} bytes")
    length, offset = remaining_length(packet)
    if packet[0] != _CONNECT or offset + length != len(packet):
        raise AdmissionError(ConnectRefusal.GARBAGE, "not one CONNECT packet")
    name, offset = _field(packet, offset)
    level, flags, keepalive_s = struct.unpack_from("!BBH", packet, offset)
    if name not in _NAMES:
        raise AdmissionError(ConnectRefusal.GARBAGE, f"protocol name {name[:16]!r}")
    if name != _NAMES[0] or level != _LEVEL_3_1_1:
        raise AdmissionError(
            ConnectRefusal.PROTOCOL, f"{name.decode()} level {level}; only MQTT 3.1.1 (level 4) is supported"
        )
    if flags & _RESERVED or (flags & _WILL_MORE and not flags & _WILL):
        raise AdmissionError(ConnectRefusal.GARBAGE, f"connect flags {flags:#04x}")
    if flags & _PASSWORD and not flags & _USERNAME:
        raise AdmissionError(ConnectRefusal.GARBAGE, "a password without a user name, which MQTT 3.1.1 forbids")
    client_id, offset = _field(packet, offset + 4)
    if flags & _WILL:
        raise AdmissionError(ConnectRefusal.WILL, "wills are not used here; heartbeats show which device is alive")
    username = password = None
    if flags & _USERNAME:
        username, offset = _field(packet, offset)
    if flags & _PASSWORD:
        password, offset = _field(packet, offset)
    if offset != len(packet):
        raise AdmissionError(ConnectRefusal.GARBAGE, f"{len(packet) - offset} bytes too many")
    return Connect(
        client_id=_text(client_id),
        username=None if username is None else _text(username),
        password=password,
        keepalive_s=keepalive_s,
    )


def remaining_length(packet: bytes) -> tuple[int, int]:
    """Return the remaining length of a packet, and the offset where the bytes it counts begin."""
    length = 0
    for index in range(MAX_LENGTH_BYTES):
        byte = packet[1 + index]
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return length, 2 + index
    raise AdmissionError(ConnectRefusal.GARBAGE, "malformed remaining length")


def _field(packet: bytes, offset: int) -> tuple[bytes, int]:
    """Return the length-prefixed field at ``offset``, and the offset of the next field."""
    (length,) = struct.unpack_from("!H", packet, offset)
    end = offset + 2 + length
    if end > len(packet):
        raise AdmissionError(ConnectRefusal.GARBAGE, "a field longer than its packet")
    return packet[offset + 2 : end], end


def _text(field: bytes) -> str:
    text = field.decode()
    if "\0" in text:
        raise AdmissionError(ConnectRefusal.GARBAGE, "U+0000 in a string")
    return text


def judge(connect: Connect, devices: Mapping[str, Device], proved: str | None = None) -> Device:
    """Return the device that ``connect`` authenticates.

    Args:
        proved: The identity its certificate proves; then no token is needed, but a token that is sent must be right.

    Raises:
        AdmissionError: It authenticates none.
    """
    if proved not in (None, connect.client_id):
        raise AdmissionError(ConnectRefusal.CERTIFICATE, f"its certificate is of {proved!r}")
    device = devices.get(connect.client_id)
    if device is None:
        raise AdmissionError(ConnectRefusal.IDENTITY, "client id is no registered identity")
    # The user name must repeat the client id or be empty: two names would be two identities.
    if connect.username and connect.username != connect.client_id:
        raise AdmissionError(ConnectRefusal.USERNAME, "user name differs from the client id")
    by_certificate = connect.password is None and proved is not None
    if not by_certificate and (connect.password is None or not device.owns(connect.password)):
        raise AdmissionError(ConnectRefusal.TOKEN, "wrong token" if connect.password else "no token")
    # Checked last: an unauthenticated client does not learn which devices were revoked.
    if device.revoked:
        raise AdmissionError(ConnectRefusal.REVOKED, f"it was revoked: {device.revoked}")
    return device


def connect_for_broker(identity: str) -> bytes:
    """Return the CONNECT that amqtt gets for an authenticated identity.

    The clean-session flag is set, since amqtt's stored sessions lose messages silently; no keepalive, since amqtt
    does not enforce it and its timer can cut a packet in two (``streams`` enforces the client's); no will; and no
    token, which amqtt has no use for.
    """
    client_id = identity.encode()
    body = struct.pack("!H4sBBHH", 4, _NAMES[0], _LEVEL_3_1_1, _CLEAN_SESSION, 0, len(client_id)) + client_id
    length = bytearray()
    rest = len(body)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes([_CONNECT]) + bytes(length) + body


def connack(reason: ConnectRefusal) -> bytes | None:
    """Return the CONNACK of a refusal; ``None``: the client gets no answer."""
    code = RETURN_CODES.get(reason)
    return None if code is None else bytes([0x20, 2, 0, code])
