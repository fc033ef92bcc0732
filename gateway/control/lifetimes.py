"""How long each kind of desired state lasts, and when it is renewed: one table for all (docs/control.md).

A state that is kept is renewed while its manager lives, and ends by itself at the meter when the manager is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Kind


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The values and times of a kind of desired state that a manager keeps.

    Attributes:
        on: Its value while it is kept.
        off: Its value otherwise, which needs no end.
        for_s: Seconds until its end, from each renewal.
        renew_s: It is renewed when no more seconds than this are left.
    """

    on: str
    off: str
    for_s: int
    renew_s: int

    def is_due(self, until: EpochSeconds, now: EpochSeconds) -> bool:
        """Return whether a state with an end is to be renewed: few seconds are left, or more than it is ever given."""
        return not self.renew_s < until - now <= self.for_s


_SWITCHED = Lifetime(on="on", off="off", for_s=900, renew_s=300)

LIFETIMES: Mapping[Kind, Lifetime] = {
    Kind.SHARING: _SWITCHED,
    Kind.REDUCING: _SWITCHED,
    Kind.ISOLATED: _SWITCHED,
    # It only shapes data: a long life costs nothing, and saves commands to hundreds of meters.
    Kind.AGGREGATION: Lifetime(on="lossless", off="none", for_s=86_400, renew_s=28_800),
}
"""By kind of state."""
