"""The bytes of a controller's beats and messages, weighed at its network interface."""

import select
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from commonwatt.cliques.datagrams import LENGTH
from harness.takeover.real.packets import Wire
from harness.takeover.real.town import NAMES, Town

CALM_S = 60.0  # seconds after the last start in which controllers tell each other more than usually
MONTH_S = 30 * 86_400
IPV6_MORE = 20  # bytes by which the head of a packet is longer in IPv6


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
        with town.machines.inside(NAMES[0], Wire) as scale:
            return _weighed(scale, seconds, utility=utility)


def _weighed(scale: Wire, seconds: float, *, utility: bool) -> Weighed:
    began = time.monotonic()
    ways = dict.fromkeys(product((True, False), repeat=2), Way())
    while (left_s := began + seconds - time.monotonic()) > 0 and select.select([scale], [], [], left_s)[0]:
        if (packet := scale.packet()) is not None:
            key = len(packet.data) == LENGTH, packet.leaves
            ways[key] = Way(ways[key].datagrams + 1, ways[key].ip_bytes + packet.ip_bytes)
    return Weighed(utility, time.monotonic() - began, *ways.values())
