"""What each controller relayed by day: batches with readings and their bytes, for the preview of schedules (C9)."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from commonwatt.model.units import ControllerId, EpochSeconds
from utility.database.database import insert_or
from utility.outbox.changes import Append
from utility.readings.tables import relayed_day

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
