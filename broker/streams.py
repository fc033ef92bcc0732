"""A client's streams as amqtt uses them, with limits, and with all failures as ``ConnectionResetError``.

amqtt treats a ``TimeoutError`` of a stream (a connection that the kernel gave up) as its keepalive timer and reads
again at once, in an endless loop that stops the whole broker.
"""

import asyncio
import ssl
from collections.abc import Callable

from amqtt.adapters import ReaderAdapter, WriterAdapter  # type: ignore[import-untyped]

from broker.packets import Cut, ViolationError, header_is_whole, judge_body, judge_header

# Real seconds for which a client's send buffer may be full before it is cut; its messages queue up meanwhile.
WRITE_TIMEOUT_S = 10.0
CHUNK_BYTES = 1 << 16  # bytes of a long message read at a time; each read has the client's limit of silence


class ClientWriter(WriterAdapter):  # type: ignore[misc]
    """Writes to one client.

    Args:
        on_cut: Called with the reason and a text when the client is cut.
        timeout_s: Real seconds a full buffer may stay full.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        on_cut: Callable[[Cut, str], None],
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self.closed = False  # nothing more will be written
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
        """Return ``None``: the guard authenticates clients, not amqtt."""
        return None

    async def close(self) -> None:
        """Close after the buffered data is sent; do not wait for it, so that no client can delay amqtt's clean-up."""
        self.closed = True
        self._writer.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self.closed = True
        self._writer.transport.abort()

    def cut(self, reason: Cut, text: str) -> ConnectionResetError:
        """Cut the connection for ``reason``, once; return the error to raise."""
        if not self.closed:
            self._on_cut(reason, text)
            self.abort()
        return ConnectionResetError(text)


class ClientReader(ReaderAdapter):  # type: ignore[misc]
    """Reads from one client: first the CONNECT made by the guard, then whole, validated packets of the client.

    Args:
        packet: The CONNECT, served before anything else.
        writer: The client's writer, cut when a limit is exceeded.
        silence_s: Real seconds of silence after which the client is treated as gone; ``None``: never.
        hold_back_s: Called with each packet's size in bytes; returns the real seconds to wait before amqtt gets it.
    """

    def __init__(
        self,
        packet: bytes,
        reader: asyncio.StreamReader,
        writer: ClientWriter,
        silence_s: float | None,
        hold_back_s: Callable[[int], float],
    ) -> None:
        self._packet = packet
        self._at = 0
        self._reader = reader
        self._writer = writer
        self._silence_s = silence_s
        self._hold_back_s = hold_back_s

    async def read(self, n: int = -1) -> bytes:
        """Read ``n`` bytes of a packet; packets come whole, so amqtt never waits in the middle of one.

        Raises:
            ConnectionResetError: The connection ended, failed, was silent too long, or was cut for a violation.
        """
        if self._at >= len(self._packet):
            self._packet, self._at = await self._next_packet(), 0
        end = len(self._packet) if n < 0 else self._at + n
        data, self._at = self._packet[self._at : end], end
        return data

    def feed_eof(self) -> None:
        """Treat the stream as ended."""
        self._reader.feed_eof()

    async def _next_packet(self) -> bytes:
        # amqtt never yields while bytes are available, so a client that floods would stop all others. One packet is one
        # turn; in the turn between, amqtt handles the previous packet, even if the connection has ended.
        await asyncio.sleep(0)
        # A client that does not read its answers is not read: amqtt would buffer answers without limit.
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
            if limit.expired():  # Otherwise the kernel gave up the connection.
                raise ViolationError(Cut.SILENT, f"it sent nothing for {self._silence_s:g} s") from error
            raise
