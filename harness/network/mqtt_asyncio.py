"""A minimal MQTT 3.1.1 client for asyncio, for hundreds of clients in one process."""

import asyncio
from collections.abc import Callable
from itertools import cycle
from typing import Self

from harness.network.mqtt_raw import (
    CONNACK,
    PUBACK,
    PUBLISH,
    SUBACK,
    connect_packet,
    puback_packet,
    publish_packet,
    subscribe_packet,
)

OnMessage = Callable[[str, bytes], object]  # called with a message's topic and payload


class AsyncClient(asyncio.Protocol):
    """A connected and subscribed client. It acknowledges the messages it receives, and stores none."""

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self._buffer = bytearray()
        self._ids = cycle(range(1, 1 << 16))
        self._answers: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    @classmethod
    async def connect(
        cls, port: int, identity: str, token: str, subscribe: str, on_message: OnMessage, keepalive_s: int = 0
    ) -> Self:
        """Connect and subscribe; return the client when the subscription is granted. Messages may arrive before."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(on_message), "127.0.0.1", port)
        client._transport.write(connect_packet(identity, token, keepalive_s))
        assert await client._answers.get() == (CONNACK, b"\0\0"), identity
        client._transport.write(subscribe_packet(subscribe))
        assert await client._answers.get() == (SUBACK, b"\0\1\1"), subscribe
        return client

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Send a message, at QoS 1 or 0, without waiting for its PUBACK."""
        self._transport.write(publish_packet(topic, payload, next(self._ids) if qos else None))

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._answers.put_nowait((0, b"the connection ended"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while (end := _end_of_packet(self._buffer, at)) is not None:
            start, stop = end
            self._packet(self._buffer[at], bytes(self._buffer[start:stop]))
            at = stop
        del self._buffer[:at]

    def _packet(self, first: int, body: bytes) -> None:
        if first & 0xF0 == PUBLISH:
            at = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:at].decode()
            if first & 0x06:
                self._transport.write(puback_packet(int.from_bytes(body[at : at + 2], "big")))
                at += 2
            self._on_message(topic, body[at:])
        elif first & 0xF0 != PUBACK:
            self._answers.put_nowait((first & 0xF0, body))


def _end_of_packet(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """Return the start and end of the body of the packet at ``at``; ``None`` while the packet is incomplete."""
    length, place = 0, at + 1
    for shift in range(0, 28, 7):
        if place >= len(buffer):
            return None
        length |= (buffer[place] & 0x7F) << shift
        place += 1
        if not buffer[place - 1] & 0x80:
            return (place, place + length) if place + length <= len(buffer) else None
    raise ValueError("not MQTT")
