"""Stored events: read as records, and as the times when a meter was off."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from sqlalchemy import BigInteger, Connection, Row, Select, bindparam, func, select

from commonwatt.model.ids import unsigned64
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, Quarter
from utility.database.checks import is_sound
from utility.readings.gaps import Interval, off_mask, off_times
from utility.readings.store.parts import chunks
from utility.readings.tables import event
from utility.registry.tables import meter

log = logging.getLogger(__name__)


def sound_events(rows: Iterable[Row[Any]], tell: Callable[[Row[Any]], object] = lambda _: None) -> Iterator[Row[Any]]:
    """Yield the rows of ``event`` that match their checksums; log the others, and call ``tell`` with each."""
    for row in rows:
        if is_sound(event, row):
            yield row
        else:
            log.error("event %s of meter number %s is damaged and left out", row.record_id, row.meter_no)
            tell(row)


def event_of(row: Row[Any], meter_id: int) -> EventRecord:
    """Return the event record of a row of the ``event`` table."""
    return EventRecord(
        previous_state=row.previous_state,
        new_state=row.new_state,
        record_id=unsigned64(row.record_id),
        meter_id=meter_id,
        time=row.time,
    )


class Off:
    """The off times of some meters, each in its range of quarters (first, end)."""

    def __init__(self, times: dict[int, list[Interval]]) -> None:
        self._times = times

    @classmethod
    def read(cls, connection: Connection, ranges: Mapping[int, tuple[Quarter, Quarter]]) -> Self:
        """Read the events of some meters' ranges of quarters."""
        events: dict[int, list[tuple[int, EventRecord]]] = {}
        # Meters with similar ranges share a query, so that little is read beyond each range.
        for some in chunks(sorted(ranges, key=lambda number: ranges[number])):
            start = min(ranges[number][0] for number in some) * QUARTER_S
            end = max(ranges[number][1] for number in some) * QUARTER_S
            events |= events_by_meter(connection, some, start, end)
        return cls({number: off_times(found) for number, found in events.items()})

    def mask(self, number: int, quarter: Quarter) -> int:
        """Return the mask of the slots of a quarter in the meter's range in which it was off for any time."""
        return off_mask(self._times.get(number, ()), quarter)


def _events_of() -> Select[Any]:
    """Return the select of some meters' events in ``[start, end)``, and of the last one before and the first after."""
    of_meter = event.c.meter_no == meter.c.no
    start, end = bindparam("start", type_=BigInteger), bindparam("end", type_=BigInteger)
    before = select(func.max(event.c.time)).where(of_meter, event.c.time < start).scalar_subquery()
    after = select(func.min(event.c.time)).where(of_meter, event.c.time >= end).scalar_subquery()
    needed = select(
        meter.c.no, func.coalesce(before, start).label("low"), func.coalesce(after, end).label("high")
    ).where(meter.c.no.in_(bindparam("numbers", expanding=True)))
    of = needed.subquery()
    return select(event).join(of, (event.c.meter_no == of.c.no) & event.c.time.between(of.c.low, of.c.high))


def events_around(connection: Connection, numbers: Sequence[int], start: int, end: int) -> Iterator[Row[Any]]:
    """Yield the rows of some meters' events in ``[start, end)``, of the last one before and the first one after."""
    for some in chunks(numbers):
        yield from connection.execute(_EVENTS_OF, {"numbers": some, "start": start, "end": end})


def events_by_meter(
    connection: Connection, numbers: Sequence[int], start: int, end: int
) -> dict[int, list[tuple[int, EventRecord]]]:
    """Return the (log generation, event) of ``events_around`` that are sound, by the meter's number."""
    found: dict[int, list[tuple[int, EventRecord]]] = defaultdict(list)
    for row in sound_events(events_around(connection, numbers, start, end)):
        found[row.meter_no].append((row.generation, event_of(row, 0)))
    return dict(found)


# Built once: building a statement takes longer than executing it.
_EVENTS_OF = _events_of()
