"""The readings of stored days by place, and what was settled of them by microgrid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from commonwatt.energy.splits import Array, Flags
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS
from commonwatt.town.town import Direction, Function, Town
from utility.corrections.store.corrections import overlay
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY, Corrected, Quantity, SettledQuality, applied
from utility.jobs.tables import settled_day
from utility.readings.store import reads
from utility.registry.layout import Day
from utility.replay.world import GENERATION, LEVEL, SENT, TAKEN, Course, Place, course
from utility.settlement.store.readings import ReadingsOfQuarters
from utility.settlement.store.settled import settled_of_day


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredDay:
    """A day of UTC of the town."""

    course: Course  # what its places used and generated
    levels: Array  # the levels of their batteries at its beginning
    settled: Array  # what each microgrid imported and exported, milliwatt-hours, (2, microgrids)
    whole: Flags  # which microgrids are settled, with all readings


class StoredDays:
    """Reads the days of a town.

    Args:
        row: The row of each place in what is read, from 0.
    """

    def __init__(self, database: Database, town: Town, row: Mapping[Place, int]) -> None:
        self._database, self._loss_permille = database, town.table.charging_loss_permille
        meters = sorted((m for m in town.meters if m.function is not Function.BOUNDARY), key=lambda meter: meter.id)
        self.ids = np.array([meter.id for meter in meters], np.uint64)  # the meters, ascending
        self.rows = np.array([row[meter.microgrid, meter.location] for meter in meters])  # the place of each meter
        self.microgrids = list(town.microgrids)  # their names
        self.owner = np.array([self.microgrids.index(name) for name, _ in row])  # the microgrid of each place
        self.incoming = np.array([meter.direction is Direction.INCOMING for meter in meters])  # their direction
        # Which have what a place takes: without an incoming meter, as at a building, it is the outgoing one.
        self.takes = self.incoming | ~np.isin(self.rows, self.rows[self.incoming])
        self._stores = np.array([meter.battery is not None for meter in meters])
        self._controllers = [town.microgrids[name].number for name in self.microgrids]
        self._numbers = database.read(reads.numbers_of, self.ids.tolist())

    def find(self, meters: Sequence[int] | NDArray[np.uint64]) -> tuple[NDArray[np.intp], Flags]:
        """Return the index of each meter, and whether it is one of these."""
        at = np.searchsorted(self.ids, np.asarray(meters, np.uint64)).clip(max=len(self.ids) - 1)
        return at, self.ids[at] == np.asarray(meters, np.uint64)

    def day(self, day: Day) -> StoredDay:
        """Return a day.

        Raises:
            StoreError: A settled day is damaged.
        """
        first = day * QUARTERS_A_DAY
        batteries = [self._numbers[i] for i in self.ids[self._stores].tolist()]
        with self._database.reads.begin() as connection:
            corrections = overlay(connection, self._numbers, first - 1, first + QUARTERS_A_DAY)
            settled, whole = self._settled(connection, day)
        # The last quarter-hour of the day before has the levels at the beginning.
        quarters, parts, levels = range(first - 1, first + QUARTERS_A_DAY), [], [np.zeros(len(self.owner), np.int64)]
        blocks = ReadingsOfQuarters(self._database, self._numbers, batteries).over(quarters)
        for quarter, some in zip(quarters, blocks, strict=True):
            read, lacks = self._read(applied(some, corrections.of(quarter)))
            whole[self.owner[lacks]] = False
            parts.append(course(read, levels[-1], self._loss_permille))
            levels.append(read[LEVEL][:, -1])
        return StoredDay(course=np.concatenate(parts[1:], axis=2), levels=levels[1], settled=settled, whole=whole)

    def _read(self, readings: Corrected) -> tuple[Array, Array]:
        """Return what the places read in a quarter-hour, and the places with a battery that lack a reading of it."""
        read = np.zeros((4, len(self.owner), SLOTS), np.int64)
        at, ours = self.find(readings.keys.meter)
        at, kind, values = at[ours], readings.keys.record_type[ours], readings.values[ours]
        is_level, is_sun = kind == RecordType.STORED, kind == RecordType.GENERATION
        # Without a battery's meter, what a place sends is all that is known of its panels.
        plain = ~is_level & ~is_sun & ~self._stores[at] & ~self.incoming[at]
        read[GENERATION, self.rows[at[plain]]] += values[plain]
        through = np.where(self.incoming[at], TAKEN, SENT)
        read[np.select([is_level, is_sun], [LEVEL, GENERATION], through), self.rows[at]] += values
        is_whole = readings.quality[ours].min(axis=1, initial=SettledQuality.MEASURED) > SettledQuality.MISSING
        series = np.bincount(self.rows[at], (is_level | is_sun) & is_whole, len(self.owner))
        wanted = 2 * np.bincount(self.rows, self._stores, len(self.owner))
        return read, np.flatnonzero(series < np.minimum(wanted, 2))

    def _settled(self, connection: Connection, day: Day) -> tuple[Array, Flags]:
        found, missing = np.zeros((2, len(self.microgrids)), np.int64), settled_day.c.missing
        for meters, days in settled_of_day(connection, day):
            owner = self.owner[self.rows[self.find(meters)[0]]]
            for row, quantity in enumerate((Quantity.IMPORTED, Quantity.EXPORTED)):
                np.add.at(found[row], owner, days.energies[quantity].sum(axis=1))
        there = select(settled_day.c.owner_no).where(settled_day.c.day == day, missing == 0)
        return found, np.isin(self._controllers, list(connection.execute(there).scalars()))
