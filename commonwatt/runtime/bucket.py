"""A token bucket: how much a sender may ask for. Pure; seconds are handed in."""

from dataclasses import dataclass


@dataclass
class Bucket:
    """A balance that grows with time up to ``burst`` and may be overdrawn by one amount.

    A sender that takes more without waiting, as by connecting again and again, is overdrawn by ``burst`` at most: it
    does not shut itself out for longer than it could have sent.

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
