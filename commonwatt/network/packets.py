"""paho's client with a bound of a packet's bytes: a longer message is skipped while it comes, and is not stored."""

import logging
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

MAX_PACKET_BYTES = 1024 * 1024  # most bytes of a packet that is read; MAX_BATCH_BYTES and a topic are less

_HEAD_BYTES = 2 + 65_535 + 2  # most bytes of a message before its payload: its topic with its length, its number
_AT_ONCE = 65_536  # most bytes that are read from the socket at once: it takes as many, whether they come or not
_MOST_NAMED = 20
_PUBLISH = 0x30

log = logging.getLogger(__name__)


class Oversize:
    """Counts the messages of an owner's connections that were too long; logs their first topics."""

    def __init__(self, owner: str) -> None:
        self.count = 0  # messages skipped
        self._owner = owner
        self._named: set[str] = set()

    def skipped(self, topic: str, size: int) -> None:
        """Count a message of ``size`` bytes."""
        self.count += 1
        if topic not in self._named and len(self._named) < _MOST_NAMED:
            self._named.add(topic)
            log.warning(
                "%s: skipped a message of %d bytes on %r, of which at most %d are read; "
                "if it is retained, clear it at the broker",
                self._owner, size, topic[:200], MAX_PACKET_BYTES,
            )  # fmt: skip


class BoundedClient(paho.Client):
    """A client that takes no packet above ``MAX_PACKET_BYTES``.

    A longer message is acknowledged, so that the broker does not send it at each connection again.
    """

    def __init__(self, oversize: Oversize, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.oversize = oversize  # counts what is skipped

    def _sock_recv(self, bufsize: int) -> bytes:
        coming = self._in_packet
        if coming["have_remaining"] and coming["remaining_length"] > MAX_PACKET_BYTES and not coming["packet"]:
            coming["packet"] = _Head()
        return super()._sock_recv(min(bufsize, _AT_ONCE))

    def _packet_handle(self) -> MQTTErrorCode:
        head, first = self._in_packet["packet"], self._in_packet["command"]
        if not isinstance(head, _Head):
            return super()._packet_handle()
        if first & 0xF0 != _PUBLISH:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        end = 2 + int.from_bytes(head[:2])
        self.oversize.skipped(head[2:end].decode(errors="replace"), self._in_packet["remaining_length"])
        number, qos = int.from_bytes(head[end : end + 2]), first >> 1 & 3
        if qos == 1:
            return self._send_puback(number)
        return self._send_pubrec(number) if qos else MQTTErrorCode.MQTT_ERR_SUCCESS


class _Head(bytearray):
    """The first bytes of a packet, whatever is added."""

    def __iadd__(self, more: bytes) -> "_Head":  # type: ignore[override,misc] # paho adds only bytes
        self.extend(more[: max(0, _HEAD_BYTES - len(self))])
        return self
