"""A separate loopback whose packets are all measured, as a reference for our count of LTE bytes.

``run_alone("harness.network.lte_world", ...)`` runs a module in its own network namespace (``unshare --net``).
"""

import fcntl
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from commonwatt.model.units import ByteCount
from harness.real.parts import miss

ALONE = ("unshare", "--map-root-user", "--net")  # prefix that runs a command in its own network namespace

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41
_ALL_PROTOCOLS = socket.htons(3)
_TO_US = 0
_TCP = 6
_SYN = 2
_NUMBERS = 0xFFFFFFFF
_ESTABLISHED = "01"


def run_alone(module: str, arguments: Sequence[str] = ()) -> str:
    """Run a module in its own network namespace; return its output. Skip the test where that is not allowed."""
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0:
        miss(f"needs a network namespace of its own: {' '.join(ALONE)}")
    command = [*ALONE, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bring_up() -> None:
    """Make the loopback of a new network usable."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_RUNNING))


class Scales:
    """Measures every TCP packet on the loopback, from the instance's creation on."""

    def __init__(self) -> None:
        self.weighed: Counter[tuple[int, int]] = Counter()  # IP bytes by (port from, port to)
        self.repeated: Counter[tuple[int, int]] = Counter()  # the retransmitted content in these bytes
        self._next: dict[tuple[int, int], int] = {}
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, _ALL_PROTOCOLS)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._sock.bind(("lo", 0))
        threading.Thread(target=self._weigh, daemon=True).start()

    def _weigh(self) -> None:
        head = bytearray(64)
        while True:
            size, _, _, (_, _, kind, *_) = self._sock.recvmsg_into([head], 0, socket.MSG_TRUNC)
            if kind != _TO_US:
                continue  # Each packet is seen twice: leaving, and arriving.
            version = head[0] >> 4
            at, protocol = (4 * (head[0] & 15), head[9]) if version == 4 else (40, head[6])
            if protocol == _TCP:
                source, to, number, offset, flags = struct.unpack_from("!HHI4xBB", head, at)
                self.weighed[source, to] += size
                self._follow((source, to), number, size - at - 4 * (offset >> 4), begins=bool(flags & _SYN))

    def _follow(self, ways: tuple[int, int], number: int, content: int, *, begins: bool) -> None:
        """Count retransmitted content; TCP's sequence numbers count bytes and wrap around."""
        new = (number + content - self._next.get(ways, number)) & _NUMBERS
        if begins or new <= _NUMBERS // 2:
            self._next[ways] = (number + content + begins) & _NUMBERS
            self.repeated[ways] += 0 if begins else max(0, content - new)
        else:
            self.repeated[ways] += content

    def byte_count(self, port: int, *, only: Collection[int] | None = None, without: Collection[int] = ()) -> ByteCount:
        """Return the bytes from and to ``port``; ``only`` and ``without`` select ports at the other end."""
        return self._sum(self.weighed, port, only, without)

    def repeats(self, port: int, *, only: Collection[int] | None = None, without: Collection[int] = ()) -> ByteCount:
        """Return retransmitted content, like ``byte_count``: the kernel counts it as sent, but not as received."""
        return self._sum(self.repeated, port, only, without)

    @staticmethod
    def _sum(
        counted: Mapping[tuple[int, int], int], port: int, only: Collection[int] | None, without: Collection[int]
    ) -> ByteCount:

        def wanted(other: int) -> bool:
            return other not in without and (only is None or other in only)

        rows = list(counted.items())
        return ByteCount(
            sum(size for (source, to), size in rows if source == port and wanted(to)),
            sum(size for (source, to), size in rows if to == port and wanted(source)),
        )


def ports_of(pid: int) -> set[int]:
    """Return the local ports of a process's TCP connections (IPv4)."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes and row[3] == _ESTABLISHED}
