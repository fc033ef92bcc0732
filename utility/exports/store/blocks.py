"""Reads for exports: the meters that are selected, and their blocks and events as arrays, without an object for each.

Each range is read in a transaction of its own, so that a long export holds back neither SQLite's log nor PostgreSQL's
clean-up. A block never changes between parts and their join, so the range is consistent; readings that come during an
export are in the ranges that are read later.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from commonwatt.model.blocks import Blocks, join
from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.model.units import EpochSeconds, Quarter
from utility.database.database import Database
from utility.exports.holdings import Held, is_held
from utility.exports.selection import ExportedMeter
from utility.readings.store.events import sound_events
from utility.readings.store.parts import (
    MAX_IN,
    chunks,
    ids_by_number,
    read_payloads,
    reading,
    select_parts,
    select_payloads,
)
from utility.readings.tables import event
from utility.registry.tables import meter

SCANNED_FROM = 8
"""If more than one in so many meters is selected, all blocks of a range are read, and those of other meters dropped."""


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
        self._scans = registered is not None and len(meters) * SCANNED_FROM > registered
        # The ids of the meters that one statement reads, by number.
        self._ids = [
            ids_by_number({one.id: one.number for one in some})
            for some in ([meters] if self._scans else chunks(meters))
        ]

    def read(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the joined blocks of the quarters ``first`` to before ``end``, in the order of meter and type."""
        with self._database.reads.begin() as connection:
            found = [
                read_payloads(connection, _ALL if self._scans else _FEW, values, ids, range(first, end))
                for ids in self._ids
                for values in self._values(ids, first, end)
            ]
        sound = [blocks for blocks in found if blocks is not None]
        blocks = join(sound) if len(sound) == len(found) else self._repaired(first, end)
        if self._held is None:
            return blocks
        mine = is_held(blocks.meter, blocks.quarter.astype(np.int64), self._held)
        return blocks if mine.all() else blocks.take(np.flatnonzero(mine))

    def _values(self, ids: NDArray[np.uint64], first: Quarter, end: Quarter) -> Iterator[Mapping[str, object]]:
        if self._scans:
            yield {"first": first, "last": end - 1}
            return
        for quarters in chunks(range(first, end)):
            yield {"quarters": list(quarters), "numbers": np.flatnonzero(ids).tolist()}

    def _repaired(self, first: Quarter, end: Quarter) -> Blocks:
        """Return the sound blocks of a range, and quarantine its damaged parts."""
        wanted = np.concatenate([ids[ids > 0] for ids in self._ids])
        with reading(self._database) as (connection, reader):
            statement = select_parts(lambda c: c.quarter.between(first, end - 1))
            found = list(reader.stream(connection, statement, quarters=range(first, end)))
        self.damaged += reader.damaged
        blocks = join(found)
        return blocks.take(np.flatnonzero(np.isin(blocks.meter, wanted)))


# Built once: building a statement takes longer than executing it.
_ALL = select_payloads(lambda c: c.quarter.between(bindparam("first"), bindparam("last")))
_FEW = select_payloads(
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
