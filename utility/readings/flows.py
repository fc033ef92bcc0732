"""What flowed in a quarter-hour: taken, given, generated, stored and used; blocks as sums for queries (pure)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from commonwatt.codec.packing_arrays import masks_of
from commonwatt.look.palette import PowerFlow
from commonwatt.model.blocks import Blocks, Quality
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MeterId, MilliwattHours, Quarter
from commonwatt.town.town import Direction
from utility.database.numbers import Column
from utility.energy.sharing import net_charge
from utility.readings.gaps import ALL_SLOTS

_FLOWS = [int(kind) for kind in RecordType if kind.is_flow]
_INT64 = np.iinfo(np.int64)


def summaries(blocks: Blocks) -> dict[str, Column]:
    """Return the columns for people's queries, by name."""
    there = masks(blocks)
    averaged = masks_of(blocks.quality == Quality.AVERAGED)
    some = there > 0
    # The lowest bit that is set, and the highest.
    lowest = there & -there
    highest = there.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        highest |= highest >> np.uint64(shift)
    rows = np.arange(len(blocks))
    first = np.where(some, np.bitwise_count(lowest - np.uint64(1)), 0)
    last = np.where(some, np.bitwise_count(highest).astype(np.int64) - 1, 0)
    low = high = blocks.values
    if (there != ALL_SLOTS).any():
        present = blocks.quality > Quality.MISSING
        low, high = np.where(present, low, _INT64.max), np.where(present, high, _INT64.min)
    conflicts = np.zeros(len(blocks), np.int64)
    if len(blocks.extras):
        np.add.at(conflicts, np.unique(blocks.extras[["row", "slot"]])["row"], 1)
    return {
        "exact": Column(np.bitwise_count(there & ~averaged).astype(np.int64)),
        "averaged": Column(np.bitwise_count(averaged).astype(np.int64)),
        "conflicts": Column(conflicts),
        "total": Column(blocks.values.sum(axis=1), some & np.isin(blocks.record_type, _FLOWS)),
        "first_reading": Column(blocks.values[rows, first], some),
        "last_reading": Column(blocks.values[rows, last], some),
        "min_reading": Column(low.min(axis=1), some),
        "max_reading": Column(high.max(axis=1), some),
    }


def masks(blocks: Blocks) -> npt.NDArray[np.uint64]:
    """Return the mask of each block's present slots: bit s is slot s."""
    return masks_of(blocks.quality > Quality.MISSING)


Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
LINES = ("taken", "given", "sun", "charge", "level")


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyLine:
    """An energy by quarter-hour, the sum over its meters."""

    energy: Numbers  # milliwatt-hours, of what has a reading
    slots: Numbers  # how many slots have a reading; of levels and charges: how many batteries have one
    expected: Numbers  # how many there are, of meters in their places; 0: there is no meter

    @property
    def is_whole(self) -> Flags:
        """Whether there is a meter, and no reading of the quarter is missing."""
        return np.asarray((self.expected > 0) & (self.slots == self.expected), np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flows:
    """The energies of a home, a microgrid or the town by quarter-hour."""

    first: Quarter  # the first quarter; the arrays have an entry for each from it on
    taken: EnergyLine  # a home: through its incoming meters. A microgrid and the town: from the town's net
    given: EnergyLine  # the same through outgoing meters
    sun: EnergyLine  # generated
    charge: EnergyLine  # the change of the batteries' levels from the end of the quarter before to the end of this one
    level: EnergyLine  # the batteries' levels at the end of the quarter

    @property
    def net(self) -> EnergyLine:
        """What was taken, less what was given; where a part lacks a reading, nothing is known of it."""
        return _combined(self.taken.energy - self.given.energy, self.taken, self.given)

    @property
    def used(self) -> EnergyLine:
        """What was used, with the losses of batteries: taken and generated, less what was given and charged.

        Of a quarter in which any of these lacks a reading nothing is known: it has neither energy nor slots.
        """
        energy = used_of(self.taken.energy - self.given.energy, self.sun.energy, self.charge.energy)
        return _combined(energy, self.taken, self.given, self.sun, self.charge)


def _combined(energy: Numbers, *parts: EnergyLine) -> EnergyLine:
    slots, expected = (np.sum([getattr(each, name) for each in parts], axis=0) for name in ("slots", "expected"))
    is_whole = (expected > 0) & (slots == expected)
    return EnergyLine(energy=energy * is_whole, slots=slots * is_whole, expected=expected)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A meter's quarter-hours of one record type; 0 where nothing is known."""

    total: Numbers  # energy of the quarter
    slots: Numbers  # slots with a reading
    least: Numbers  # the least reading of a slot
    most: Numbers  # the greatest one
    last: Numbers  # the last reading

    @classmethod
    def nothing(cls, count: int) -> "Measured":
        """Return quarter-hours without a reading."""
        return cls(**{each.name: np.zeros(count, np.int64) for each in fields(cls)})

    @property
    def whole(self) -> Flags:
        """Which quarters have every reading."""
        return np.asarray(self.slots == SLOTS)


def measured_of(rows: Numbers, first: Quarter, count: int) -> dict[tuple[int, int], Measured]:
    """Return the quarter-hours by meter's number and record type.

    Args:
        rows: Meter's number, record type, quarter, total, slots, least, most and last reading, (k, 8).
        first: The first quarter.
        count: How many quarters; others are left out.
    """
    found = {}
    rows = rows[(rows[:, 2] >= first) & (rows[:, 2] < first + count)]
    series = rows[:, 0] * 256 + rows[:, 1]
    for one in np.unique(series).tolist():
        of = rows[series == one]
        columns = np.zeros((5, count), np.int64)
        columns[:, of[:, 2] - first] = of[:, 3:].T
        total, slots, least, most, last = columns
        found[divmod(one, 256)] = Measured(total=total, slots=slots, least=least, most=most, last=last)
    return found


def measured_in(blocks: Blocks, first: Quarter, count: int) -> dict[tuple[MeterId, int], Measured]:
    """Return the quarter-hours of joined blocks by meter's id and record type."""
    ids, numbers = np.unique(blocks.meter, return_inverse=True)
    sums = {name: column.values for name, column in summaries(blocks).items()}
    slots = sums["exact"] + sums["averaged"]
    readings = (sums[f"{name}_reading"] * (slots > 0) for name in ("min", "max", "last"))
    rows = np.stack(
        [numbers, blocks.record_type, blocks.quarter, sums["total"], slots, *readings], axis=1, dtype=np.int64
    )
    found = measured_of(rows, first, count)
    return {(int(ids[number]), kind): each for (number, kind), each in found.items()}


@dataclass(frozen=True, kw_only=True)
class StoredLevel:
    """The last reported level of a battery, or of several together."""

    energy: MilliwattHours  # milliwatt-hours
    time: EpochSeconds  # the end of its slot; of several the oldest one


def newest_levels(blocks: Blocks) -> dict[MeterId, StoredLevel]:
    """Return the newest level in joined blocks, by meter's id."""
    there, found = blocks.quality > Quality.MISSING, {}
    rows = np.flatnonzero((blocks.record_type == RecordType.STORED) & there.any(axis=1))
    for row in rows[np.argsort(blocks.quarter[rows], kind="stable")].tolist():
        found[int(blocks.meter[row])] = row
    last = {meter: int(np.flatnonzero(there[row])[-1]) for meter, row in found.items()}
    return {
        meter: StoredLevel(
            energy=int(blocks.values[row, last[meter]]),
            time=int(blocks.quarter[row]) * QUARTER_S + (last[meter] + 1) * SLOT_S,
        )
        for meter, row in found.items()
    }


class Adding:
    """Adds up the lines of a subject, one meter after the other, from the quarter before the first one on.

    Args:
        count: How many quarters, the one before the first included.
        loss_permille: The part of a charge that is lost and counts as charged, thousandths; 0: losses are used.
    """

    def __init__(self, measured: Mapping[tuple[int, int], Measured], count: int, loss_permille: int = 0) -> None:
        self._measured, self._loss_permille = measured, loss_permille
        self._nothing = Measured.nothing(count)
        self._lines = {name: np.zeros((3, count), np.int64) for name in LINES}  # energy, slots, expected

    def add(self, meter: int, direction: Direction, kinds: Collection[int], there: Flags) -> None:
        """Add a meter's readings of the quarters in which it is ``there``: the subject's, and in its place."""
        for kind in kinds:
            of = self._measured.get((meter, int(kind)), self._nothing)
            if kind == RecordType.STORED:
                self._add("level", of.last, of.whole, there)
                both = there & np.append(False, there[:-1])
                has, is_whole = ((each & np.append(False, each[:-1])) & both for each in (of.slots > 0, of.whole))
                change = net_charge(np.diff(of.last, prepend=0), self._loss_permille)
                self._add("charge", change * has, is_whole, there)
            elif RecordType(kind).is_flow:
                way = "taken" if direction is Direction.INCOMING else "given"
                self._add("sun" if kind == RecordType.GENERATION else way, of.total, of.slots, there, SLOTS)

    def _add(self, name: str, energy: Numbers, slots: Any, there: Flags, each: int = 1) -> None:
        self._lines[name] += np.stack((energy, slots, np.full(len(there), each))) * there

    @property
    def lines(self) -> dict[str, EnergyLine]:
        """The lines, without the quarter before the first one."""
        parts = {name: rows[:, 1:] for name, rows in self._lines.items()}
        return {
            name: EnergyLine(energy=energy, slots=slots, expected=each) for name, (energy, slots, each) in parts.items()
        }


def used_of(net: Any, sun: Any, charge: Any) -> Any:
    """Return what was used, of what was taken less given, generated and charged: the one place that says it."""
    return net + sun - charge


def by_source(used: Any, sun: Any, charge: Any, between: Any = 0) -> dict[PowerFlow, Any]:
    """Return where the energy that was used came from: sun, then batteries, the rest from the plant.

    What came from another home's battery or sun (``between``) is the neighbours' part.
    """
    used = np.maximum(0, used)
    sun = np.minimum(used, sun)
    battery = np.minimum(used - sun, np.maximum(0, -charge))
    neighbours = np.minimum(between, sun + battery)
    of_battery = np.minimum(neighbours, battery)
    return {
        PowerFlow.SUN: sun - (neighbours - of_battery),
        PowerFlow.BATTERY: battery - of_battery,
        PowerFlow.NEIGHBOURS: neighbours,
        PowerFlow.PLANT: used - sun - battery,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class GridFlows(Flows):
    """The energies of a microgrid, or of the town, whose readings are never all there and are not expected."""

    between: Numbers  # what homes got from others of their microgrid: beyond what came through its boundary
    blocks: Numbers  # how many stored blocks these are of
