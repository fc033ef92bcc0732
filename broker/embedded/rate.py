"""How much a client may send: token buckets. Pure; seconds are handed in.

A client that sends more is not disconnected but read later: what it may not send yet waits in its own send buffer (TCP
does the rest).
"""

from commonwatt.runtime.bucket import Bucket

PACKET_BYTES = 4096
"""Bytes allowed for each packet allowed: a put of a thousand records, the largest, is 36 kB and rare."""

BURST_S = 10.0
"""Seconds' worth of its rate that a client may send at once after it was quiet."""


class Allowance:
    """What one identity may send, in packets and in bytes; it outlives connections."""

    def __init__(self, packets_per_s: float, now: float) -> None:
        bytes_per_s = packets_per_s * PACKET_BYTES
        self._packets = Bucket(packets_per_s, packets_per_s * BURST_S, packets_per_s * BURST_S, now)
        self._bytes = Bucket(bytes_per_s, bytes_per_s * BURST_S, bytes_per_s * BURST_S, now)

    def take(self, packets: int, size: int, now: float) -> float:
        """Take ``packets`` of ``size`` bytes in all; return the seconds to wait before the next are read."""
        return max(self._packets.take(packets, now), self._bytes.take(size, now))
