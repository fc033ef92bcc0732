"""A token bucket, to limit a sender's rate. Pure: the caller passes the time."""

from dataclasses import dataclass


@dataclass
class Bucket:
    """A balance that grows with time up to ``burst`` and may be overdrawn by one amount.

    A sender that takes more without waiting, for example by repeated connections, is overdrawn by ``burst`` at most: it
    then waits no longer than ``burst`` takes to refill.
    """

    rate: float  # gain per second
    burst: float  # the highest balance
    balance: float  # the balance at ``at``; below zero while overdrawn
    at: float  # the second of the last update

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` at second ``now``; return the seconds until nothing is overdrawn."""
        balance = min(self.burst, self.balance + max(0.0, now - self.at) * self.rate) - amount
        self.balance = max(balance, -max(self.burst, amount))
        self.at = now
        return max(0.0, -self.balance / self.rate)
