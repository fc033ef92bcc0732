"""Bytes on a line, each way."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ByteCount:
    """Bytes on a line, IP headers included.

    Attributes:
        sent: Bytes sent.
        received: Bytes received.
    """

    sent: int = 0
    received: int = 0

    def __add__(self, other: "ByteCount") -> "ByteCount":
        return ByteCount(self.sent + other.sent, self.received + other.received)
