"""The time grid, units, ids, and limits of all parts (S 2.2.1, docs/architecture.md).

Energy is integer milliwatt-hours, time is UTC epoch seconds. Slots start at multiples of 15 s, quarters at multiples
of 900 s, averaging groups at multiples of 150 s.
"""

from dataclasses import dataclass
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


MeterId: TypeAlias = int  # a meter's unsigned 64-bit id
# The form of an id in topics and as an identity: decimal digits without leading zeros.
ID_PATTERN = r"(?:0|[1-9][0-9]{0,19})"

_END = 2**64


def parse_id(text: str) -> int | None:
    """Return the id written as ``text``; ``None``: ``text`` is no id."""
    # The length first: Python raises ValueError for thousands of digits.
    number = int(text) if len(text) <= 20 and text.isascii() and text.isdecimal() else _END
    return number if number < _END else None


def signed64(number: int) -> int:
    """Return an unsigned 64-bit id as the signed integer of the same bits, for SQL columns."""
    return number - 2**64 if number >= 2**63 else number


def unsigned64(number: int) -> int:
    """Return the id whose ``signed64`` is ``number``."""
    return number % 2**64


@dataclass(frozen=True)
class ByteCount:
    """Bytes on a line, IP headers included."""

    sent: int = 0  # bytes sent
    received: int = 0  # bytes received

    def __add__(self, other: "ByteCount") -> "ByteCount":
        return ByteCount(self.sent + other.sent, self.received + other.received)


LOW_BYTES = 8 * 1024 * 1024  # free bytes below which a service accepts no more readings
ENOUGH_BYTES = 16 * 1024 * 1024  # free bytes from which it accepts readings again
