"""Reads for exports: the meters that are selected, and their blocks and events as arrays, without an object for each.

Each range is read in a transaction of its own, so that a long export holds back neither SQLite's log nor PostgreSQL's
clean-up. A block never changes between parts and their join, so the range is consistent; readings that come during an
export are in the ranges that are read later.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, bindparam, select, union_all

from commonwatt.codec.packing import unpack_sound
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Blocks, join
from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.model.units import EpochSeconds, Quarter
from utility.database.database import Database
from utility.exports.holdings import Held, is_held
from utility.exports.selection import ExportedMeter
from utility.readings.store.archived import execute
from utility.readings.store.events import sound_events
from utility.readings.store.parts import CHUNK_ROWS, MAX_IN, PartReader, chunks, ids_by_number, select_parts
from utility.readings.tables import compacted, event, part
from utility.registry.tables import meter

SCANNED_FROM = 8
"""If more than one in so many meters is selected, all blocks of a range are read, and those of other meters dropped."""

_NAMES = ("quarter", "meter_no", "record_type", "payload")


def exported_meters(connection: Connection, ids: Collection[MeterId] | None = None) -> list[ExportedMeter]:
    """Return registered meters by id; without ``ids`` all."""
    statement = select(meter.c.no, meter.c.id, meter.c.microgrid, meter.c.record_types)
    if ids is not None:
        statement = statement.where(meter.c.id.in_([signed64(one) for one in ids]))
    found = [
        ExportedMeter(
            number=row.no,
            id=unsigned64(row.id),
            microgrid=row.microgrid,
            series=row.record_types.count(",") + 1,
        )
        for row in connection.execute(statement)
    ]
    return sorted(found, key=lambda one: one.id)


class BlockSource:
    """The joined blocks of some meters."""

    def __init__(
        self,
        database: Database,
        meters: Sequence[ExportedMeter],
        registered: int | None = None,
        held: Sequence[Held] | None = None,
    ) -> None:
        """Prepare the reading of some meters' blocks.

        Args:
            registered: How many meters are registered; ``None``: many more, so each block is looked up.
            held: The periods whose blocks are wanted; ``None``: all.
        """
        self.damaged = 0  # parts that were found damaged and quarantined
        self._database = database
        self._held = held
        self._numbers = sorted(one.number for one in meters)
        self._scans = registered is not None and len(self._numbers) * SCANNED_FROM > registered
        self._ids = ids_by_number({one.id: one.number for one in meters})  # number 0 is no meter's
        self._is_wanted = np.zeros(len(self._ids), np.bool_)
        self._is_wanted[self._numbers] = True

    def read(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the joined blocks of the quarters ``first`` to before ``end``, in the order of meter and type."""
        with self._database.reads.begin() as connection:
            within = range(first, end)
            rows = [
                row
                for statement, values, meters in self._selections(first, end)
                for row in execute(connection, statement, values, quarters=within, meters=meters).cursor.fetchall()
            ]
        found = [self._unpacked(some) for some in chunks(rows, CHUNK_ROWS)]
        sound = [blocks for blocks in found if blocks is not None]
        blocks = join(sound) if len(sound) == len(found) else self._repaired(first, end)
        if self._held is None:
            return blocks
        mine = is_held(blocks.meter, blocks.quarter.astype(np.int64), self._held)
        return blocks if mine.all() else blocks.take(np.flatnonzero(mine))

    def _selections(
        self, first: Quarter, end: Quarter
    ) -> Iterator[tuple[Any, Mapping[str, object], Sequence[int] | None]]:
        if self._scans:
            yield _ALL, {"first": first, "last": end - 1}, None
            return
        quarters = list(range(first, end))
        for numbers in chunks(self._numbers):
            for some in chunks(quarters):
                yield _FEW, {"quarters": some, "numbers": numbers}, numbers

    def _unpacked(self, rows: Sequence[tuple[Any, ...]]) -> Blocks | None:
        """Return the blocks of rows; ``None`` if one is damaged."""
        quarters, numbers, types, payloads = zip(*rows, strict=True)
        try:
            places = np.array(numbers, np.int64)
            places = np.where(places < len(self._ids), places, 0)
            keys = Keys(self._ids[places], np.array(types, np.uint8), np.array(quarters, np.uint32))
            wanted = self._is_wanted[places]
            if not wanted.all():  # Other meters' blocks, when all are read.
                kept = np.flatnonzero(wanted)
                keys = keys.take(kept)
                payloads = tuple(payloads[row] for row in kept.tolist())
            blocks, damaged = unpack_sound(keys, payloads)
        except (TypeError, ValueError, OverflowError, IndexError):  # A damaged row in SQLite may have any values.
            return None
        return None if damaged else blocks

    def _repaired(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the sound blocks of a range, and quarantine its damaged parts."""
        reader = PartReader(self._database)
        wanted = self._ids[self._numbers]
        with self._database.reads.begin() as connection:
            statement = select_parts(lambda c: c.quarter.between(first, end - 1))
            found = list(reader.stream(connection, statement, quarters=range(first, end)))
        reader.finish()
        self.damaged += reader.damaged
        blocks = join(found)
        return blocks.take(np.flatnonzero(np.isin(blocks.meter, wanted)))


def _selected(which: Callable[[Any], Any]) -> Select[Any] | Any:
    return union_all(
        *(select(*(table.c[name] for name in _NAMES)).where(which(table.c)) for table in (compacted, part))
    )


# Built once: building a statement takes longer than executing it.
_ALL = _selected(lambda c: c.quarter.between(bindparam("first"), bindparam("last")))
_FEW = _selected(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True)) & c.meter_no.in_(bindparam("numbers", expanding=True))
    )
)


def exported_events(
    connection: Connection,
    meters: Collection[ExportedMeter],
    start: EpochSeconds,
    end: EpochSeconds,
    tell: Callable[[Any], object],
) -> Iterator[Any]:
    """Yield the sound rows of ``event`` in ``[start, end)`` of some meters, by meter's number, time and id.

    ``tell`` is called with each damaged row.
    """
    order = (event.c.meter_no, event.c.time, event.c.generation, event.c.record_id)
    for numbers in chunks(sorted(one.number for one in meters), MAX_IN):
        statement = select(event).where(event.c.meter_no.in_(numbers), event.c.time >= start, event.c.time < end)
        rows = connection.execute(statement.order_by(*order), execution_options={"yield_per": 1_000})
        yield from sound_events(rows, tell)
