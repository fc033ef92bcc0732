"""Completeness of the data: counts of present and missing slots, the latter by reason (A7)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, computed_field
from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, tuple_, union_all

from commonwatt.model.blocks import Blocks
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter, unsigned64
from utility.database.bulk import is_one_of, listed
from utility.database.database import Database
from utility.readings.flows import masks
from utility.readings.gaps import ALL_SLOTS, settled_before
from utility.readings.store.batches import execute, fresh
from utility.readings.store.gaps import Off
from utility.readings.store.parts import (
    KEY_NAMES,
    QUARTERS_AT_A_TIME,
    PartReader,
    chunks,
    reading,
    select_compacted,
    select_fresh,
    select_parts,
)
from utility.readings.store.quarantine import masks_between
from utility.readings.store.retention import kept_from
from utility.readings.tables import compacted, gap, series
from utility.registry.store.registry import removed_meters
from utility.registry.tables import meter

_METERS_AT_A_TIME = 50

_PARTS_OF = select_parts(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True)) & c.meter_no.in_(bindparam("numbers", expanding=True))
    )
)


class Completeness(BaseModel):
    """Counts of slots of one meter and record type, or of several."""

    exact: int = 0  # present, with exact values
    averaged: int = 0  # present, with averaged values
    quarantined: int = 0  # missing, since the reading is quarantined and waits for a person's decision
    refused: int = 0  # missing, since a person refused the reading
    off: int = 0  # missing, since the meter was off
    absent: int = 0  # missing, and its gateway reported not to have it
    missing: int = 0  # missing, and still requested

    @computed_field(description="The sum of all others.")  # type: ignore[prop-decorator]
    @property
    def expected(self) -> int:
        """How many slots are expected: the sum of all counts."""
        return sum(vars(self).values())

    def add(self, other: "Completeness") -> None:
        """Add the counts of ``other``."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True, kw_only=True)
class SeriesCompleteness:
    """Completeness of one meter and record type."""

    meter: int
    microgrid: MicrogridId
    record_type: int
    counts: Completeness


def completeness(
    database: Database, first: Quarter, end: Quarter, microgrid: MicrogridId | None = None, meter_id: int | None = None
) -> list[SeriesCompleteness]:
    """Return the completeness of quarters ``first`` to ``end`` - 1, by meter and record type.

    A meter counts from its first quarter with data until it is removed; one without data has no entry. Quarters that
    the utility no longer keeps do not count.
    """
    with reading(database) as (connection, reader):
        rows = _series(connection, microgrid, meter_id)
        first = max(first, kept_from(connection))
        return [
            found
            for some in chunks(rows, _METERS_AT_A_TIME)
            for found in _of_series(connection, reader, some, first, end)
        ]


def stored_slots(database: Database, first: Quarter, end: Quarter) -> dict[MicrogridId, int]:
    """Return how many slots are stored of each microgrid, quarters ``first`` to ``end`` - 1; each slot counts once."""
    counts: dict[MicrogridId, int] = defaultdict(int)

    def within(c: Any) -> ColumnElement[bool]:
        return and_(c.quarter >= first, c.quarter < end)

    # Parts that are not compacted yet may have slots of each other, and of the block of their key.
    parts = select(*(fresh.c[name] for name in KEY_NAMES)).where(within(fresh.c))
    has_parts = tuple_(*(compacted.c[name] for name in KEY_NAMES)).in_(parts)
    whole = select(meter.c.microgrid, func.sum(compacted.c.exact + compacted.c.averaged))
    whole = whole.join_from(compacted, meter, meter.c.no == compacted.c.meter_no)
    whole = whole.where(within(compacted.c), ~has_parts).group_by(meter.c.microgrid)
    rest = union_all(select_compacted(lambda c: within(c) & has_parts), select_fresh(within))
    within_time = range(first, end)
    with reading(database) as (connection, reader):
        counts.update(execute(connection, whole, quarters=within_time).all())
        microgrids = {unsigned64(row.id): row.microgrid for row in connection.execute(select(meter))}
        for blocks in reader.stream(connection, rest, quarters=within_time):
            for each, slots in zip(blocks.meter.tolist(), (blocks.quality > 0).sum(axis=1).tolist(), strict=True):
                counts[microgrids[each]] += slots
    return dict(counts)


def settled_range(now: EpochSeconds, start: EpochSeconds, end: EpochSeconds) -> tuple[Quarter, Quarter]:
    """Return the range (first, end) of the finished quarters that begin in ``[start, end)``."""
    return -(-start // QUARTER_S), max(0, min(-(-end // QUARTER_S), settled_before(now, 0)))


def by_microgrid(found: Sequence[SeriesCompleteness]) -> dict[str, Completeness]:
    """Return the sums by microgrid."""
    sums: dict[str, Completeness] = defaultdict(Completeness)
    for entry in found:
        sums[entry.microgrid].add(entry.counts)
    return dict(sums)


def _series(connection: Connection, microgrid: MicrogridId | None, meter_id: int | None) -> Sequence[Any]:
    statement = (
        select(series, meter.c.id, meter.c.microgrid)
        .join(meter, meter.c.no == series.c.meter_no)
        .order_by(series.c.meter_no, series.c.record_type)
    )
    if microgrid is not None:
        statement = statement.where(meter.c.microgrid == microgrid)
    if meter_id is not None:
        statement = statement.where(meter.c.label == str(meter_id))
    return connection.execute(statement).all()


def _of_series(
    connection: Connection, reader: PartReader, rows: Sequence[Any], first: Quarter, end: Quarter
) -> Iterator[SeriesCompleteness]:
    keys = [(row.meter_no, row.record_type) for row in rows]
    counts = {key: Completeness() for key in keys}
    numbers = {unsigned64(row.id): row.meter_no for row in rows}
    present: dict[tuple[int, int, int], int] = {}
    for blocks in _blocks(connection, reader, sorted(numbers.values()), first, end):
        exact, averaged = (blocks.quality == 2).sum(axis=1).tolist(), (blocks.quality == 1).sum(axis=1).tolist()
        for key, mask, e, a in zip(blocks.keys(), masks(blocks).tolist(), exact, averaged, strict=True):
            place = numbers[key[0]], key[1]
            if place in counts:
                present[*place, key[2]] = mask
                counts[place].exact += e
                counts[place].averaged += a
    absent = _absent(connection, keys, first, end)
    quarantined = masks_between(connection, keys, first, end)
    off = Off.read(connection, {row.meter_no: (first, end) for row in rows})
    removed = removed_meters(connection)
    for row in rows:
        place = row.meter_no, row.record_type
        for quarter in range(max(first, row.first_quarter), min(end, removed.get(row.meter_no, end))):
            lacks = ALL_SLOTS & ~present.get((*place, quarter), 0)
            if lacks:
                reasons = {
                    **dict(zip(("quarantined", "refused"), quarantined.get((*place, quarter), (0, 0)), strict=True)),
                    "off": off.mask(row.meter_no, quarter),
                    "absent": absent.get((*place, quarter), 0),
                }
                _tell(counts[place], lacks, reasons)
        yield SeriesCompleteness(
            meter=unsigned64(row.id), microgrid=row.microgrid, record_type=row.record_type, counts=counts[place]
        )


def _blocks(
    connection: Connection, reader: PartReader, numbers: Sequence[int], first: Quarter, end: Quarter
) -> Iterator[Blocks]:
    """Yield the blocks of some meters; the query lists each quarter, since the key begins with it."""
    for quarters in chunks(range(first, end), QUARTERS_AT_A_TIME):
        named = {"quarters": quarters, "numbers": numbers}
        yield from reader.stream(connection, _PARTS_OF, named, quarters=quarters, meters=numbers)


def _tell(counts: Completeness, lacks: int, reasons: Mapping[str, int]) -> None:
    """Count the missing slots of one block, each under the first reason that applies."""
    for name, mask in reasons.items():
        setattr(counts, name, getattr(counts, name) + (lacks & mask).bit_count())
        lacks &= ~mask
    counts.missing += lacks.bit_count()


def _absent(
    connection: Connection, keys: Sequence[tuple[int, int]], first: Quarter, end: Quarter
) -> dict[tuple[int, int, int], int]:
    statement = select(gap).where(gap.c.quarter.between(first, end - 1), is_one_of((gap.c.meter_no, gap.c.record_type)))
    found = connection.execute(statement, listed(keys))
    return {(row.meter_no, row.record_type, row.quarter): row.absent for row in found}
