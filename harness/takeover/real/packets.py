"""The datagrams of beats and messages at a machine's network interface."""

import socket
from dataclasses import dataclass

from commonwatt.town.cliques import BEATS_PORT

_ALL, _UDP, _OUTGOING = 0x0003, 17, 4  # protocols of Linux's packets and of IP; packets that leave
_UDP_BYTES = 8  # of its head
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Packet:
    """A datagram of a controller or the utility."""

    to: str  # the address to which it goes
    data: bytes  # its content
    ip_bytes: int  # its bytes with the heads of IP and UDP
    leaves: bool  # whether it leaves this machine


class Wire:
    """What passes the interface of the machine in whose network it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def fileno(self) -> int:
        """Return the descriptor, for ``select``."""
        return self._socket.fileno()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def packet(self) -> Packet | None:
        """Return the next datagram of a clique; ``None``: it is something else."""
        data, (device, _, kind, *_) = self._socket.recvfrom(2048)
        if device == "lo" or data[0] >> 4 != 4 or data[9] != _UDP:
            return None
        head = (data[0] & 15) * 4
        ports = (int.from_bytes(data[at : at + 2], "big") for at in (head, head + 2))
        if BEATS_PORT not in ports:
            return None
        ip_bytes = int.from_bytes(data[2:4], "big")
        return Packet(
            socket.inet_ntoa(data[16:20]), data[head + _UDP_BYTES : ip_bytes], ip_bytes, leaves=kind == _OUTGOING
        )
