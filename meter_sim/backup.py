"""The battery of a meter itself: it runs a meter for 48 hours after the voltage at its place is gone (T9)."""

from collections.abc import Collection, Mapping

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds

RUNS_S = 48 * 3600
"""Seconds for which a meter runs without voltage. When the voltage returns, its battery is full at once."""


class Backup:
    """Since when meters have had no voltage."""

    def __init__(self, since: Mapping[MeterId, EpochSeconds]) -> None:
        self.since = dict(since)  # the beginning of the first slot without voltage, by meter; absent: it has voltage

    def step(self, at: EpochSeconds, dark: Collection[MeterId]) -> bool:
        """Take the meters without voltage in the slot that starts at ``at``; return whether anything changed."""
        if self.since.keys() == set(dark):
            return False
        self.since = {meter: self.since.get(meter, at) for meter in dark}
        return True

    def dead(self, at: EpochSeconds) -> frozenset[MeterId]:
        """Return the meters that are dead in the slot that starts at ``at``."""
        return frozenset(meter for meter, since in self.since.items() if at - since >= RUNS_S)
