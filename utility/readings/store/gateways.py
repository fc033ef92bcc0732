"""What gateways said and relayed: last heartbeats, refills, batches by day; requests without an answer (A7, C9)."""

import json
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, func, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S, ControllerId, EpochSeconds
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.database.database import insert_or
from utility.outbox.changes import Append
from utility.outbox.tables import command
from utility.readings.columns import Gateway, Refilling, Request, refilling
from utility.readings.gaps import MAX_AGE_QUARTERS
from utility.readings.tables import gap, gateway_seen, relayed_day
from utility.registry.store.registry import closed_microgrids
from utility.registry.tables import controller, meter

FEW = 100  # below this number of controllers, only their rows are read


def last_heartbeats(
    connection: Connection, controllers: Collection[str] | None = None
) -> dict[str, tuple[int, Heartbeat | None]]:
    """Return (time of receipt, last heartbeat; ``None``: it can't be read) of some gateways or all, by gateway."""
    statement = select(gateway_seen)
    if controllers is not None and len(controllers) < FEW:
        statement = statement.where(gateway_seen.c.controller.in_(controllers))
    rows = (row for row in connection.execute(statement) if controllers is None or row.controller in controllers)
    return {row.controller: (row.time, heartbeat_of(row.heartbeat)) for row in rows}


def refills(connection: Connection, now: EpochSeconds) -> list[Refilling]:
    """Return how far each store is; a microgrid whose meters were all removed is not missed."""
    heartbeats, closed = last_heartbeats(connection), closed_microgrids(connection)
    found = []
    for row in connection.execute(select(controller).order_by(controller.c.number)):
        heard, said = heartbeats.get(row.id, (None, None))
        if row.id in heartbeats or row.id not in closed:
            found.append(Gateway(controller=row.id, kind=row.kind, heard=heard, heartbeat=said))
    return refilling(found, now)


@lru_cache(maxsize=1_024)
def heartbeat_of(kept: str) -> Heartbeat | None:
    """Return a stored heartbeat; ``None`` if it can't be read. Nearly all are the same as a few seconds before."""
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.


KEEP_EVERY_S = 900  # seconds between two writes of the counts; a kill loses the last ones, with their seconds
DAYS = 7  # days that are kept, as many as the gateways' forecast counts

_DAY_S = 86_400
_COUNTS = ("seconds", "batches", "blocks", "slots", "size")


class RelayedCounts:
    """Counts committed batches in memory, and writes the sums from time to time."""

    def __init__(self) -> None:
        self._since: EpochSeconds | None = None
        self._counts: dict[ControllerId, list[int]] = {}

    def note(self, appends: Iterable[Append]) -> None:
        """Count committed batches; those without readings only test the connection."""
        for append in appends:
            if self._since is None:
                self._since = append.received
            if len(append.blocks):
                counts = self._counts.setdefault(append.sender, [0, 0, 0, 0])
                slots = int((append.blocks.quality > 0).sum())
                for at, more in enumerate((1, len(append.blocks), slots, append.size)):
                    counts[at] += more

    def due(self, appends: Sequence[Append]) -> EpochSeconds | None:
        """Return the time until which the counts are to be written now; ``None``: later."""
        newest = max((append.received for append in appends), default=None)
        if newest is None or self._since is None or abs(newest - self._since) < KEEP_EVERY_S:
            return None
        return newest

    def write(self, connection: Connection, controllers: Iterable[ControllerId], now: EpochSeconds) -> None:
        """Add the counts to the day; controllers that sent nothing were counted, too."""
        seconds = min(max(0, now - (self._since or now)), _DAY_S)
        rows = [
            {"controller": name, "day": now // _DAY_S}
            | dict(zip(_COUNTS, (seconds, *self._counts.get(name, (0, 0, 0, 0))), strict=True))
            for name in controllers
        ]
        if rows:
            statement = insert_or(connection, relayed_day)
            added: dict[str, Any] = {name: relayed_day.c[name] + statement.excluded[name] for name in _COUNTS}
            keys = list(relayed_day.primary_key)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=added), rows)
        connection.execute(relayed_day.delete().where(relayed_day.c.day <= now // _DAY_S - DAYS))

    def written(self, now: EpochSeconds) -> None:
        """Begin anew after the commit of ``write``."""
        self._since, self._counts = now, {}


def relayed_by(connection: Connection, controllers: Collection[ControllerId]) -> dict[ControllerId, dict[str, int]]:
    """Return what controllers relayed in the last days: the sums of ``relayed_day``."""
    sums = (func.sum(relayed_day.c[name]).label(name) for name in _COUNTS)
    statement = select(relayed_day.c.controller, *sums).group_by(relayed_day.c.controller)
    return {
        row.controller: {name: int(row._mapping[name]) for name in _COUNTS}  # noqa: SLF001 - its public name
        for row in connection.execute(statement)
        if row.controller in controllers
    }


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
