"""The bytes of a controller's beats and messages, weighed at its network interface."""

import select
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from commonwatt.cliques.datagrams import LENGTH
from commonwatt.town.cliques import BEATS_PORT
from harness.takeover.real.town import NAMES, Town

CALM_S = 60.0  # seconds after the last start in which controllers tell each other more than usually
MONTH_S = 30 * 86_400
IPV6_MORE = 20  # bytes by which the head of a packet is longer in IPv6
_ALL, _UDP, _OUTGOING = 0x0003, 17, 4  # protocols of Linux's packets and of IP; packets that leave
_UDP_BYTES = 8  # of its head
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Way:
    """What went one way."""

    datagrams: int = 0  # datagrams
    ip_bytes: int = 0  # their bytes, with the heads of IPv4 and UDP

    def month_mb(self, seconds: float, *, ipv6: bool = False) -> float:
        """Return the megabytes of 30 days."""
        return (self.ip_bytes + ipv6 * IPV6_MORE * self.datagrams) / seconds * MONTH_S / 1e6


@dataclass(frozen=True)
class Weighed:
    """The bytes of one controller."""

    utility: bool  # whether the utility ran
    seconds: float  # for so long
    beats_up: Way  # the beats that it sent
    beats_down: Way  # those that it received
    messages_up: Way  # the messages that it sent
    messages_down: Way  # those that it received


def weigh(folder: Path, seconds: float, *, utility: bool) -> Weighed:
    """Weigh what the first controller of a calm town sends and receives."""
    with closing(Town(folder)) as town:
        town.start_all(utility=utility)
        town.settle(utility=utility)
        time.sleep(CALM_S)
        scale = town.machines.inside(NAMES[0], _scale)
        with scale:
            return _weighed(scale, seconds, utility=utility)


def _scale() -> socket.socket:
    scale = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
    scale.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return scale


def _weighed(scale: socket.socket, seconds: float, *, utility: bool) -> Weighed:
    began = time.monotonic()
    ways = dict.fromkeys(product((True, False), repeat=2), Way())
    while (left_s := began + seconds - time.monotonic()) > 0:
        if not select.select([scale], [], [], left_s)[0]:
            break
        data, (device, _, kind, *_) = scale.recvfrom(2048)
        if device == "lo" or data[0] >> 4 != 4 or data[9] != _UDP:
            continue
        head = (data[0] & 15) * 4
        if BEATS_PORT in (
            int.from_bytes(data[head : head + 2], "big"),
            int.from_bytes(data[head + 2 : head + 4], "big"),
        ):
            ip_bytes = int.from_bytes(data[2:4], "big")
            key = ip_bytes == head + _UDP_BYTES + LENGTH, kind == _OUTGOING
            ways[key] = Way(ways[key].datagrams + 1, ways[key].ip_bytes + ip_bytes)
    return Weighed(utility, time.monotonic() - began, *ways.values())
