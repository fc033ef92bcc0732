"""Admits connections: known devices, the listener, the guard of each CONNECT, and a throttled log.

asyncio's own server accepts up to a hundred connections in one turn, and retries for ever when files run out.

The guard: reads each connection's CONNECT within limits, and admits only authenticated identities to amqtt.
Parsing and checking are pure and in ``connect``; here are the stream, the timeout, the counter and the log.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from broker.connect import (
    MAX_CONNECT_BYTES,
    MAX_LENGTH_BYTES,
    AdmissionError,
    ConnectRefusal,
    connack,
    connect_for_broker,
    judge,
    parse_connect,
    remaining_length,
)
from broker.metrics import BrokerMetrics
from broker.tls import BrokerTls
from commonwatt.identity.devices import Device, load_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.lte import AcceptedSocket, ByteTally

Key = TypeVar("Key", bound=Hashable)

MAX_WAITING = 512  # most connections open and not yet admitted


class PendingConnections(Generic[Key]):
    """Pending connections by source address.

    Above the limit, the oldest connection of the address with the most connections is refused: a client that opens
    connections and sends nothing displaces its own, while a correct client needs milliseconds to authenticate.
    """

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._source: dict[Key, str] = {}
        self._by_source: dict[str, dict[Key, None]] = {}

    def __len__(self) -> int:
        """Return how many connections are pending."""
        return len(self._source)

    def enter(self, key: Key, source: str) -> tuple[Key, str] | None:
        """Add a connection; return the one to refuse for it, already removed, and its address; ``None``: none."""
        self._source[key] = source
        self._by_source.setdefault(source, {})[key] = None
        if len(self._source) <= self._limit:
            return None
        busiest = max(self._by_source, key=lambda each: len(self._by_source[each]))
        oldest = next(iter(self._by_source[busiest]))
        self.leave(oldest)
        return oldest, busiest

    def leave(self, key: Key) -> None:
        """Remove a connection that was admitted, refused or has ended; ignore it if it is not pending."""
        source = self._source.pop(key, None)
        if source is not None:
            del self._by_source[source][key]
            if not self._by_source[source]:
                del self._by_source[source]


LOG_EVERY_S = 60.0  # real seconds between two lines about the same identity and reason
# Most pairs of identity and reason counted separately; further identities share one line for each reason.
MAX_TOLD_APART = 1_000
MAX_SHOWN = 64  # characters of a claimed identity that are kept and shown

_OTHERS = "\0"  # No identity has a NUL.


@dataclass
class _Told:
    at: float
    more: int = 0


class ThrottledLog:
    """Logs lines about clients, by identity and reason.

    A client that connects in a loop can't fill the disk, and one that invents identities can't fill the memory. The
    last "and N more" is not logged once the attempts end; the metrics count them all.
    """

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float] = time.monotonic, level: int = logging.WARNING
    ) -> None:
        self._logger = logger
        self._level = level
        self._now = now
        # Ordered by the time of the last line.
        self._told: dict[tuple[str | None, str], _Told] = {}

    def __len__(self) -> int:
        """Return how many pairs are counted separately now."""
        return len(self._told)

    def tell(self, who: str | None, reason: str, line: str) -> None:
        """Log ``line``, or only count it if there was a line on ``who`` and ``reason`` within the last minute."""
        now = self._now()
        key = (None if who is None else who[:MAX_SHOWN], reason)
        if key not in self._told and len(self._told) >= MAX_TOLD_APART:
            self._forget(now)
            if len(self._told) >= MAX_TOLD_APART:
                key = (_OTHERS, reason)
        told = self._told.get(key)
        if told is not None and now - told.at < LOG_EVERY_S:
            told.more += 1
            return
        more = f" ... and {told.more} more" if told is not None and told.more else ""
        self._logger.log(self._level, "%s%s", line, more)
        self._told.pop(key, None)
        self._told[key] = _Told(now)

    def _forget(self, now: float) -> None:
        """Drop the pairs whose last line is over a minute old."""
        for (who, reason), told in list(self._told.items()):
            if now - told.at < LOG_EVERY_S:
                return
            del self._told[who, reason]
            if told.more:
                whose = "" if who in (None, _OTHERS) else f" by {who!r}"
                self._logger.log(self._level, "%s%s ... and %d more", reason, whose, told.more)


_log = logging.getLogger(__name__)


class AdmittedDevices:
    """The devices of ``path``, as of the last time it could be read."""

    def __init__(self, path: Path, metrics: BrokerMetrics) -> None:
        self.path = path  # the devices file
        self.metrics = metrics  # where failures to read it are counted
        self.known: Mapping[str, Device] = {}  # the devices by identity, replaced whole when the file is read
        self._stamp: tuple[int, int, int] | None = None
        self._complaint = ""
        self._unreadable: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            ConfigError: It can't be used.
        """
        self._read(self._stamp_now())

    def refreshed(self, *, anew: bool = False) -> Mapping[str, Device]:
        """Return the devices, read again if the file changed; an unreadable file leaves the old ones.

        Args:
            anew: Also retry an unchanged file that could not be read before: it may be readable now. Not for a CONNECT,
                as a client could then cause a read at each connection.
        """
        stamp = None
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp and (anew or stamp != self._unreadable):
                self._read(stamp)
                _log.info("devices file changed: %d devices", len(self.known))
        except (ConfigError, OSError) as error:
            self._unreadable = stamp
            self.metrics.devices_file_errors.inc()
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("keeping the %d devices known before: %s", len(self.known), error)
        return self.known

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}; make one with: commonwatt utility register") from error
        # The inode too: the file is replaced whole, perhaps twice within one tick of its clock and at one size.
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self, stamp: tuple[int, int, int]) -> None:
        # Stamped before reading: what changes meanwhile is read the next time.
        self.known = load_devices(self.path)
        self._stamp = stamp
        self._complaint = ""
        self.metrics.devices.set(len(self.known))


CONNECT_TIMEOUT_S = 5.0  # real seconds from accepting a connection until its CONNECT must be complete

_CONNECT = b"\x10"


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A connection whose identity is authenticated."""

    device: Device  # the admitted device
    packet: bytes  # the CONNECT that amqtt gets in place of the client's
    keepalive_s: int  # the client's keepalive, in seconds; 0: none


class Guard:
    """Admits or refuses connections."""

    def __init__(
        self,
        devices: Callable[[], Mapping[str, Device]],
        metrics: BrokerMetrics,
        timeout_s: float = CONNECT_TIMEOUT_S,
        proved: Callable[[asyncio.StreamWriter], str | None] = lambda _: None,
    ) -> None:
        # Returns the identity that the certificate of a connection proves; ``None``: none is required.
        self.proved = proved
        self.devices = devices  # returns the devices that may connect, by identity; called once for each CONNECT
        self.metrics = metrics  # where refusals are counted
        self.timeout_s = timeout_s  # real seconds a client has for its TLS handshake and its CONNECT
        self._throttled = ThrottledLog(_log)

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: float) -> Admission | None:
        """Read and check one CONNECT; ``None``: it is refused, with a CONNACK if any. The caller closes the connection.

        Args:
            ends: The loop's time by which the CONNECT must be complete.
        """
        identity = None
        try:
            connect = parse_connect(await read_connect(reader, ends))
            identity = connect.client_id
            device = judge(connect, self.devices(), self.proved(writer))
        except AdmissionError as refused:
            self.refuse(writer.get_extra_info("peername"), identity, refused)
            # Four bytes always fit the empty write buffer: nothing to wait for.
            if (answer := connack(refused.reason)) is not None and not writer.is_closing():
                writer.write(answer)
            return None
        packet = connect_for_broker(device.identity)
        return Admission(device=device, packet=packet, keepalive_s=connect.keepalive_s)

    def refuse(self, peer: object, identity: str | None, refused: AdmissionError) -> None:
        """Count and log one refusal."""
        self.metrics.refused_connects.labels(refused.reason.value).inc()
        claimed = "" if identity is None else f" claiming {identity[:MAX_SHOWN]!r}"
        line = f"refused connection from {peer}{claimed}: {refused.reason.value} ({refused})"
        self._throttled.tell(identity, f"refused connections: {refused.reason.value}", line)


async def read_connect(reader: asyncio.StreamReader, ends: float) -> bytes:
    """Read one CONNECT packet's bytes, and not one more."""
    try:
        async with asyncio.timeout_at(ends):
            return await _read_packet(reader)
    except TimeoutError as error:
        raise AdmissionError(ConnectRefusal.TIMEOUT, "no whole CONNECT in time") from error
    except (asyncio.IncompleteReadError, OSError) as error:
        raise AdmissionError(ConnectRefusal.CLOSED, "connection closed before a whole CONNECT") from error


async def _read_packet(reader: asyncio.StreamReader) -> bytes:
    packet = await reader.readexactly(1)
    if packet != _CONNECT:
        raise AdmissionError(ConnectRefusal.GARBAGE, f"first byte {packet[0]:#04x} is no CONNECT's")
    for _ in range(MAX_LENGTH_BYTES):
        packet += await reader.readexactly(1)
        if packet[-1] < 0x80:
            break
    length, offset = remaining_length(packet)
    # The announced length is checked: an oversize body is never read.
    if offset + length > MAX_CONNECT_BYTES:
        raise AdmissionError(ConnectRefusal.OVERSIZE, f"CONNECT of {offset + length} bytes announced")
    return packet + await reader.readexactly(length)


# Bytes read ahead from one client (twice this, or what comes at once); a longer message is still read whole.
READ_BUFFER_BYTES = 1 << 14
BACKLOG = 1024  # connections that the system queues until they are accepted
RESERVED_FILES = 64  # open files reserved for other uses than connections: logs, the devices file, the status page
PAUSE_S = 0.5  # real seconds until accepting is retried after a failure, or after the limit of connections was reached


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, float], Awaitable[None]]


class Listener:
    """Listening sockets, and a task for each connection.

    Args:
        serve: Serves one connection to its end; gets the loop time by which CONNECT must be complete.
        tls: Performs each handshake; ``None``: connections without TLS.
        tally: Counts each connection's bytes on the line, from the first byte, admitted or not.
    """

    def __init__(
        self,
        serve: Serve,
        guard: Guard,
        metrics: BrokerMetrics,
        tls: BrokerTls | None = None,
        tally: ByteTally | None = None,
    ) -> None:
        self._tls = tls
        self.tasks: set[asyncio.Task[None]] = set()  # the connections being served, whether admitted or not
        self.capacity = open_files() - RESERVED_FILES  # most connections open at once
        self._serve = serve
        self._guard = guard
        self._metrics = metrics
        self._tally = ByteTally() if tally is None else tally
        self._pending_connections: PendingConnections[asyncio.Task[None]] = PendingConnections(
            min(MAX_WAITING, max(1, self.capacity // 2))
        )
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._paused = False
        self._throttled = ThrottledLog(_log)

    async def open(self, host: str, port: int) -> int:
        """Listen on every address ``host`` has; return the port.

        Raises:
            OSError: An address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        for family, *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                listening = socket.create_server(address, family=family, backlog=BACKLOG)
            except OSError:
                await self.close()
                raise
            listening.setblocking(False)
            self._sockets.append(listening)
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        for task in self._accepting:
            task.add_done_callback(_ended)
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop accepting connections."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._accepting, self._sockets = [], []

    def accepting(self) -> object:
        """Return ``None`` while every loop that accepts connections runs, otherwise the reason, for a watchdog."""
        return "one has ended" if any(task.done() for task in self._accepting) else None

    def waits_no_more(self, task: asyncio.Task[None] | None) -> None:
        """Remove a connection from the pending ones; it was admitted, refused or has ended."""
        if task is not None:
            self._pending_connections.leave(task)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if len(self.tasks) >= self.capacity:
                await self._pause(f"{len(self.tasks)} connections are open, which is the limit")
                continue
            try:
                accepted, _ = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # The client disconnected before it was accepted.
            except OSError as error:
                await self._pause(str(error.strerror))
                continue
            self._paused = False
            self._enter(AcceptedSocket.take(accepted, self._tally))
            await asyncio.sleep(0)  # One connection is one turn.

    async def _pause(self, why: str) -> None:
        if not self._paused:
            self._metrics.accept_pauses.inc()
            line = f"accepting no connections for now: {why}; allow more open files (LimitNOFILE, ulimit -n)"
            self._throttled.tell(None, "accepting no connections", line)
        self._paused = True
        await asyncio.sleep(PAUSE_S)

    def _enter(self, accepted: socket.socket) -> None:
        """Start to serve a connection; if too many are pending, refuse one of them."""
        source = _source(accepted)
        task = asyncio.get_running_loop().create_task(self._serve_socket(accepted, source))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if (turned_away := self._pending_connections.enter(task, source)) is not None:
            oldest, busiest = turned_away
            oldest.cancel()
            self._guard.refuse(busiest, None, AdmissionError(ConnectRefusal.CROWDED, "too many pending connections"))

    async def _serve_socket(self, accepted: socket.socket, source: str) -> None:
        # One deadline for both: a slow handshake leaves less time for CONNECT.
        ends = asyncio.get_running_loop().time() + self._guard.timeout_s
        try:
            reader, writer = await self._streams(accepted)
        except AdmissionError as refused:
            accepted.close()
            self._guard.refuse(source, None, refused)
        except OSError as error:
            accepted.close()
            _log.debug("%s left at once: %s", source, error)
        else:
            await self._serve(reader, writer, ends)
        finally:
            self.waits_no_more(asyncio.current_task())

    async def _streams(self, accepted: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BUFFER_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        if self._tls is None:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
        else:
            transport = await self._tls.shake_hands(protocol, accepted, self._guard.timeout_s)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _ended(task: asyncio.Task[None]) -> None:
    """Log why a loop that accepts connections ended; the watchdog detects the end."""
    if not task.cancelled():
        _log.critical("no more connections are accepted", exc_info=task.exception())


def _source(accepted: socket.socket) -> str:
    """Return the address a connection comes from, without its port."""
    with contextlib.suppress(OSError):
        return str(accepted.getpeername()[0])
    return "unknown"


def open_files() -> int:
    """Return the limit of open files of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
