"""The clocks of a machine."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The readings of this machine's clocks at one moment."""

    raw: float  # the part's own ``Clock``
    wall: float  # epoch seconds on the machine's clock
    since_boot_s: float  # seconds since the machine's start, with time in suspend
    boot: str  # the id of this start
    synchronised: bool  # whether the kernel reports the machine's clock as synchronised by NTP
    has_hardware_clock: bool  # whether the machine's clock was set from a battery-backed clock
