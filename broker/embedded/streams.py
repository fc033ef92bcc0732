"""What amqtt reads from and writes to: a client's streams with limits, whose failures amqtt can't mistake.

amqtt takes a ``TimeoutError`` from a stream (a connection the kernel gave up) for its keepalive timer and reads again
at once, for ever, which stops the whole broker. So every failure leaves here as ``ConnectionResetError``.
"""

import asyncio
import ssl
from collections.abc import Callable

from amqtt.adapters import ReaderAdapter, WriterAdapter  # type: ignore[import-untyped]

from broker.embedded.packets import Cut, ViolationError, header_is_whole, judge_body, judge_header

WRITE_TIMEOUT_S = 10.0
"""Real seconds a client may leave us with a full send buffer before it is cut: messages for it pile up meanwhile."""

CHUNK_BYTES = 1 << 16
"""Bytes of a long message waited for at once; each wait has the client's own limit of silence."""


class ClientWriter(WriterAdapter):  # type: ignore[misc]
    """Writes to one client.

    Attributes:
        closed: Nothing more will be written.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        on_cut: Callable[[Cut, str], None],
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        """Store the arguments.

        Args:
            writer: The client's stream.
            on_cut: Told why, when the client is cut for what it does or leaves undone.
            timeout_s: Real seconds a full buffer may stay full.
        """
        self.closed = False
        self._writer = writer
        self._on_cut = on_cut
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
            raise self.cut(Cut.UNREAD, "it does not read what it is sent") from error
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

    def cut(self, reason: Cut, text: str) -> ConnectionResetError:
        """Cut the connection for ``reason``, once; return the error that says so."""
        if not self.closed:
            self._on_cut(reason, text)
            self.abort()
        return ConnectionResetError(text)


class ClientReader(ReaderAdapter):  # type: ignore[misc]
    """Reads from one client: first the CONNECT made by the guard, then whole packets of the client, each judged."""

    def __init__(
        self,
        packet: bytes,
        reader: asyncio.StreamReader,
        writer: ClientWriter,
        silence_s: float | None,
        hold_back_s: Callable[[int], float],
    ) -> None:
        """Store the arguments.

        Args:
            packet: The CONNECT, served before anything else.
            reader: The client's stream.
            writer: The way back, cut when a limit is broken.
            silence_s: Real seconds of silence after which the client is treated as gone; ``None``: never.
            hold_back_s: Told each packet's size in bytes; returns the real seconds to wait before it counts as read.
        """
        self._packet = packet
        self._at = 0
        self._reader = reader
        self._writer = writer
        self._silence_s = silence_s
        self._hold_back_s = hold_back_s

    async def read(self, n: int = -1) -> bytes:
        """Read ``n`` bytes of a packet; packets come whole, so amqtt never waits in the middle of one.

        Raises:
            ConnectionResetError: The connection ended, failed, fell silent, or was cut for what it sent.
        """
        if self._at >= len(self._packet):
            self._packet, self._at = await self._next_packet(), 0
        end = len(self._packet) if n < 0 else self._at + n
        data, self._at = self._packet[self._at : end], end
        return data

    def feed_eof(self) -> None:
        """Take the stream for ended."""
        self._reader.feed_eof()

    async def _next_packet(self) -> bytes:
        # amqtt never waits while bytes are at hand, so one client in a flood would stop all others. One packet is one
        # turn; in the turn between, amqtt acts on the packet before, also when it was the last.
        await asyncio.sleep(0)
        # A client that does not read its answers is not read: amqtt would answer without bound.
        await self._writer.drain()
        try:
            packet = await self._read_packet()
        except ViolationError as violation:
            raise self._writer.cut(violation.reason, str(violation)) from violation
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionResetError("the connection ended") from error
        if (seconds := self._hold_back_s(len(packet))) > 0:
            await asyncio.sleep(seconds)
        return packet

    async def _read_packet(self) -> bytes:
        header = b""
        while not header_is_whole(header):
            header += await self._bytes(1)
        left = judge_header(header)
        body = b""
        while left > len(body):
            body += await self._bytes(min(left - len(body), CHUNK_BYTES))
        judge_body(header, body)
        return header + body

    async def _bytes(self, n: int) -> bytes:
        limit = asyncio.timeout(self._silence_s)
        try:
            async with limit:
                return await self._reader.readexactly(n)
        except TimeoutError as error:
            if limit.expired():  # And not the kernel, which gave up.
                raise ViolationError(Cut.SILENT, f"it said nothing for {self._silence_s:g} s") from error
            raise
