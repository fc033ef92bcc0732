"""What amqtt reads from and writes to: a client's streams with limits, whose failures amqtt can't mistake.

amqtt takes a ``TimeoutError`` from a stream (a connection the kernel gave up) for its keepalive timer and reads again
at once, for ever, which stops the whole broker. So every failure leaves here as ``ConnectionResetError``.
"""

import asyncio
import logging
import ssl

from amqtt.adapters import ReaderAdapter, WriterAdapter  # type: ignore[import-untyped]

MAX_MESSAGE_BYTES = 1 << 20
"""Largest payload amqtt may ask for, in bytes; MQTT itself allows 256 MiB."""

WRITE_TIMEOUT_S = 10.0
"""Real seconds a client may leave us with a full send buffer before it is cut: messages for it pile up meanwhile."""

READS_IN_A_ROW = 32
"""Reads (a packet takes four or so) after which a client lets the others have their turn."""

_log = logging.getLogger(__name__)


class ClientWriter(WriterAdapter):  # type: ignore[misc]
    """Writes to one client.

    Attributes:
        closed: Nothing more will be written.
    """

    def __init__(self, writer: asyncio.StreamWriter, timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self.closed = False
        self._writer = writer
        self._timeout_s = timeout_s

    def write(self, data: bytes) -> None:
        """Buffer ``data``."""
        if not self.closed and not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        """Wait while the buffer is full, within the limit.

        Raises:
            ConnectionResetError: The connection is gone, or was cut since the client reads too slowly.
        """
        if self.closed:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._writer.drain()
        except TimeoutError as error:
            _log.warning("cutting %s: it does not read what it is sent", self.get_peer_info())
            self.abort()
            raise ConnectionResetError("the client reads too slowly") from error
        except OSError as error:
            raise ConnectionResetError(str(error)) from error

    def get_peer_info(self) -> tuple[str, int]:
        """Return the client's address and port."""
        peer = self._writer.get_extra_info("peername") or ("unknown", 0)
        return str(peer[0]), int(peer[1])

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return ``None``: clients prove themselves to the guard, not to amqtt."""
        return None

    async def close(self) -> None:
        """Close after what is buffered; does not wait, so that amqtt's clean-up can't be held up by a client."""
        self.closed = True
        self._writer.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self.closed = True
        self._writer.transport.abort()


class ClientReader(ReaderAdapter):  # type: ignore[misc]
    """Reads from one client: first the CONNECT made by the guard, then what the client sends."""

    def __init__(
        self, packet: bytes, reader: asyncio.StreamReader, writer: ClientWriter, silence_s: float | None
    ) -> None:
        """Store the arguments.

        Args:
            packet: The CONNECT, served before anything else.
            reader: The client's stream.
            writer: The way back, cut when a limit is broken.
            silence_s: Real seconds of silence after which the client is taken for gone; ``None``: never.
        """
        self._pending = packet
        self._reader = reader
        self._writer = writer
        self._silence_s = silence_s
        self._reads = 0

    async def read(self, n: int = -1) -> bytes:
        """Read exactly ``n`` bytes.

        Raises:
            ConnectionResetError: The connection ended, failed, fell silent, or asks for too much.
        """
        if self._pending:
            data, self._pending = self._pending[:n], self._pending[n:]
            return data
        if not 0 <= n <= MAX_MESSAGE_BYTES:
            raise self._cut(f"a message of {n} bytes")
        self._reads += 1
        if self._reads % READS_IN_A_ROW == 0:
            # amqtt never waits while bytes are at hand, so one client in a flood would stop all others; and it answers
            # without bound a client that does not read its answers.
            await self._writer.drain()
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._reader.readexactly(n)
        except TimeoutError as error:
            raise self._cut("silence beyond its keepalive") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            # What came before the end is still in tasks that amqtt is about to cancel; let them run first.
            await asyncio.sleep(0)
            raise ConnectionResetError("the connection ended") from error

    def feed_eof(self) -> None:
        """Take the stream for ended."""
        self._reader.feed_eof()

    def _cut(self, reason: str) -> ConnectionResetError:
        _log.warning("cutting %s: %s", self._writer.get_peer_info(), reason)
        self._writer.abort()
        return ConnectionResetError(reason)
