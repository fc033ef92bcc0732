"""A TCP proxy with the faults of real networks; for plain MQTT a judge decides the fate of each message.

It runs on its own thread. While one way is blocked, ends and resets don't pass that way either, as on a real line. A
message that is not simply passed on is still acknowledged to its sender, and its copies have QoS 0: the tests are of
our delivery, and MQTT's own would repair the fault, or block.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeVar


class Way(Enum):
    """A direction of transmission."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


class Fate(Enum):
    """The proxy's treatment of a message."""

    PASS = "passed"
    DROP = "dropped"
    TWICE = "passed twice"
    SWAP = "overtaken by the next message of its way and connection"
    HOLD = "held until release"


@dataclass(frozen=True)
class Message:
    """A PUBLISH packet."""

    way: Way  # which way it goes
    topic: str  # its topic
    payload: bytes  # its payload

    @property
    def leaf(self) -> str:
        """The last level of its topic."""
        return self.topic.rpartition("/")[2]


Judge = Callable[[Message], Fate]


def chance(seed: int, shares: Mapping[Fate, float], leaves: Collection[str] | None = None) -> Judge:
    """Return a judge that draws fates at random, by their shares; other draws, and topics of other leaves, pass."""
    rng = random.Random(seed)

    def judge(message: Message) -> Fate:
        if leaves is not None and message.leaf not in leaves:
            return Fate.PASS
        draw = rng.random()
        for fate, share in shares.items():
            if draw < share:
                return fate
            draw -= share
        return Fate.PASS

    return judge


_T = TypeVar("_T")

READ_BYTES = 65_536  # most bytes of one piece of a connection that is not plain MQTT
# Most packets, or pieces, queued in one way of one connection; beyond that the proxy stops reading.
MAX_ON_THE_WAY = 1000

_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 1, 2, 3, 4
_NO_LINGER = struct.pack("ii", 1, 0)


class _End(Enum):
    EOF = "no more comes"
    RESET = "the connection is gone"


@dataclass
class _Direction:
    """One way of one connection: a reader, a queue of data in transit, a writer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    queue: asyncio.Queue[tuple[float, bytes | _End]] = field(default_factory=lambda: asyncio.Queue(MAX_ON_THE_WAY))
    due: float = 0.0
    overtaken: list[bytes] = field(default_factory=list)


@dataclass
class _Link:
    """One connection; ``identity`` is the client id of its CONNECT."""

    ways: dict[Way, _Direction]
    identity: str = ""


class Proxy:
    """A proxy for a server. Change its attributes, or call its methods, from any thread, at any time.

    Args:
        server: Host and port of the server.
        judge: Decides the fates of messages on plain MQTT connections.

    Attributes:
        judge: As given.
        delay_s: Delay of all data, seconds.
        jitter_s: Largest additional delay, drawn for each packet; order is kept.
        bytes_per_s: Bandwidth of each way of each connection; ``None``: unlimited.
        judged: Number of messages by fate.
        passed: Bytes passed on, by way.
        connections: Number of accepted connections.
    """

    def __init__(self, server: tuple[str, int], judge: Judge | None = None, *, seed: int = 1) -> None:
        self.judge = judge
        self.delay_s = self.jitter_s = 0.0
        self.bytes_per_s: float | None = None
        self.judged: Counter[Fate] = Counter()
        self.passed: Counter[Way] = Counter()
        self.connections = 0
        self._server = server
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._links: list[_Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[tuple[str, Way, bytes]] = []
        self._light = {way: asyncio.Event() for way in Way}

    @property
    def address(self) -> str:
        """The address for clients: host:port."""
        return f"127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """Number of open connections."""
        return len(self._links)

    @property
    def held(self) -> int:
        """Number of held messages."""
        return len(self._held)

    def start(self) -> Self:
        """Accept connections from now on."""
        self._thread.start()
        self.heal()
        self.listen()
        return self

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Faults

    def refuse(self) -> None:
        """Close the port to new connections; existing ones stay open."""
        self._call(self._refuse())

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._call(self._listen())

    def cut(self) -> None:
        """Reset every connection, at both ends."""
        self._call(self._cut())

    def half_close(self, way: Way) -> None:
        """End this way of every connection; the other way stays open."""
        self._call(self._half_close(way))

    def darken(self, *ways: Way) -> None:
        """Block these ways (both without arguments); connections seem alive, and new ones are still accepted."""
        for way in ways or Way:
            self._call(self._set_light(way, on=False))

    def heal(self) -> None:
        """Unblock all ways; data sent meanwhile passes now, as TCP would retransmit it."""
        for way in Way:
            self._call(self._set_light(way, on=True))

    def release(self) -> int:
        """Deliver held messages, each on its client's present connection; return how many were delivered."""
        return self._call(self._release())

    # The loop's side

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
            self._port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._listener is not None:
            # asyncio leaks a connection that was accepted just before close(): it gets its transport first.
            for listening in self._listener.sockets:
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._listener.close()
            self._listener = None

    async def _cut(self) -> None:
        for link in self._links:
            for direction in link.ways.values():
                _reset(direction.writer)
        for task in self._tasks:
            task.cancel()

    async def _finish(self) -> None:
        # Again and again: a connection accepted just before may not have begun.
        while len(asyncio.all_tasks()) > 1:
            await self._cut()
            await asyncio.sleep(0)

    async def _half_close(self, way: Way) -> None:
        for link in self._links:
            link.ways[way].queue.put_nowait((0.0, _End.EOF))

    async def _set_light(self, way: Way, *, on: bool) -> None:
        self._light[way].set() if on else self._light[way].clear()

    async def _release(self) -> int:
        held, self._held = self._held, []
        released = 0
        for identity, way, packet in held:
            link = next((link for link in reversed(self._links) if link.identity == identity), None)
            if link is not None:
                self._put(link.ways[way], packet)
                released += 1
        return released

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
        except (OSError, asyncio.CancelledError):
            pass  # The client is reset below.
        else:
            ways = {Way.UP: _Direction(reader, server_writer), Way.DOWN: _Direction(server_reader, writer)}
            link = _Link(ways)
            self._links.append(link)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*(self._carry(link, way) for way in Way))
            self._links.remove(link)
            _reset(server_writer)
        finally:
            _reset(writer)
            self._tasks.discard(task)

    async def _carry(self, link: _Link, way: Way) -> None:
        reading = asyncio.create_task(self._read(link, way))
        try:
            await self._write(link.ways[way], way)
        finally:
            reading.cancel()

    async def _read(self, link: _Link, way: Way) -> None:
        """Read packets, or pieces if the connection is not plain MQTT, and queue them."""
        direction = link.ways[way]
        try:
            first = await direction.reader.readexactly(1)
            # The whole byte: TLS begins with 0x16, whose first half is a CONNECT's.
            plain = first[0] in (_CONNECT << 4, _CONNACK << 4)
            while True:
                if not plain:
                    await self._queue(direction, first + await direction.reader.read(READ_BYTES))
                else:
                    await self._judge(link, way, await _packet(direction.reader, first))
                first = await direction.reader.readexactly(1)
        except asyncio.IncompleteReadError:
            await direction.queue.put((self._when(direction), _End.EOF))
        except OSError:
            await direction.queue.put((self._when(direction), _End.RESET))

    async def _judge(self, link: _Link, way: Way, packet: bytes) -> None:
        direction = link.ways[way]
        kind = packet[0] >> 4
        if kind == _CONNECT:
            link.identity = _identity(packet)
        if kind != _PUBLISH or self.judge is None:
            await self._queue(direction, packet)
            return
        message, number = _message(way, packet)
        fate = self.judge(message)
        self.judged[fate] += 1
        overtaken, direction.overtaken = direction.overtaken, []
        if fate is Fate.PASS:
            await self._queue(direction, packet)
        else:
            if number is not None:
                other = link.ways[Way.DOWN if way is Way.UP else Way.UP]
                await self._queue(other, bytes([_PUBACK << 4, 2]) + number)
            copy = _at_qos_0(message)
            for _ in range(2 if fate is Fate.TWICE else 0):
                await self._queue(direction, copy)
            if fate is Fate.SWAP:
                direction.overtaken = [copy]
            if fate is Fate.HOLD:
                self._held.append((link.identity, way, copy))
        for late in overtaken:
            await self._queue(direction, late)

    async def _queue(self, direction: _Direction, data: bytes) -> None:
        await direction.queue.put((self._when(direction), data))

    def _put(self, direction: _Direction, data: bytes) -> None:
        direction.queue.put_nowait((self._when(direction), data))

    def _when(self, direction: _Direction) -> float:
        """Return the time to write data that is read now; never before earlier data."""
        late = self.delay_s + self._rng.uniform(0, self.jitter_s)
        direction.due = max(direction.due, time.monotonic() + late) if late else direction.due
        return direction.due

    async def _write(self, direction: _Direction, way: Way) -> None:
        writer = direction.writer
        while True:
            due, data = await direction.queue.get()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            await self._light[way].wait()
            if isinstance(data, _End):
                if data is _End.RESET:
                    _reset(writer)
                elif not writer.is_closing():
                    with contextlib.suppress(OSError):  # it was reset a moment ago
                        writer.write_eof()
                return
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            if writer.is_closing():
                continue  # The receiver is gone; the reader at that end passes this on to the other end.
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
                self.passed[way] += len(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Abort a connection so that its other end gets a reset, not an end."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _packet(reader: asyncio.StreamReader, first: bytes) -> bytes:
    """Read the rest of an MQTT packet."""
    head = first
    while True:
        head += await reader.readexactly(1)
        if head[-1] < 0x80 or len(head) == 5:
            break
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
    return head + await reader.readexactly(length)


def _body(packet: bytes) -> bytes:
    at = 1
    while packet[at] >= 0x80:
        at += 1
    return packet[at + 1 :]


def _identity(connect: bytes) -> str:
    body = _body(connect)
    at = 2 + int.from_bytes(body[:2], "big") + 4
    return body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2], "big")].decode()


def _message(way: Way, packet: bytes) -> tuple[Message, bytes | None]:
    """Return a PUBLISH packet's message, and its packet id if it needs a PUBACK."""
    body = _body(packet)
    at = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:at].decode()
    if packet[0] & 0x06:
        return Message(way, topic, body[at + 2 :]), body[at : at + 2]
    return Message(way, topic, body[at:]), None


def _at_qos_0(message: Message) -> bytes:
    topic = message.topic.encode()
    body = len(topic).to_bytes(2, "big") + topic + message.payload
    length = b""
    rest = len(body)
    while True:
        rest, low = rest >> 7, rest & 0x7F
        length += bytes([low | (0x80 if rest else 0)])
        if not rest:
            return bytes([_PUBLISH << 4]) + length + body
