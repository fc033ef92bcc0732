"""How long each kind of desired state lasts, and when it is renewed: one table for all (docs/control.md).

A state that is kept is renewed while its manager lives, and ends by itself at the meter when the manager is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import NO_LIMIT, Kind

RESEND_S = 10  # seconds until an unconfirmed command is sent again; each further wait is twice as long
RESEND_AT_MOST_S = 300  # longest of these waits, seconds
MANY_TIMES = 6  # so many times sent, a command waits the longest; so does one that its meter refused, or does not have
UNKNOWN = "unknown"  # the value of a state of which this store knows only the pair


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The values and times of a kind of desired state that a manager keeps."""

    on: str | None  # its value while it is kept; ``None``: any but ``off``, the manager says which
    off: str  # its value otherwise, which needs no end
    for_s: int  # seconds until its end, from each renewal
    renew_s: int  # it is renewed when no more seconds than this are left

    def is_on(self, value: str) -> bool:
        """Return whether a value is one of a state that is kept."""
        return value not in (self.off, UNKNOWN) if self.on is None else value == self.on

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
    Kind.IMPORT_LIMIT: Lifetime(on=None, off=NO_LIMIT, for_s=900, renew_s=300),
    Kind.PUT_PERIOD: Lifetime(on=None, off=str(PUT_S), for_s=86_400, renew_s=28_800),
}
"""By kind of state."""


def resend_after_s(times: int) -> int:
    """Return the seconds until a command that was sent so many times, and is not confirmed, is sent again."""
    return min(RESEND_S << max(0, times - 1), RESEND_AT_MOST_S)
