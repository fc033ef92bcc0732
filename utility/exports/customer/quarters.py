"""The quarter-hours of one account, as its customer gets them: energy in and out, with its quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS, AccountNumber, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Direction
from utility.exports.customer.costs import CostedBill
from utility.exports.holdings import Held, is_held
from utility.readings.summaries import summaries


class Flow(IntEnum):
    """A direction of energy; the number is Green Button's ``flowDirection``."""

    DELIVERED = 1  # to the customer
    RECEIVED = 19  # from the customer


class Quality(IntEnum):
    """The quality of an account's quarter-hour, the worst of its meters; lower is worse."""

    MISSING = 0
    INCOMPLETE = 1  # readings of some slots are missing, or of one of several meters
    ESTIMATED = 2
    EDITED = 3
    AVERAGED = 4
    MEASURED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class AccountQuarters:
    """The quarter-hours of an account."""

    account: AccountNumber  # the account
    first: Quarter  # the first quarter; the arrays have an entry for each quarter from it on
    # By flow, milliwatt-hours, never negative; a flow that the account has no meter for is absent.
    energy: dict[Flow, npt.NDArray[np.int64]]
    quality: dict[Flow, npt.NDArray[np.uint8]]  # by flow, ``Quality``, uint8
    settled: bool  # whether the energies are settled, or sums of readings
    bills: tuple[CostedBill, ...] = ()  # the issued bills whose whole time is in it

    @cached_property
    def tou(self) -> dict[Quarter, int]:
        """The number of the tariff's period of each quarter-hour that a bill has."""
        return {each.bill.start + n: int(place) for each in self.bills for n, place in enumerate(each.tou)}


_FLOWS = {Direction.INCOMING: Flow.DELIVERED, Direction.OUTGOING: Flow.RECEIVED}
# Of each settled quality, by number.
_QUALITIES = [Quality[each.name] if each else Quality.INCOMPLETE for each in SettledQuality]
_QUANTITIES = {
    Flow.DELIVERED: (Quantity.IMPORTED, Quantity.SHARED_IN),
    Flow.RECEIVED: (Quantity.EXPORTED, Quantity.SHARED_OUT),
}


def from_readings(
    account: AccountNumber, blocks: Blocks, held: Sequence[Held], first: Quarter, end: Quarter
) -> AccountQuarters:
    """Return the sums of an account's readings of energy through its meters.

    Args:
        blocks: The joined blocks of its meters.
        held: When it had which meter.
        end: The quarter after the last.
    """
    through = blocks.take(np.flatnonzero(blocks.record_type == RecordType.THROUGH))
    through = through.take(np.flatnonzero(is_held(through.meter, through.quarter.astype(np.int64), held)))
    found = summaries(through)
    exact, averaged = found["exact"].values, found["averaged"].values
    quality = np.where(averaged > 0, Quality.AVERAGED, Quality.MEASURED).astype(np.uint8)
    quality[exact + averaged < SLOTS] = Quality.INCOMPLETE
    quality[exact + averaged == 0] = Quality.MISSING
    column = through.quarter.astype(np.int64) - first
    made = _Sums(first, end)
    flow_of = {one.meter: made.expect(one, _FLOWS[one.direction]) for one in held}
    for meter, flow in flow_of.items():
        rows = np.flatnonzero(through.meter == meter)
        made.add(flow, column[rows], found["total"].values[rows], quality[rows])
    return made.quarters(account, settled=False)


def from_settled(account: AccountNumber, settled: SettledQuarters, held: Sequence[Held]) -> AccountQuarters:
    """Return an account's settled energies: from the town and shared are together what its meter shows."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    made = _Sums(settled.first, settled.first + len(quarters))
    of = np.array(_QUALITIES, np.uint8)
    row_of = {meter: row for row, meter in enumerate(settled.meters.tolist())}
    for meter in sorted({one.meter for one in held} & row_of.keys()):
        row, mine = row_of[meter], [one for one in held if one.meter == meter]
        there = is_held(settled.meters[row : row + 1], quarters, mine)
        there &= settled.version[row] > 0
        is_whole = settled.quality[row] > SettledQuality.MISSING
        for flow, (outside, shared) in _QUANTITIES.items():
            energy = settled.of(outside)[row] + settled.of(shared)[row]
            # A quarter-hour that lacks a slot holds the energy of the others, and the bill has it.
            columns = np.flatnonzero(there & (is_whole | (energy != 0)))
            # An outgoing meter that stands for a battery without an incoming one has both flows.
            if flow == _FLOWS[mine[0].direction] or energy[columns].any():
                for one in mine:
                    made.expect(one, flow)
                made.add(flow, columns, energy[columns], of[settled.quality[row]][columns])
    return made.quarters(account, settled=True)


class _Sums:
    """Adds up the meters of an account by flow."""

    def __init__(self, first: Quarter, end: Quarter) -> None:
        self._first, self._count = first, end - first
        # By flow and quarter: the energy, the worst quality, how many meters have the quarter, how many are expected.
        self._rows: dict[Flow, npt.NDArray[np.int64]] = {}

    def expect(self, held: Held, flow: Flow) -> Flow:
        """Expect energies of a flow from a meter while the account has it; return the flow."""
        if flow not in self._rows:
            self._rows[flow] = np.zeros((4, self._count), np.int64)
            self._rows[flow][1] = Quality.MEASURED
        self._rows[flow][3, max(0, held.first - self._first) : max(0, held.end - self._first)] += 1
        return flow

    def add(
        self,
        flow: Flow,
        columns: npt.NDArray[np.integer],
        energy: npt.NDArray[np.int64],
        quality: npt.NDArray[np.uint8],
    ) -> None:
        """Add a meter's energies in some quarters, each once."""
        sums, worst, there, _ = self._rows[flow]
        sums[columns] += energy
        worst[columns] = np.minimum(worst[columns], quality)
        there[columns] += 1

    def quarters(self, account: AccountNumber, *, settled: bool) -> AccountQuarters:
        """Return the sums."""
        quality = {}
        for flow, (_, worst, there, expected) in self._rows.items():
            partial = np.where(there < expected, np.minimum(worst, Quality.INCOMPLETE), worst)
            quality[flow] = np.where(there == 0, Quality.MISSING, partial).astype(np.uint8)
        energy = {flow: rows[0] for flow, rows in self._rows.items()}
        return AccountQuarters(account=account, first=self._first, energy=energy, quality=quality, settled=settled)
