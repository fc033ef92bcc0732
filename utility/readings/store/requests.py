"""Requests to gateways that failed or have no answer yet, oldest first (A7)."""

import json

from sqlalchemy import Connection, func, select

from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.model.words import counted
from utility.outbox.tables import command
from utility.readings.columns import Request
from utility.readings.gaps import MAX_AGE_QUARTERS
from utility.readings.tables import gap
from utility.registry.tables import meter

FAILED_S = 7 * 86_400  # seconds for which a command that failed is shown after it expired


def unanswered(connection: Connection, now: EpochSeconds, limit: int) -> list[Request]:
    """Return the oldest requests: of readings one for each microgrid."""
    found = [*_commands(connection, now, limit), *_readings(connection, limit)]
    return sorted(found, key=lambda one: (one.since, one.microgrid, one.what))[:limit]


def _commands(connection: Connection, now: EpochSeconds, limit: int) -> list[Request]:
    c = command.c
    wanted = (c.state == "open") | ((c.until >= now - FAILED_S) & (c.state != "superseded"))
    # Nearly all were carried out: after a week of short supply half a million.
    is_done = (c.state == "done") & (func.coalesce(c.result, "") == "done")
    statement = select(command).where(wanted, ~is_done).order_by(c.created, c.id).limit(limit)
    found: list[Request] = []
    for row in connection.execute(statement):
        outcome = json.loads(row.outcome) if row.outcome else {}
        message = json.loads(row.message)
        found.append(
            Request(
                kind="command",
                microgrid=message.get("microgrid") or row.controller,
                what=str((message.get("command") or message).get("cmd", "")),
                since=row.created,
                asked=1,
                state="failed" if row.state == "done" else row.state,
                reason=": ".join(str(outcome[key]) for key in ("result", "reason") if outcome.get(key)),
                expires=row.until,
            )
        )
    return found


def _readings(connection: Connection, limit: int) -> list[Request]:
    first = func.min(gap.c.quarter)
    statement = (
        select(meter.c.microgrid, first.label("first"), func.count().label("blocks"), func.max(gap.c.asked))
        .join(meter, meter.c.no == gap.c.meter_no)
        .where(gap.c.is_open)
        .group_by(meter.c.microgrid)
        .order_by(first, meter.c.microgrid)
        .limit(limit)
    )
    return [
        Request(
            kind="readings",
            microgrid=name,
            what=f"{counted(blocks, 'block')} with missing readings",
            since=quarter * QUARTER_S,
            asked=asked,
            state="open",
            reason="",
            expires=(quarter + MAX_AGE_QUARTERS) * QUARTER_S,
        )
        for name, quarter, blocks, asked in connection.execute(statement)
    ]
