"""Time together with how far it can be trusted (docs/architecture.md)."""

from enum import IntEnum
from typing import Self

from commonwatt.model.units import EpochSeconds


class Trust(IntEnum):
    """Trust of the time in an acknowledgement: its source (docs/architecture.md)."""

    NONE = 0
    METERS = 1  # the median of the meters
    HARDWARE = 2  # a hardware clock, within its drift since the last good time
    NETWORK = 3  # the utility, or NTP


class Now(EpochSeconds):
    """The time of an event, UTC epoch seconds, with the trust of its clock.

    Arithmetic with it gives plain seconds.
    """

    trust: Trust

    def __new__(cls, seconds: float, trust: Trust) -> Self:
        """Return whole seconds with their trust."""
        now = super().__new__(cls, seconds)
        now.trust = trust
        return now

    def __reduce__(self) -> tuple[type[Self], tuple[int, Trust]]:  # For copies.
        return type(self), (int(self), self.trust)
