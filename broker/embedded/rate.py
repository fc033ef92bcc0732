"""Rate limits for clients: token buckets. Pure; the time is an argument.

A client that exceeds its rate is not disconnected but read later: its packets wait in its own send buffer, by TCP's
flow control.
"""

from commonwatt.runtime.bucket import Bucket

# Bytes allowed for each packet allowed: a put of a thousand records, the largest, is 36 kB and rare.
PACKET_BYTES = 4096
BURST_S = 10.0  # seconds' worth of its rate that a client may send at once after it was quiet


class Allowance:
    """The rate limit of one identity, in packets and in bytes, across its connections."""

    def __init__(self, packets_per_s: float, now: float) -> None:
        bytes_per_s = packets_per_s * PACKET_BYTES
        self._packets = Bucket(packets_per_s, packets_per_s * BURST_S, packets_per_s * BURST_S, now)
        self._bytes = Bucket(bytes_per_s, bytes_per_s * BURST_S, bytes_per_s * BURST_S, now)

    def take(self, packets: int, size: int, now: float) -> float:
        """Take ``packets`` of ``size`` bytes in all; return the seconds to wait before the next are read."""
        return max(self._packets.take(packets, now), self._bytes.take(size, now))
