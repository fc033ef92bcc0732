"""Bytes on a line, each way."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ByteCount:
    """Bytes on a line, IP headers included."""

    sent: int = 0  # bytes sent
    received: int = 0  # bytes received

    def __add__(self, other: "ByteCount") -> "ByteCount":
        return ByteCount(self.sent + other.sent, self.received + other.received)
