"""What a machine's clocks say."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the clocks of this machine say at one moment.

    Attributes:
        raw: The part's own ``Clock``.
        wall: Epoch seconds on the machine's clock.
        since_boot_s: Seconds since the machine was started, also those it slept.
        boot: The id of that start.
        synchronised: Whether NTP keeps the machine's clock, as its kernel knows.
        has_hardware_clock: Whether the machine's clock was set from one that goes on without power.
    """

    raw: float
    wall: float
    since_boot_s: float
    boot: str
    synchronised: bool
    has_hardware_clock: bool
