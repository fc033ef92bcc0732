"""A quarantined reading as a person judges it: when, how much, against which limit; what a decision does; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, AccountNumber, EpochSeconds, MilliwattHours
from commonwatt.model.words import counted
from commonwatt.protocol.dead_letters import Kept, quarantined_blocks

_KILOWATTS = 3600 / SLOT_S / 1e6
_WHAT = {
    RecordType.GENERATION: "sun that was generated",
    RecordType.STORED: "level of the battery",
    RecordType.THROUGH: "energy through the meter",
    RecordType.REGISTER: "reading of the register",
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a dead letter with quarantined readings says."""

    kind: RecordType  # what was measured
    start: EpochSeconds  # start of the first reading
    end: EpochSeconds  # end of the last
    slots: int  # how many readings of 15 s there are
    most: MilliwattHours  # the greatest of them
    limit: MilliwattHours | None  # the greatest that is plausible by the registry; ``None``: there is no limit
    energy: MilliwattHours | None  # their sum; ``None``: levels, which have none

    @property
    def what(self) -> str:
        """What was measured, in words."""
        return _WHAT[self.kind]

    @property
    def size(self) -> str:
        """How much it is, in words, beside what is plausible."""
        words = f"{'' if self.slots == 1 else 'at most '}{_amount(self.kind, self.most)}"
        return words if self.limit is None else f"{words}; plausible is at most {_amount(self.kind, self.limit)}"


def judged(kept: Kept, limits: Mapping[int, MilliwattHours]) -> Judged | None:
    """Return what a dead letter's readings say; ``None``: it has none.

    Args:
        limits: The greatest plausible reading, by record type.
    """
    blocks = quarantined_blocks(kept.dead_letter, RecordType)
    if blocks is None:
        return None
    there, kind = blocks.quality > 0, RecordType(int(blocks.record_type[0]))
    rows, slots = there.nonzero()
    starts = blocks.quarter.astype(int)[rows] * QUARTER_S + slots * SLOT_S
    return Judged(
        kind=kind,
        start=int(starts.min()),
        end=int(starts.max()) + SLOT_S,
        slots=int(there.sum()),
        most=int(blocks.values[there].max()),
        limit=limits.get(kind),
        energy=int(blocks.values[there].sum()) if kind.is_flow else None,
    )


def consequences(one: Judged, account: AccountNumber | None, month: str, *, is_issued: bool) -> tuple[str, str]:
    """Return what a release and a refusal do to a bill, in words.

    Args:
        account: The account that had the meter; ``None``: none, so that no bill is concerned.
        month: The local month of the readings.
        is_issued: Whether that month's bills are issued.
    """
    lost = f"The {counted(one.slots, 'reading')} of 15 s stay missing; what is missing is estimated as in any gap."
    if account is None:
        return "They count in the town's sums; no account had the meter.", lost
    if one.energy is None:
        return f"It counts where the battery of account {account} is settled.", lost
    bill = f"the bill of account {account} for {month}"
    when = f"{bill} is issued: the difference comes with its correction" if is_issued else f"{bill} is not issued yet"
    return f"{one.energy / 1e6:,.3f} kWh are settled for account {account}; {when}.", lost


def _amount(kind: RecordType, value: MilliwattHours) -> str:
    return f"{value * _KILOWATTS:,.1f} kW" if kind.is_flow else f"{value / 1e6:,.1f} kWh"
