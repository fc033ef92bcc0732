"""Missing slots: new quarters are searched once, incomplete blocks watched, absent data noted (R14).

Stored events say when a meter was off, so that nothing is missing then.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, Self

from sqlalchemy import BigInteger, BindParameter, Connection, Insert, Row, Select, bindparam, delete, func, select

from commonwatt.model.records import EventRecord
from commonwatt.model.units import (
    QUARTER_S,
    SLOTS,
    ControllerId,
    EpochSeconds,
    MeterId,
    MicrogridId,
    Quarter,
    signed64,
    unsigned64,
)
from utility.cliques.store import load_granted
from utility.database.bulk import is_one_of, listed
from utility.database.checks import is_sound
from utility.database.database import Database, insert_in, insert_or, read_setting, save_setting
from utility.database.engines import Lock, take
from utility.outbox.store import send
from utility.outbox.tables import command
from utility.readings.flows import masks
from utility.readings.gaps import (
    ALL_SLOTS,
    LAST_BACKOFF_S,
    MAX_AGE_QUARTERS,
    MAX_ASKED,
    WHY_WORDS,
    Interval,
    WantedSlots,
    Why,
    absent_at_all,
    backoff_s,
    excuse,
    is_due,
    off_mask,
    off_times,
    requests,
    settled_before,
)
from utility.readings.store.parts import PartReader, chunks, select_parts
from utility.readings.store.quarantine import masks_of
from utility.readings.store.retention import kept_from
from utility.readings.tables import absent_at, compacted, event, gap, gateway_seen, series
from utility.registry.store.registry import closed_microgrids, removed_meters, stores_of
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

Key = tuple[int, int, int]  # (number of the meter, record type, quarter)
Said = dict[Key, dict[ControllerId, int]]  # the slots that stores are known not to have, by block and controller


def note_absent(
    connection: Connection, controller: ControllerId, blocks: Iterable[tuple[MeterId, int, int, int]], why: Why
) -> None:
    """Record (meter, record type, quarter, slots) that a controller's store lacks; what all lack is asked no more."""
    places: dict[MeterId, tuple[int, frozenset[ControllerId]] | None] = {}
    for which, record_type, quarter, mask in blocks:
        if which not in places:
            places[which] = _stores_of(connection, which)
        place = places[which]
        if place is None:
            continue
        number, stores = place
        key = (number, record_type, quarter)
        if len(stores) > 1:
            add_absent(connection, [(key, controller, mask, why)])
            mask = absent_at_all(said_of(connection, [key]).get(key, {}), stores)
        conclude(connection, {key: mask})


def add_absent(connection: Connection, rows: Iterable[tuple[Key, ControllerId, int, Why]]) -> None:
    """Add slots to those that controllers' stores do not have."""
    values = [
        dict(zip(_KEY, key, strict=True)) | {"controller": controller, "mask": mask, "why": why}
        for key, controller, mask, why in rows
    ]
    if values:
        statement = insert_or(connection, absent_at)
        both = absent_at.c.mask.bitwise_or(statement.excluded.mask)
        changed = {"mask": both, "why": statement.excluded.why}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(absent_at.primary_key), set_=changed), values
        )


def said_of(connection: Connection, keys: Sequence[Key]) -> Said:
    """Return the slots that stores are known not to have."""
    found: Said = defaultdict(dict)
    for some in chunks(keys):
        for row in connection.execute(_SAID, listed(some)):
            found[row.meter_no, row.record_type, row.quarter][row.controller] = row.mask
    return found


def reasons_of(connection: Connection, keys: Sequence[Key]) -> dict[Key, dict[ControllerId, str]]:
    """Return why stores are known not to have slots of blocks, for people, by block and controller."""
    found: dict[Key, dict[ControllerId, str]] = defaultdict(dict)
    for some in chunks(keys):
        for row in connection.execute(_SAID, listed(some)):
            found[row.meter_no, row.record_type, row.quarter][row.controller] = WHY_WORDS[row.why]
    return found


def conclude(connection: Connection, absent: Mapping[Key, int]) -> None:
    """Request these slots of gaps no more."""
    if rows := [of_gap(key) | {"more": mask} for key, mask in absent.items() if mask]:
        connection.execute(_CONCLUDE, rows)


def of_gap(key: Key) -> dict[str, int]:
    """Return the parameters of ``IS_GAP``."""
    return dict(zip(("of_no", "of_type", "of_quarter"), key, strict=True))


def excused(connection: Connection, now: EpochSeconds) -> dict[ControllerId, Why]:
    """Return the controllers that need not be asked for what they may have, with the reason."""
    closed = closed_microgrids(connection)
    rows = connection.execute(select(gateway_seen.c.controller, gateway_seen.c.time))
    seen = {row.controller: row.time for row in rows}
    newest = min(now, max(seen.values(), default=now))
    reasons = {
        name: excuse(seen.get(name), newest, is_closed=name in closed and closed[name] <= now // QUARTER_S)
        for name in seen | closed
    }
    return {name: why for name, why in reasons.items() if why is not None}


def left_to_ask(
    mask: int, said: Mapping[ControllerId, int], stores: Collection[ControllerId]
) -> dict[ControllerId, int]:
    """Return the slots to request of each controller."""
    return {name: left for name in sorted(stores) if (left := mask & ~said.get(name, 0))}


def forget(connection: Connection, keys: Sequence[Key]) -> None:
    """Delete what is known of blocks that miss nothing any more."""
    for some in chunks(keys):
        connection.execute(_FORGET, listed(some))


_KEY = ("meter_no", "record_type", "quarter")
_KEY_COLUMNS = tuple(absent_at.c[name] for name in _KEY)
_SAID = select(absent_at).where(is_one_of(_KEY_COLUMNS))
_FORGET = delete(absent_at).where(is_one_of(_KEY_COLUMNS))
IS_GAP = (
    (gap.c.meter_no == bindparam("of_no"))
    & (gap.c.record_type == bindparam("of_type"))
    & (gap.c.quarter == bindparam("of_quarter"))
)
_MORE = gap.c.absent.bitwise_or(bindparam("more"))
_CONCLUDE = gap.update().where(IS_GAP).values(absent=_MORE, is_open=gap.c.mask.bitwise_and(_MORE.bitwise_not()) != 0)


def _stores_of(connection: Connection, which: MeterId) -> tuple[int, frozenset[ControllerId]] | None:
    """Return the number of a meter, and the controllers that may have its data; ``None``: it is not registered."""
    row = connection.execute(select(meter.c.no, meter.c.microgrid).where(meter.c.id == signed64(which))).first()
    return None if row is None else (row.no, stores_of(connection, row.microgrid).get(row.microgrid, frozenset()))


GAP_PREFIX = "gap-"  # with which the ids of requests for missing readings begin
MAX_SCANNED = 20_000  # most blocks searched in one run; the rest waits for the next
MAX_TOUCHED = 20_000  # most watched blocks compacted again that one run handles; the rest waits for the next
KEEP_COMMANDS_S = 86_400  # seconds that the finder's own commands are kept after they ended

_NUMBER = "gap_number"


@dataclass
class GapRun:
    """The result of one run, to be applied in one transaction."""

    # Rows of ``series`` with the quarters searched so far, and the end of that range before the run.
    scanned: list[dict[str, Any]] = field(default_factory=list)
    # Number of events from ``events_from`` on, for each meter in ``scanned``.
    events: dict[int, int] = field(default_factory=dict)
    events_from: EpochSeconds = 0  # start of the earliest quarter searched
    masks: dict[Key, int] = field(default_factory=dict)  # missing slots of every checked block; 0: none
    # Watched blocks that were compacted since the last run, and how often.
    touched: dict[Key, int] = field(default_factory=dict)
    new: set[Key] = field(default_factory=set)  # incomplete blocks that were not watched yet
    # Slots to request, with the number of earlier requests for the block.
    wanted: list[tuple[Key, int, WantedSlots]] = field(default_factory=list)
    # Slots that controllers' stores don't have, since they need not be asked: block, controller, slots, why.
    excused: list[tuple[Key, ControllerId, int, Why]] = field(default_factory=list)
    absent: dict[Key, int] = field(default_factory=dict)  # slots that no store has
    oldest: Quarter = 0  # first quarter of the search
    horizon: Quarter = 0  # first quarter too young for the search
    more: bool = False  # whether quarters, or watched blocks compacted again, are left for the next run


class GapFinder:
    """Finds gaps in one database; ``plan`` reads, ``apply`` writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = PartReader(database)

    def plan(self, now: EpochSeconds, gap_age_s: int, most: int = MAX_ASKED) -> GapRun:
        """Search new quarters, and check again the watched blocks that are due or have changed; request ``most``."""
        run = GapRun()
        horizon = run.horizon = settled_before(now, gap_age_s)
        with self._database.reads.begin() as connection:
            run.oldest = max(horizon - MAX_AGE_QUARTERS, kept_from(connection))
            keys = self._new_keys(connection, run, horizon)
            run.events = _event_counts(connection, run)
            run.new = self._incomplete(connection, run, keys)
            watched = {_key(row): row for row in self._watched(connection, run, now)}
            self._recheck(connection, run, list(watched))
            self._want(connection, run, watched, now, most)
        self._reader.finish()
        return run

    def apply(self, run: GapRun, now: EpochSeconds) -> int:
        """Store the run's result, and add the commands; return how many blocks are requested."""
        with self._database.writes.begin() as connection:
            take(connection, Lock.GAPS)
            _save_scanned(connection, run)
            _save_masks(connection, run, now)
            add_absent(connection, run.excused)
            conclude(connection, run.absent)
            if run.wanted:
                asked = [
                    of_gap(key) | {"asked": times + 1, "next_time": now + backoff_s(times + 1)}
                    for key, times, _ in run.wanted
                ]
                connection.execute(_ASKED, asked)
            _give_out(connection, [wanted for _, _, wanted in run.wanted], now, self._database.store_id)
            if run.touched:
                connection.execute(_LOOKED_AT, [of_gap(key) | {"seen": times} for key, times in run.touched.items()])
            for outside in (_OUTSIDE, _ABSENT_OUTSIDE):
                connection.execute(outside, {"oldest": run.oldest, "horizon": run.horizon})
            connection.execute(_OLD_COMMANDS, {"before": now - KEEP_COMMANDS_S})
        return len(run.wanted)

    def _new_keys(self, connection: Connection, run: GapRun, horizon: Quarter) -> list[Key]:
        """Return the blocks to search for the first time, or again after a late event."""
        keys: list[Key] = []
        events_from = horizon
        removed = removed_meters(connection)
        for row in connection.execute(select(series)):
            last = min(horizon, removed.get(row.meter_no, horizon))
            first = max(row.first_quarter, run.oldest)
            # Quarters beyond the horizon were searched by a clock that was ahead, before their data could exist.
            begin = min(row.scanned_from, last) if row.scanned_from is not None else first
            end = min(row.scanned_until, last) if row.scanned_until is not None else first
            left = MAX_SCANNED - len(keys)
            quarters = [*range(first, begin), *range(max(end, first), last)]
            if len(quarters) > left:
                run.more = True
                # All earlier quarters wait: the searched quarters stay one range.
                quarters = [*range(max(end, first), min(last, max(end, first) + left))]
                first = begin
            if quarters or (row.scanned_until is not None and row.scanned_until > last):
                keys += [(row.meter_no, row.record_type, quarter) for quarter in quarters]
                until = max(end, quarters[-1] + 1) if quarters else end
                place = {"no": row.meter_no, "type": row.record_type, "was": row.scanned_until}
                run.scanned.append(place | {"scanned_from": min(first, begin), "scanned_until": until})
                # `series` has no record of late events before its first search: count all events.
                events_from = min([events_from, *(quarters[:1] if row.scanned_until is not None else [0])])
        run.events_from = events_from * QUARTER_S
        return keys

    def _incomplete(self, connection: Connection, run: GapRun, keys: Sequence[Key]) -> set[Key]:
        """Record the masks of incomplete blocks; return those not watched yet. Full compacted blocks are not read."""
        left = set(keys) - _full(connection, keys)
        self._recheck(connection, run, sorted(left))
        missing = {key for key in left if run.masks[key]}
        # A watched block keeps its backoff, and the slots that its gateway does not have.
        return missing - _watched_of(connection, sorted(missing))

    def _recheck(self, connection: Connection, run: GapRun, keys: Sequence[Key]) -> None:
        """Record the missing slots of the blocks, without off times and quarantined readings."""
        off = Off.read(connection, _ranges(keys))
        present = dict.fromkeys(keys, 0)
        numbers = {meter_id: number for number, (meter_id, _) in _places(connection, {k[0] for k in keys}).items()}
        for some in chunks(keys):
            quarters, meters = ({key[at] for key in some} for at in (2, 0))
            blocks = self._reader.read(connection, _PARTS_OF, listed(some), quarters=quarters, meters=meters)
            for (meter_id, record_type, quarter), mask in zip(blocks.keys(), masks(blocks).tolist(), strict=True):
                present[numbers[meter_id], record_type, quarter] = mask
        quarantined = masks_of(connection, keys)
        removed = removed_meters(connection)
        for key, mask in present.items():
            # The gateway has nothing better for slots that wait for a person's decision or were refused.
            waiting, refused = quarantined.get(key, (0, 0))
            expected = ALL_SLOTS if key[2] < removed.get(key[0], key[2] + 1) else 0
            missing = expected & ~mask & ~waiting & ~refused
            run.masks[key] = missing & ~off.mask(key[0], key[2]) if missing else 0

    @staticmethod
    def _watched(connection: Connection, run: GapRun, now: EpochSeconds) -> list[Row[Any]]:
        """Return the gaps that are due, and the gaps compacted again since the last run, up to the run's limits."""
        touched = connection.execute(_TOUCHED).all()
        run.touched = {_key(row): row.touched for row in touched}
        run.more = run.more or len(touched) == MAX_TOUCHED
        return [*connection.execute(_DUE, {"now": now, "beyond": now + LAST_BACKOFF_S}), *touched]

    @staticmethod
    def _want(connection: Connection, run: GapRun, watched: dict[Key, Row[Any]], now: EpochSeconds, most: int) -> None:
        """Choose the slots to request, of watched blocks that are due and of new ones; fewest requests first."""
        due = {key: row for key, row in watched.items() if row.is_open and is_due(row.next_time, now)}
        asked = {key: (due[key].asked, due[key].absent) if key in due else (0, 0) for key in [*due, *sorted(run.new)]}
        places = _places(connection, {key[0] for key in asked})
        stores, reasons = stores_of(connection), excused(connection, now)
        said = said_of(connection, [key for key in asked if places[key[0]][1] in stores])
        for key, (times, absent) in sorted(asked.items(), key=lambda item: (item[1][0], item[0][2], item[0])):
            mask = run.masks[key] & ~absent
            if not mask or len(run.wanted) >= most:
                continue
            meter_id, microgrid = places[key[0]]
            ask = {microgrid: mask}
            if len(several := stores.get(microgrid, ())) > 1:
                run.excused += [(key, name, ALL_SLOTS, why) for name in several if (why := reasons.get(name))]
                lacks = said[key] | {name: ALL_SLOTS for name in several if name in reasons}
                run.absent[key] = absent_at_all(lacks, several)
                ask = left_to_ask(mask & ~run.absent[key], lacks, several)
            for name, left in ask.items():
                wanted = WantedSlots(
                    microgrid=microgrid, controller=name, meter=meter_id, record_type=key[1], quarter=key[2], mask=left
                )
                run.wanted.append((key, times, wanted))


# Statements are made once: making one takes longer than executing it.

_KEY_OF_COMPACTED = (compacted.c.meter_no, compacted.c.record_type, compacted.c.quarter)
_KEY_OF_GAP = (gap.c.meter_no, gap.c.record_type, gap.c.quarter)
_NUMBERS: BindParameter[Any] = bindparam("numbers", expanding=True)
_EVENT_COUNTS = (
    select(event.c.meter_no, func.count())
    .where(event.c.meter_no.in_(_NUMBERS), event.c.time >= bindparam("since"))
    .group_by(event.c.meter_no)
)
_IDS = select(meter.c.no, meter.c.id, meter.c.microgrid).where(meter.c.no.in_(_NUMBERS))
_PARTS_OF = select_parts(lambda c: is_one_of((c.meter_no, c.record_type, c.quarter)))
_FULL = select(*_KEY_OF_COMPACTED).where(
    is_one_of(_KEY_OF_COMPACTED), compacted.c.exact + compacted.c.averaged == SLOTS
)
_WATCHED = select(*_KEY_OF_GAP).where(is_one_of(_KEY_OF_GAP))
_DUE = (
    select(gap)
    .where(gap.c.is_open, (gap.c.next_time <= bindparam("now")) | (gap.c.next_time > bindparam("beyond")))
    .order_by(gap.c.asked, gap.c.quarter, gap.c.meter_no, gap.c.record_type)
    .limit(MAX_ASKED)
)
_TOUCHED = select(gap).where(gap.c.touched > 0).order_by(*_KEY_OF_GAP).limit(MAX_TOUCHED)
_SCANNED = series.update().where(
    series.c.meter_no == bindparam("no"),
    series.c.record_type == bindparam("type"),
    series.c.scanned_until.is_not_distinct_from(bindparam("was")),
)
_ASKED = gap.update().where(IS_GAP)
# A block compacted after its check keeps its count, and is checked again.
_LOOKED_AT = gap.update().where(IS_GAP, gap.c.touched == bindparam("seen")).values(touched=0)
_FOUND = delete(gap).where(is_one_of(_KEY_OF_GAP))
# Those too young were found by a clock that was ahead; they are looked through when it is their time.
_OUTSIDE = delete(gap).where((gap.c.quarter < bindparam("oldest")) | (gap.c.quarter >= bindparam("horizon")))
_ABSENT_OUTSIDE = delete(absent_at).where(
    (absent_at.c.quarter < bindparam("oldest")) | (absent_at.c.quarter >= bindparam("horizon"))
)
_OLD_COMMANDS = delete(command).where(
    command.c.state != "open", command.c.until < bindparam("before"), command.c.id.startswith(GAP_PREFIX)
)


@cache
def _watch(dialect: str) -> Insert:
    """Keep what blocks miss; what is watched already keeps its backoff, and what its gateway was found not to have."""
    statement = insert_in(dialect, gap)
    mask = statement.excluded.mask
    still_open = mask.bitwise_and(gap.c.absent.bitwise_not())
    return statement.on_conflict_do_update(
        index_elements=list(gap.primary_key), set_={"mask": mask, "is_open": still_open != 0}
    )


def _ranges(keys: Iterable[Key]) -> dict[int, tuple[Quarter, Quarter]]:
    """Return the range of quarters that each meter's keys span."""
    ranges: dict[int, tuple[Quarter, Quarter]] = {}
    for number, _, quarter in keys:
        first, end = ranges.get(number, (quarter, quarter + 1))
        ranges[number] = min(first, quarter), max(end, quarter + 1)
    return ranges


def _event_counts(connection: Connection, run: GapRun) -> dict[int, int]:
    """Count the events that affect the quarters of the run, by meter."""
    counts: dict[int, int] = {}
    for some in chunks(sorted({row["no"] for row in run.scanned})):
        counts |= dict(connection.execute(_EVENT_COUNTS, {"numbers": some, "since": run.events_from}).all())
    return counts


def _places(connection: Connection, numbers: Iterable[int]) -> dict[int, tuple[MeterId, MicrogridId]]:
    """Return id and microgrid of meters, by their numbers."""
    return {
        row.no: (unsigned64(row.id), row.microgrid)
        for some in chunks(sorted(numbers))
        for row in connection.execute(_IDS, {"numbers": some})
    }


def _full(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    """Return the blocks that are compacted and complete."""
    found: set[Key] = set()
    for some in chunks(keys):
        found |= {_key(row) for row in connection.execute(_FULL, listed(some))}
    return found


def _key(row: Any) -> Key:
    return row.meter_no, row.record_type, row.quarter


def _watched_of(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    return {_key(row) for some in chunks(keys) for row in connection.execute(_WATCHED, listed(some))}


def _save_scanned(connection: Connection, run: GapRun) -> None:
    """Record the searched quarters, except of meters with an event since the search: they are searched again."""
    now = _event_counts(connection, run)
    rows = [row for row in run.scanned if now.get(row["no"]) == run.events.get(row["no"])]
    if rows:
        connection.execute(_SCANNED, rows)


def _save_masks(connection: Connection, run: GapRun, now: EpochSeconds) -> None:
    """Watch incomplete blocks, and stop watching complete ones."""
    new = {"absent": 0, "asked": 0, "next_time": now, "is_open": True}
    names = ("meter_no", "record_type", "quarter")
    missing = [dict(zip(names, key, strict=True)) | {"mask": mask} | new for key, mask in run.masks.items() if mask]
    if missing:
        connection.execute(_watch(connection.dialect.name), missing)
    for some in chunks([key for key, mask in run.masks.items() if not mask]):
        connection.execute(_FOUND, listed(some))
        forget(connection, some)


def _give_out(connection: Connection, wanted: Sequence[WantedSlots], now: EpochSeconds, store_id: int) -> None:
    """Add the commands. Their ids contain the store's id, so that a new database repeats no id a gateway has seen."""
    first = int(read_setting(connection, _NUMBER) or 1)
    ids = (f"{GAP_PREFIX}{store_id:x}-{number}" for number in count(first))
    given = 0
    epochs = {name: kept.adopted for name, kept in load_granted(connection).items()}
    for controller, request in requests(wanted, now, ids, epochs):
        send(connection, controller, request, now)
        given += 1
    if given:
        save_setting(connection, _NUMBER, str(first + given))
