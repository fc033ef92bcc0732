"""MQTT for tests: raw packets, clients that may send invalid ones, hundreds in a process, links to brokers."""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Self

from commonwatt.network.mqtt import MqttLink
from commonwatt.protocol.topics import LTE

WAIT_S = 20.0
CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xB0, 0xD0
PINGREQ_PACKET = b"\xc0\x00"
DISCONNECT_PACKET = b"\xe0\x00"


def text(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while rest >= 0x80:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([first]) + length + bytes([rest]) + body


def connect_packet(identity: str, token: str, keepalive_s: int = 0) -> bytes:
    head = text("MQTT") + struct.pack("!BBH", 4, 0xC2, keepalive_s)
    return packet(0x10, head + text(identity) + text(identity) + text(token))


def publish_packet(topic: str | bytes, payload: bytes, packet_id: int | None = None) -> bytes:
    """Return a PUBLISH packet: QoS 1 with a packet id, QoS 0 without."""
    if packet_id is None:
        return packet(PUBLISH, text(topic) + payload)
    return packet(PUBLISH | 2, text(topic) + struct.pack("!H", packet_id) + payload)


def subscribe_packet(topic_filter: str | bytes, qos: int = 1, packet_id: int = 1) -> bytes:
    return packet(0x82, struct.pack("!H", packet_id) + text(topic_filter) + bytes([qos]))


def puback_packet(packet_id: int) -> bytes:
    return packet(PUBACK, struct.pack("!H", packet_id))


class RawClient:
    """A connected client. It acknowledges the messages that it receives."""

    def __init__(self, port: int, identity: str, token: str, keepalive_s: int = 0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.sock.makefile("rb")
        self.send(connect_packet(identity, token, keepalive_s))
        self._messages: deque[bytes] = deque()
        assert self.receive() == (CONNACK, b"\0\0")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> tuple[int, bytes] | None:
        """Return the next packet: its first byte without the flags and its body; ``None`` at the end."""
        try:
            first = self._stream.read(1)
            if not first:
                return None
            length, shift = 0, 0
            while True:
                (byte,) = self._stream.read(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = self._stream.read(length)
        except ConnectionResetError:
            return None
        if first[0] & 0xF0 == PUBLISH and first[0] & 0x06:
            at = 2 + int.from_bytes(body[:2], "big")
            self.send(puback_packet(int.from_bytes(body[at : at + 2], "big")))
            body = body[:at] + body[at + 2 :]
        return first[0] & 0xF0, body

    def received(self) -> Iterator[tuple[int, bytes]]:
        """Yield packets until the connection ends."""
        while (each := self.receive()) is not None:
            yield each

    def message(self) -> tuple[str, bytes]:
        """Return the next message's topic and payload; skip other packets and the broker's LTE reports."""
        while True:
            body = self._messages.popleft() if self._messages else self._answer(PUBLISH)
            at = 2 + int.from_bytes(body[:2], "big")
            if not (topic := body[2:at].decode()).endswith(f"/{LTE}"):
                return topic, body[at:]

    def message_or_last(self) -> tuple[str, bytes] | None:
        """Return the next message; ``None`` if its payload is ``last``."""
        topic, payload = self.message()
        return None if payload == b"last" else (topic, payload)

    def subscribe(self, topic_filter: str | bytes, qos: int = 1) -> int:
        """Subscribe; return the granted QoS, or 0x80."""
        self.send(subscribe_packet(topic_filter, qos))
        return self._answer(SUBACK)[2]

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe, and wait for the UNSUBACK."""
        self.send(packet(0xA2, b"\0\1" + text(topic_filter)))
        self._answer(UNSUBACK)

    def publish(self, topic: str | bytes, payload: bytes, packet_id: int = 1) -> None:
        """Publish at QoS 1 and wait for the PUBACK."""
        self.send(publish_packet(topic, payload, packet_id))
        self._answer(PUBACK)

    def ping(self) -> None:
        """Ping the broker, and wait for its answer."""
        self.send(PINGREQ_PACKET)
        self._answer(PINGRESP)

    def _answer(self, wanted: int) -> bytes:
        """Return the body of the next packet of a kind; keep earlier messages for ``message``."""
        for kind, body in self.received():
            if kind == wanted:
                return body
            if kind == PUBLISH:
                self._messages.append(body)
        raise AssertionError("the connection ended")

    def wait_until_cut(self) -> None:
        """Read until the broker closes the connection; fail if it does not in time."""
        for _ in self.received():
            pass

    def close(self) -> None:
        self._stream.close()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PingPong:
    """A well-behaved meter and gateway that exchange messages of QoS 1 while the test does something else."""

    def __init__(self, meter: RawClient, gateway: RawClient, microgrid: str, identity: str) -> None:
        self.delays_s: list[float] = []  # round-trip time of each message and its answer, seconds
        self._meter, self._gateway = meter, gateway
        self._up, self._down = f"cw1/{microgrid}/{identity}/u/rec", f"cw1/{microgrid}/{identity}/d/ack"
        assert gateway.subscribe(f"cw1/{microgrid}/+/u/+") == 1
        assert meter.subscribe(f"cw1/{microgrid}/{identity}/d/+") == 1
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def once(self, number: int) -> None:
        """Send one message and its answer; both must arrive."""
        content = f"ping-pong {number}".encode()
        self._meter.send(publish_packet(self._up, content, 1))
        while self._gateway.message() != (self._up, content):
            pass  # Other clients' messages.
        self._gateway.send(publish_packet(self._down, content, 1))
        assert self._meter.message() == (self._down, content)

    def _run(self) -> None:
        number = 0
        try:
            while number == 0 or not self._stop.wait(0.02):
                started = time.monotonic()
                self.once(number)
                self.delays_s.append(time.monotonic() - started)
                number += 1
        except BaseException as failure:  # told to the test's own thread
            self._failure = failure

    @contextmanager
    def going_on(self) -> Iterator[Self]:
        """Exchange messages until the end of the block; fail if one did not arrive."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
            if self._failure is not None:
                raise self._failure


def read_to_the_end(connection: socket.socket) -> bytes:
    """Return all bytes from the server until it closes or resets the connection."""
    data = b""
    try:
        while more := connection.recv(65_536):
            data += more
    except ConnectionResetError:
        pass
    return data


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


def link_of(
    address: str | Sequence[str],
    identity: str = "r001",
    token: str = "",
    subscribe: str = "own/+",
    on_message: Callable[[str, bytes], None] = lambda *_: None,
    on_connect: Callable[[], None] = lambda: None,
    **further: Any,
) -> MqttLink:
    """Make a link whose waits are the same in each run."""
    return MqttLink(
        address=address,
        identity=identity,
        token=token,
        subscribe=subscribe,
        on_message=on_message,
        on_connect=on_connect,
        rng=random.Random(1),
        **further,
    )
