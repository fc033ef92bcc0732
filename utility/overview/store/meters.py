"""What the page of a meter shows: its row, events, exchange, conflicts; and its series, of 15 s or settled."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, bindparam, select

from commonwatt.model.blocks import Quality
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, AccountNumber, EpochSeconds, MeterId, Quarter, signed64
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY, Quantity, SettledQuarters
from utility.readings.store.parts import chunks
from utility.readings.store.reads import readings
from utility.readings.tables import compacted
from utility.registry.store.accounts import changes_of
from utility.registry.tables import controller, declared_minimum, holding, installed, meter
from utility.settlement.store.settled import load_settled
from utility.webkit.console.plots import Series, single, thinned

# Quarters up to which each slot is read; of a longer time, the least and greatest reading of each quarter.
WHOLE_QUARTERS = 3 * QUARTERS_A_DAY
AT_ONCE = 4  # parts of a long time that are read at once: each day, and each quarter, is at another place of the disk
MOST_AT_A_TIME = 500  # days, or quarters, of such a part
_UNCOMPACTED = 8  # last quarters of a long time of which each slot is read, since they may not be compacted yet

_reading = ThreadPoolExecutor(AT_ONCE, "series")
_T = TypeVar("_T")

# Each quarter and day is named, since the keys begin with them. Statements are made once.
_c = compacted.c
_EXTREMES = select(_c.quarter, _c.min_reading, _c.max_reading, _c.exact, _c.averaged).where(
    _c.quarter.in_(bindparam("quarters", expanding=True)),
    _c.meter_no == bindparam("number"),
    _c.record_type == bindparam("type"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledSeries:
    """Settled quarter-hours of one meter."""

    quantities: Mapping[Quantity, Series]  # by quantity that the meter has; the quality is ``SettledQuality``
    provisional: int  # in how many settled quarters a late reading may still change something


def slot_series(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    """Return the readings of quarters ``first`` to ``until`` - 1; of a long time, in quarters with their extremes.

    The quality is ``commonwatt.model.blocks.Quality``; of a quarter, that of its worst slot that is there.
    """
    if until - first <= WHOLE_QUARTERS:
        return _slots(database, number, record_type, first, until)
    extremes = _extremes(database, number, record_type, first, until)
    recent = thinned(_slots(database, number, record_type, until - _UNCOMPACTED, until), _UNCOMPACTED)
    tail = slice(len(extremes) - _UNCOMPACTED, None)
    for name in ("low", "high", "quality", "lacking"):
        getattr(extremes, name)[tail] = getattr(recent, name)
    return extremes


def settled_series(database: Database, meter_id: MeterId, first: Quarter, until: Quarter) -> SettledSeries:
    """Return a meter's settled quarter-hours ``first`` to ``until`` - 1, the newest version of each day."""

    def read(part: range) -> SettledQuarters:
        return database.read(load_settled, [meter_id], part.start, part.stop)

    parts = _in_parts(read, range(first, until), MOST_AT_A_TIME * QUARTERS_A_DAY)
    quality, version, provisional = (
        np.concatenate([getattr(part, name)[0] for part in parts]) for name in ("quality", "version", "provisional")
    )
    energies = {quantity: [part.of(quantity)[0] for part in parts] for quantity in Quantity}
    return SettledSeries(
        quantities={
            quantity: single(first * QUARTER_S, QUARTER_S, np.concatenate(values), quality)
            for quantity, values in energies.items()
            if any(map(np.any, values))
        },
        provisional=int((provisional & (version > 0)).sum()),
    )


def _in_parts(read: Callable[[range], _T], whole: range, at_a_time: int) -> list[_T]:
    """Return what is read of each part of a time; of a long time, some parts at once."""
    parts = list(chunks(whole, at_a_time))
    if len(parts) == 1:
        return [read(whole)]
    return list(_reading.map(read, parts))


def _slots(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    blocks = readings(database, number, record_type, first, until - 1)
    values = np.zeros((until - first, SLOTS), np.int64)
    quality = np.zeros((until - first, SLOTS), np.uint8)
    at = blocks.quarter.astype(np.int64) - first
    values[at], quality[at] = blocks.values, blocks.quality
    return single(first * QUARTER_S, SLOT_S, values.reshape(-1), quality.reshape(-1))


def _extremes(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    low, high = np.zeros(until - first, np.int64), np.zeros(until - first, np.int64)
    exact, there = np.zeros(until - first, np.int64), np.zeros(until - first, np.int64)

    def read(part: range) -> None:
        values = {"quarters": list(part), "number": number, "type": record_type}
        with database.reads.begin() as connection:
            rows = connection.execute(_EXTREMES, values).all()
        if rows:
            quarter, least, most, as_measured, averaged = (np.array(column) for column in zip(*rows, strict=True))
            at = quarter - first
            low[at], high[at], exact[at], there[at] = least, most, as_measured, as_measured + averaged

    _in_parts(read, range(first, until), MOST_AT_A_TIME)
    quality = np.where(exact == there, Quality.EXACT, Quality.AVERAGED)
    return Series(
        start=first * QUARTER_S,
        step_s=QUARTER_S,
        low=low,
        high=high,
        quality=np.where(there > 0, quality, Quality.MISSING).astype(np.uint8),
        lacking=(there > 0) & (there < SLOTS),
    )


MAX_MINIMA = 20  # most reported minima of a meter that its page shows


@dataclass(frozen=True, kw_only=True)
class MeterFacts:
    """A registered meter."""

    id: MeterId  # its id
    number: int  # its number in the database
    owner: int  # the number of its microgrid's controller
    microgrid: str  # its microgrid
    location: str  # its place
    function: str  # the kind of place
    direction: str  # the direction that it measures
    record_types: tuple[RecordType, ...]  # what it records
    service_amps: int  # the service that it measures
    capacity: int | None  # the capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    # The sharing minima that it reported, percent, each with the time of its first report, newest first.
    minima: tuple[tuple[int, EpochSeconds], ...]
    since: EpochSeconds | None  # when it was installed; ``None``: from the beginning
    until: EpochSeconds | None  # when it was taken out; ``None``: it is there


def meter_facts(connection: Connection, meter_id: MeterId) -> MeterFacts | None:
    """Return a registered meter; ``None``: there is none of this id."""
    statement = select(meter, controller.c.number, installed.c.since, installed.c.until)
    statement = statement.join(controller, controller.c.id == meter.c.microgrid)
    statement = statement.outerjoin(installed, installed.c.meter == meter.c.id)
    row = connection.execute(statement.where(meter.c.id == signed64(meter_id))).first()
    if row is None:
        return None
    minima = select(declared_minimum).where(declared_minimum.c.meter_no == row.no)
    minima = minima.order_by(declared_minimum.c.said.desc()).limit(MAX_MINIMA)
    known = {int(kind) for kind in RecordType}
    return MeterFacts(
        id=meter_id,
        number=row.no,
        owner=row.number,
        microgrid=row.microgrid,
        location=row.location,
        function=row.function,
        direction=row.direction,
        record_types=tuple(RecordType(int(k)) for k in row.record_types.split(",") if int(k) in known),
        service_amps=row.service_amps,
        capacity=row.battery_capacity,
        minima=tuple((each.percent, each.said) for each in connection.execute(minima)),
        since=_time(row.since),
        until=_time(row.until),
    )


def holder_at(connection: Connection, number: int, quarter: Quarter) -> AccountNumber | None:
    """Return the account that had a meter in a quarter; ``None``: none had it."""
    c = holding.c
    held = (c.meter == number) & (c.since <= quarter) & (c.until.is_(None) | (c.until > quarter))
    found: int | None = connection.execute(select(c.account).where(held)).scalar()
    return None if found is None else AccountNumber(found)


def exchange_history(connection: Connection, facts: MeterFacts, limit: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the meters that were at a meter's place, oldest first, and the newest changes that people made to it."""
    at_place = (meter.c.microgrid == facts.microgrid) & (installed.c.place == facts.location)
    same = (meter.c.direction == facts.direction) & (meter.c.function == facts.function)
    statement = select(installed, meter.c.label).join(meter, meter.c.id == installed.c.meter).where(at_place, same)
    rows = connection.execute(statement.order_by(meter.c.no)).mappings()
    found = [
        {
            "meter": row["label"],
            "since": _time(row["since"]),
            "until": _time(row["until"]),
            "first_register": row["first_register"],
            "last_register": row["last_register"],
        }
        for row in rows
    ]
    ordered = sorted(found, key=lambda each: each["since"] or 0)
    return ordered, changes_of(connection, [f"meter {facts.id}"], limit)


def _time(quarter: Quarter | None) -> EpochSeconds | None:
    return None if quarter is None else quarter * QUARTER_S
