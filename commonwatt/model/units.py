"""The time grid and the units of all parts (S 2.2.1, docs/architecture.md).

Energy is integer milliwatt-hours, time is UTC epoch seconds. Slots start at multiples of 15 s, quarters at multiples
of 900 s, averaging groups at multiples of 150 s.
"""

from typing import TypeAlias

AccountNumber: TypeAlias = int  # the number of an account, 1 to 65,535; 0 in a record: none
MilliwattHours: TypeAlias = int  # energy, or the level of a battery, in thousandths of a watt-hour
MicrogridId: TypeAlias = str  # the name of a microgrid: its places, meters and feeders

ControllerId: TypeAlias = str
"""The name of a controller: a machine with a gateway, and its identity at the head-end. Today it manages the one
microgrid of the same name."""

EpochSeconds: TypeAlias = int  # UTC seconds since 1970-01-01


Quarter: TypeAlias = int  # a quarter-hour, counted from 1970: epoch seconds // 900
SLOT_S = 15  # seconds in one metering slot
GROUP_SLOTS = 10  # slots in one averaging group: the lossy algorithm averages aligned tens
GROUP_S = SLOT_S * GROUP_SLOTS  # seconds in one averaging group
SLOTS = 60  # slots in one quarter-hour, the length of an interval block
QUARTER_S = SLOT_S * SLOTS  # seconds in one quarter-hour
MAX_ABS_READING: MilliwattHours = 2**53  # the largest magnitude a reading may have: what a double holds exactly
MAX_EPOCH: EpochSeconds = 2**32 - 1  # the last second a record can name (32 bits)
MADE: EpochSeconds = 1_767_225_600  # 1 January 2026, before every release: a clock before it is wrong
VOLTS = 240  # service voltage, to compute a service's energy from its amperes


def quarter_of(time: EpochSeconds) -> Quarter:
    """Return the quarter-hour in which a slot starting at ``time`` lies."""
    return time // QUARTER_S
