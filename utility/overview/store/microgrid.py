"""What the page of one microgrid shows: its meters, batteries, commands, and a day's energy by quarter-hour."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MicrogridId, MilliwattHours, Quarter, unsigned64
from commonwatt.town.town import Direction, Function
from utility.billing.store.witnesses import WITNESS_PREFIX
from utility.database.database import Database
from utility.outbox.tables import command
from utility.overview.microgrids import Change
from utility.readings.store.gaps import GAP_PREFIX, events_around, sound_events
from utility.readings.store.parts import chunks, reading, select_parts
from utility.readings.tables import compacted
from utility.registry.tables import installed, meter, present_minimum

LEVEL_QUARTERS = 8  # quarters back in which the last reported level of a battery is looked for

_c = compacted.c
_DAY = select(_c.quarter, _c.meter_no, _c.record_type, _c.total, _c.last_reading, _c.exact, _c.averaged).where(
    _c.quarter.in_(bindparam("quarters", expanding=True)), _c.meter_no.in_(bindparam("numbers", expanding=True))
)
_LEVELS = select_parts(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True))
        & c.meter_no.in_(bindparam("numbers", expanding=True))
        & (c.record_type == int(RecordType.STORED))
    )
)


@dataclass(frozen=True, kw_only=True)
class Level:
    """The last reported level of a battery."""

    level: MilliwattHours  # milliwatt-hours
    time: EpochSeconds  # the end of its slot


@dataclass(frozen=True, kw_only=True, eq=False)
class DayOfMicrogrid:
    """The energy of a microgrid by quarter, milliwatt-hours, (n); ``is_whole``: every block of the quarter is there."""

    net: NDArray[np.int64]  # taken from the town, less what was given to it
    sun: NDArray[np.int64]  # generated
    stored: NDArray[np.int64]  # the batteries' levels at the quarter's end, together
    given: NDArray[np.int64]  # by homes to others of it; 0 without a boundary
    has_net: NDArray[np.bool_]  # in which quarters each meter of it has all slots
    has_sun: NDArray[np.bool_]  # the same for generation
    has_stored: NDArray[np.bool_]  # the same for levels


def meters_of(connection: Connection, microgrid: MicrogridId) -> list[dict[str, Any]]:
    """Return the meters that a microgrid has or had, each with its first quarter and the one after its last.

    A battery's meter has the minimum that it last reported.
    """
    columns = (present_minimum.c.percent, present_minimum.c.said, installed.c.since, installed.c.until)
    statement = select(meter, *columns).outerjoin(present_minimum)
    statement = statement.outerjoin(installed, installed.c.meter == meter.c.id)
    rows = connection.execute(statement.where(meter.c.microgrid == microgrid).order_by(meter.c.no)).mappings()
    return [dict(row) | {"id": unsigned64(row["id"])} for row in rows]


def is_there(row: Mapping[str, Any], quarter: Quarter) -> bool:
    """Return whether a meter of ``meters_of`` is at its place in a quarter."""
    return (row["since"] or 0) <= quarter and (row["until"] is None or quarter < row["until"])


def levels_of(database: Database, numbers: Sequence[int], now: Quarter) -> dict[int, Level]:
    """Return the last reported level of each battery of the last two hours, by the number of its meter."""
    if not numbers:
        return {}
    values = {"numbers": list(numbers), "quarters": list(range(now - LEVEL_QUARTERS, now + 1))}
    with reading(database) as (connection, reader):
        blocks = reader.read(connection, _LEVELS, values, quarters=values["quarters"], meters=numbers)
        of = select(meter.c.id, meter.c.no).where(meter.c.no.in_(list(numbers)))
        ids = {unsigned64(row.id): row.no for row in connection.execute(of)}
    found: dict[int, Level] = {}
    for at in np.argsort(blocks.quarter, kind="stable").tolist():
        there = np.flatnonzero(blocks.quality[at] > 0)
        if len(there):
            last = int(there[-1])
            time = int(blocks.quarter[at]) * QUARTER_S + (last + 1) * SLOT_S
            found[ids[int(blocks.meter[at])]] = Level(level=int(blocks.values[at, last]), time=time)
    return found


def newest_commands(connection: Connection, microgrid: MicrogridId, limit: int) -> list[dict[str, Any]]:
    """Return the newest commands to a microgrid's gateway with their outcomes, newest first.

    Left out are the requests for missing readings and for signatures, which the utility makes by itself.
    """
    c = command.c
    statement = select(command).where(
        c.controller == microgrid, ~c.id.startswith(GAP_PREFIX), ~c.id.startswith(WITNESS_PREFIX)
    )
    statement = statement.order_by(c.created.desc(), c.id.desc()).limit(limit)
    return [
        {
            **row,
            "message": json.loads(row["message"]),
            "outcome": None if row["outcome"] is None else json.loads(row["outcome"]),
        }
        for row in connection.execute(statement).mappings()
    ]


def changes_of_state(
    connection: Connection, numbers: Sequence[int], begin: EpochSeconds, end: EpochSeconds
) -> list[Change]:
    """Return the changes of some meters' states in ``[begin, end)``, with the last one before."""
    rows = sound_events(events_around(connection, numbers, begin, end))
    return [Change(meter=row.meter_no, time=row.time, bits=row.new_state) for row in rows]


def day_of_microgrid(
    connection: Connection, meters: Sequence[dict[str, Any]], first: Quarter, until: Quarter
) -> DayOfMicrogrid:
    """Return the energy of quarters ``first`` to ``until`` - 1, from compacted blocks.

    Args:
        meters: The microgrid's meters, from ``meters_of``.
        until: The quarter after the last.
    """
    signs, taking = _signs(meters), _taking(meters)
    given, kinds = np.zeros(until - first, np.int64), (RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED)
    sums = {kind: np.zeros(until - first, np.int64) for kind in kinds}
    whole = {kind: np.zeros(until - first, np.int64) for kind in kinds}
    of = {each["no"]: each for each in meters}
    for some in chunks(range(first, until), 100):
        values = {"quarters": list(some), "numbers": [each["no"] for each in meters]}
        for row in connection.execute(_DAY, values):
            kind = RecordType(row.record_type)
            if kind not in sums or not is_there(of[row.meter_no], row.quarter):
                continue
            if kind is RecordType.THROUGH:
                given[row.quarter - first] += (row.total or 0) * taking.get(row.meter_no, 0)
                if row.meter_no not in signs:
                    continue
            value = row.last_reading if kind is RecordType.STORED else row.total
            sums[kind][row.quarter - first] += (value or 0) * signs.get(row.meter_no, 1)
            whole[kind][row.quarter - first] += row.exact + row.averaged == 60
    expected = {kind: _expected(kind, meters, signs, range(first, until)) for kind in kinds}
    has = {kind: (whole[kind] >= expected[kind]) & (expected[kind] > 0) for kind in kinds}
    net, sun, stored = kinds
    return DayOfMicrogrid(
        net=sums[net],
        sun=sums[sun],
        stored=sums[stored],
        given=np.maximum(0, given),
        has_net=has[net],
        has_sun=has[sun],
        has_stored=has[stored],
    )


def _expected(
    kind: RecordType, meters: Sequence[Mapping[str, Any]], signs: Mapping[int, int], quarters: range
) -> NDArray[np.int64]:
    """Return how many meters there are in each quarter that record a type."""
    if kind is RecordType.THROUGH:
        of_kind = [each for each in meters if each["no"] in signs]
    else:
        of_kind = [each for each in meters if str(int(kind)) in each["record_types"].split(",")]
    return np.array([sum(is_there(each, quarter) for each in of_kind) for quarter in quarters], np.int64)


def _signs(meters: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Return the sign of each meter in what a microgrid takes: its boundary's, or without one those of its places."""
    boundary = [each for each in meters if each["function"] == Function.BOUNDARY]
    return {each["no"]: 1 if each["direction"] == Direction.INCOMING else -1 for each in boundary or meters}


def _taking(meters: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return the sign of each meter in what homes took from each other: their incoming, less the boundary's."""
    if {each["function"] for each in meters} != {Function.BOUNDARY, Function.HOUSE}:
        return {}
    incoming = [each for each in meters if each["direction"] == Direction.INCOMING]
    return {each["no"]: -1 if each["function"] == Function.BOUNDARY else 1 for each in incoming}
