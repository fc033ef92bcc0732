"""The clocks of a machine."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The readings of this machine's clocks at one moment.

    Attributes:
        raw: The part's own ``Clock``.
        wall: Epoch seconds on the machine's clock.
        since_boot_s: Seconds since the machine's start, with time in suspend.
        boot: The id of this start.
        synchronised: Whether the kernel reports the machine's clock as synchronised by NTP.
        has_hardware_clock: Whether the machine's clock was set from a battery-backed clock.
    """

    raw: float
    wall: float
    since_boot_s: float
    boot: str
    synchronised: bool
    has_hardware_clock: bool
