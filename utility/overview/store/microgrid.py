"""What the page of one microgrid shows: its meters, batteries, states and commands."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import (
    EpochSeconds,
    MeterId,
    MicrogridId,
    Quarter,
    unsigned64,
)
from utility.billing.store.witnesses import WITNESS
from utility.database.database import Database
from utility.outbox.tables import DISCOVERY, command
from utility.overview.microgrids import StateChange
from utility.readings.flows import StoredLevel, newest_levels
from utility.readings.store.gaps import GAP_PREFIX, events_around, sound_events
from utility.readings.store.parts import reading, select_parts
from utility.registry.tables import installed, meter, present_minimum

LEVEL_QUARTERS = 8  # quarters back in which the last reported level of a battery is looked for

_LEVELS = select_parts(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True))
        & c.meter_no.in_(bindparam("numbers", expanding=True))
        & (c.record_type == int(RecordType.STORED))
    )
)


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


def levels_of(database: Database, numbers: Sequence[int], now: Quarter) -> dict[MeterId, StoredLevel]:
    """Return the last reported level of each battery of the last two hours, by the id of its meter."""
    if not numbers:
        return {}
    values = {"numbers": list(numbers), "quarters": list(range(now - LEVEL_QUARTERS, now + 1))}
    with reading(database) as (connection, reader):
        return newest_levels(reader.read(connection, _LEVELS, values, quarters=values["quarters"], meters=numbers))


def newest_commands(connection: Connection, microgrid: MicrogridId, limit: int) -> list[dict[str, Any]]:
    """Return the newest commands to a microgrid's gateway with their outcomes, newest first.

    Left out are the requests for missing readings and for signatures, which the utility makes by itself, and questions
    which devices are there, which pages ask every few seconds.
    """
    c = command.c
    statement = select(command).where(
        c.controller == microgrid, *(~c.id.startswith(begin) for begin in (GAP_PREFIX, f"{WITNESS}-", DISCOVERY))
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
) -> list[StateChange]:
    """Return the changes of some meters' states in ``[begin, end)``, with the last one before."""
    rows = sound_events(events_around(connection, numbers, begin, end))
    return [StateChange(meter=row.meter_no, time=row.time, bits=row.new_state) for row in rows]
