"""How much a client may send: token buckets. Pure; seconds are handed in.

Who sends more is not cut but read later: what it may not send yet waits in its own send buffer (TCP does the rest).
"""

from dataclasses import dataclass

PACKET_BYTES = 4096
"""Bytes allowed for each packet allowed: a put of a thousand records, the largest, is 36 kB and rare."""

BURST_S = 10.0
"""Seconds' worth of its rate that a client may send at once after it was quiet."""


@dataclass
class Bucket:
    """A balance that grows with time up to ``burst`` and may be overdrawn by one amount.

    Who takes more without waiting, as by connecting again and again, is overdrawn by ``burst`` at most: it does not
    shut itself out for longer than it could have sent.

    Attributes:
        rate: What it gains each second.
        burst: The most it holds.
        balance: What it held at ``at``; below zero while overdrawn.
        at: The second of the last look.
    """

    rate: float
    burst: float
    balance: float
    at: float

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` at second ``now``; return the seconds until nothing is overdrawn."""
        balance = min(self.burst, self.balance + max(0.0, now - self.at) * self.rate) - amount
        self.balance = max(balance, -max(self.burst, amount))
        self.at = now
        return max(0.0, -self.balance / self.rate)


class Allowance:
    """What one identity may send, in packets and in bytes; it outlives connections."""

    def __init__(self, packets_per_s: float, now: float) -> None:
        bytes_per_s = packets_per_s * PACKET_BYTES
        self._packets = Bucket(packets_per_s, packets_per_s * BURST_S, packets_per_s * BURST_S, now)
        self._bytes = Bucket(bytes_per_s, bytes_per_s * BURST_S, bytes_per_s * BURST_S, now)

    def take(self, packets: int, size: int, now: float) -> float:
        """Take ``packets`` of ``size`` bytes in all; return the seconds to wait before the next are read."""
        return max(self._packets.take(packets, now), self._bytes.take(size, now))
