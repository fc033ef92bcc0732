"""The byte count of connections on an LTE line: IP bytes each way, from the kernel's ``TCP_INFO``.

Bytes and segments are the kernel's counts, with retransmissions; headers are added for each segment. So
TLS, acknowledgements, keepalives and retransmissions are included. Of a duplicate segment the kernel counts the
headers, but not the content; the content is estimated as that of the connection's average segment. Not counted: name
look-ups and unanswered attempts to connect. Without ``TCP_INFO`` in the kernel, nothing is counted.
"""

import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from weakref import WeakKeyDictionary

from commonwatt.model.units import ByteCount
from commonwatt.runtime.clock import boot_id

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
# struct tcp_info of linux/tcp.h: state, options; bytes_received; segs_out and segs_in; data_segs_in; bytes_sent;
# dsack_dups (since Linux 5.4).
_STATE, _OPTIONS, _RECEIVED, _SEGMENTS, _DATA_SEGMENTS, _SENT, _DUPLICATES = 0, 5, 128, 136, 152, 200, 216
_INFO_BYTES = 220
_TIMESTAMPS, _SELECTIVE = 1, 2
# Of asm-generic/socket.h: nine numbers, the last is the number of dropped segments (since Linux 4.12).
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("=32xI")
_ESTABLISHED, _CLOSE_WAIT = 1, 8

_IPV4_BYTES, _IPV6_BYTES, _TCP_BYTES, _TIMESTAMP_BYTES = 20, 40, 20, 12
_SYN_OPTION_BYTES = 20
_DUPLICATE_BYTES = 12  # bytes of the option in an acknowledgement that reports a duplicate segment (DSACK)


def byte_count_of(sock: socket.socket, *, accepted: bool, closing: bool = False) -> ByteCount | None:
    """Return the byte count of a TCP connection; ``None`` if the kernel does not report it.

    Args:
        sock: The connection, plain or TLS.
        accepted: Whether the other side opened it; the kernel then does not count the SYN-ACK.
        closing: Add the bytes of closing it, which the kernel does not report afterwards.
    """
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    except OSError:
        return None  # It is closed already.
    if len(info) < _INFO_BYTES:
        return None
    (sent,), (received,) = struct.unpack_from("=Q", info, _SENT), struct.unpack_from("=Q", info, _RECEIVED)
    segments_out, segments_in = struct.unpack_from("=II", info, _SEGMENTS)
    options = _TIMESTAMP_BYTES if info[_OPTIONS] & _TIMESTAMPS else 0
    repeated_sent, repeated_received = _repeated(sock, info)
    bare = (_IPV6_BYTES if sock.family == socket.AF_INET6 else _IPV4_BYTES) + _TCP_BYTES
    header = bare + options
    # The two segments that make a connection have more options than others.
    sent += segments_out * header + (bare + _SYN_OPTION_BYTES if accepted else _SYN_OPTION_BYTES - options)
    sent += repeated_sent
    received += segments_in * header + _SYN_OPTION_BYTES - options + repeated_received
    if closing:
        # A FIN and its acknowledgement each way; if the other side has closed, those of one way are counted.
        left = {_ESTABLISHED: 2, _CLOSE_WAIT: 1}.get(info[_STATE], 0) * header
        sent, received = sent + left, received + left
    return ByteCount(sent, received)


def _repeated(sock: socket.socket, info: bytes) -> tuple[int, int]:
    """Return the bytes sent and received for duplicate segments, which ``TCP_INFO`` omits."""
    try:
        (thrown_away,) = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):
        thrown_away = 0  # An older kernel.
    (content,), (segments,) = struct.unpack_from("=Q", info, _RECEIVED), struct.unpack_from("=I", info, _DATA_SEGMENTS)
    (told,) = struct.unpack_from("=I", info, _DUPLICATES)
    option = _DUPLICATE_BYTES if info[_OPTIONS] & _SELECTIVE else 0
    average = content // (segments - thrown_away) if segments > thrown_away else 0
    return thrown_away * option, thrown_away * average + told * option


@dataclass
class ByteTally:
    """The sum of the byte counts of one process's connections."""

    # A random number for this process; the sums began at 0 with it.
    run: int = field(default_factory=lambda: secrets.randbits(63))
    # By connection, whether it was accepted. Weak references: Python closes connections without another reference.
    _open: WeakKeyDictionary[socket.socket, bool] = field(default_factory=WeakKeyDictionary)
    _ended_sent: int = 0
    _ended_received: int = 0
    # TLS connections are made on threads of their own. And the garbage collector closes connections, on whatever
    # thread and in whatever line it runs: also in those below, which hold the lock already.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def opened(self, sock: socket.socket, *, accepted: bool = False) -> None:
        """Start to count a connection from its beginning."""
        with self._lock:
            self._open[sock] = accepted

    def leave_out(self, fileno: int) -> None:
        """Stop counting a connection and drop its count: it is not on the line."""
        with self._lock:
            for sock, _ in self._connections():
                if sock.fileno() == fileno:
                    self._open.pop(sock, None)

    def closing(self, sock: socket.socket) -> None:
        """Add the final count of a connection, just before it is closed."""
        with self._lock:
            accepted = self._open.pop(sock, None)
            if accepted is not None:
                count = byte_count_of(sock, accepted=accepted, closing=True) or ByteCount()
                # Plain numbers: no garbage collection happens between reading and writing one.
                self._ended_sent += count.sent
                self._ended_received += count.received

    def total(self) -> ByteCount:
        """Return the byte count of all connections since the start."""
        with self._lock:
            # First: a connection that closes during the sum must not count twice. It may be missing once.
            ended = ByteCount(self._ended_sent, self._ended_received)
            looks = (byte_count_of(sock, accepted=accepted) or ByteCount() for sock, accepted in self._connections())
            return sum(looks, ended)

    def _connections(self) -> Iterator[tuple[socket.socket, bool]]:
        """Yield the open connections, even while others close."""
        for reference in self._open.keyrefs():
            sock = reference()
            accepted = None if sock is None else self._open.get(sock)
            if sock is not None and accepted is not None:
                yield sock, accepted


class AcceptedSocket(socket.socket):
    """An accepted connection that is counted to its end, however it is closed."""

    _tally: ByteTally | None = None

    @classmethod
    def take(cls, accepted: socket.socket, tally: ByteTally) -> Self:
        """Take over a connection; ``accepted`` is not to be used any more."""
        sock = cls(fileno=accepted.detach())
        sock.setblocking(False)
        sock._tally = tally
        tally.opened(sock, accepted=True)
        return sock

    def close(self) -> None:
        """Close it."""
        if self._tally is not None:
            self._tally.closing(self)
        super().close()


def interface_byte_count(name: str, folder: Path = Path("/sys/class/net")) -> tuple[str, ByteCount] | None:
    """Return a network interface's byte count since it appeared, with a name for that period.

    ``None``: the interface does not exist. A modem that is plugged in again is a new interface and starts at 0.
    """
    there = folder / name
    with suppress(OSError, ValueError):
        number = int((there / "ifindex").read_text())
        sent, received = (int((there / "statistics" / f"{way}_bytes").read_text()) for way in ("tx", "rx"))
        return f"{boot_id()} {name} {number}", ByteCount(sent, received)
    return None
