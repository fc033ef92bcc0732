"""The listener: accepts connections no faster than they are served, within the limit of open files.

asyncio's own server accepts up to a hundred connections in one turn, and retries for ever when files run out.
"""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Awaitable, Callable

from broker.admission.connect import AdmissionError, Refusal
from broker.admission.guard import Guard
from broker.admission.log_throttle import ThrottledLog
from broker.admission.pending_connections import MAX_WAITING, PendingConnections
from broker.admission.tls import BrokerTls
from broker.metrics import BrokerMetrics
from commonwatt.network.lte import AcceptedSocket, Tally

# Bytes read ahead from one client (twice this, or what comes at once); a longer message is still read whole.
READ_BUFFER_BYTES = 1 << 14
BACKLOG = 1024  # connections that the system queues until they are accepted
RESERVED_FILES = 64  # open files reserved for other uses than connections: logs, the devices file, the status page
PAUSE_S = 0.5  # real seconds until accepting is retried after a failure, or after the limit of connections was reached

_log = logging.getLogger(__name__)

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
        tally: Tally | None = None,
    ) -> None:
        self._tls = tls
        self.tasks: set[asyncio.Task[None]] = set()  # the connections being served, whether admitted or not
        self.capacity = open_files() - RESERVED_FILES  # most connections open at once
        self._serve = serve
        self._guard = guard
        self._metrics = metrics
        self._tally = Tally() if tally is None else tally
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
            self._guard.refuse(busiest, None, AdmissionError(Refusal.CROWDED, "too many pending connections"))

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
