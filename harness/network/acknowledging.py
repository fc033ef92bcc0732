"""Brokers and gateways of many microgrids as one listener: it acknowledges each put, so that meters keep no backlog."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from commonwatt.model.time.now import Trust
from commonwatt.protocol import topics
from commonwatt.protocol.meter_messages import PutAck, unpack_put
from harness.network.mqtt_raw import CONNACK, PINGRESP, PUBLISH, SUBACK, packet, puback_packet, publish_packet

_CONNECT, _SUBSCRIBE, _PINGREQ = 0x10, 0x80, 0xC0


class _Connection(asyncio.Protocol):
    """A meter's connection; of the packets of MQTT, those that a meter sends."""

    def __init__(self, counts: Counter[str], connections: "set[_Connection]") -> None:
        self._counts = counts
        self._connections = connections
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (found := self._packet()) is not None:
            self._answer(*found)

    def _packet(self) -> tuple[int, bytes] | None:
        length, shift = 0, 0
        for at in range(1, min(5, len(self._buffer))):
            length |= (self._buffer[at] & 0x7F) << shift
            shift += 7
            if self._buffer[at] < 0x80:
                end = at + 1 + length
                if len(self._buffer) < end:
                    return None
                first, body = self._buffer[0], bytes(self._buffer[at + 1 : end])
                del self._buffer[:end]
                return first, body
        return None

    def _answer(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == _CONNECT:
            self._counts["connected"] += 1
            self._transport.write(packet(CONNACK, b"\0\0"))
        elif kind == _SUBSCRIBE:
            self._transport.write(packet(SUBACK, body[:2] + b"\1"))
        elif kind == _PINGREQ:
            self._transport.write(packet(PINGRESP, b""))
        elif kind == PUBLISH:
            self._published(first, body)

    def _published(self, first: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        name, payload = body[2:end].decode(), body[end:]
        if first & 0x06:
            self._transport.write(puback_packet(int.from_bytes(payload[:2], "big")))
            payload = payload[2:]
        topic = topics.parse_meter_up(name)
        if topic is None or topic.leaf not in (topics.RECORDS, topics.EVENTS):
            return
        put = unpack_put(payload)
        self._counts["puts"] += 1
        ack = PutAck(
            log=put.log,
            generation=put.generation,
            first_id=put.first_id,
            last_id=put.last_id,
            time=0,
            trust=Trust.NONE,
            accepted=tuple(put.counts().items()),
        )
        self._transport.write(
            publish_packet(topics.meter_down(topic.microgrid, topic.meter, topics.ACKS), ack.pack(), 1)
        )


class Acknowledging:
    """The listener, on a thread of its own."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self.counts: Counter[str] = Counter()  # ``connected`` meters and ``puts``
        self._addresses = addresses
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connections: set[_Connection] = set()
        servers = [
            await self._loop.create_server(lambda: _Connection(self.counts, connections), host, port)
            for host, port in self._addresses
        ]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0)  # The loop closes what was aborted.

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
