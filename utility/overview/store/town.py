"""What the page of the town shows: last reports, energy by quarter-hour, and counts of what waits for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, func, literal, select, tuple_

from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds, MicrogridId, Quarter, quarter_of
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import Function
from utility.billing.store.entries import count_entered
from utility.billing.store.runs import count_runs
from utility.cliques.store import newest
from utility.corrections.store.checking import count_open
from utility.corrections.store.corrections import MAX_BLOCKS, Page, block_of, count_proposed, series_of
from utility.database.bulk import is_one_of, listed
from utility.database.database import Database
from utility.overview.microgrids import MicrogridFacts
from utility.readings.store.gaps import sound_events
from utility.readings.store.gateways import heartbeat_of
from utility.readings.store.quarantine import count_quarantined
from utility.readings.tables import compacted, event, gap, gateway_seen, tally
from utility.registry.store.registry import count_of_differences
from utility.registry.store.statements import spared_places
from utility.registry.tables import controller, installed, meter
from utility.research.store import count_releases
from utility.tariffs.store import count_proposals

_ONLY: Any = bindparam("only", expanding=True)
_REMOVED = select(installed.c.meter).where(installed.c.until <= bindparam("quarter"))
_LACKING = select(meter.c.microgrid).where(meter.c.id.in_(_REMOVED)).distinct()
_PRESENT = select(meter.c.microgrid).where(meter.c.id.not_in(_REMOVED)).distinct()


_EVENTS = (
    select(event).where(is_one_of((event.c.meter_no, event.c.time))).order_by(event.c.generation, event.c.record_id)
)


@dataclass(frozen=True, kw_only=True)
class _Statements:
    """The selects of what was last received, of all microgrids or of those in ``:only``."""

    controllers: Any
    seen: Any
    batches: Any
    gaps: Any
    conflicts: Any
    boundary: Any


@cache
def _statements(*, of_some: bool) -> _Statements:
    """Return the selects; made once, since making one takes longer than executing it."""

    def of(statement: Any, name: Any) -> Any:
        return statement.where(name.in_(_ONLY)) if of_some else statement

    last = select(func.max(event.c.time)).where(event.c.meter_no == meter.c.no).scalar_subquery()
    # In two steps: in one, SQLite would read every event there is.
    boundary = select(meter.c.no, meter.c.microgrid, last.label("last"))
    boundary = boundary.where(meter.c.function == Function.BOUNDARY.value, meter.c.id.not_in(_REMOVED))
    gaps = select(meter.c.microgrid, func.count()).join(gap, meter.c.no == gap.c.meter_no).where(gap.c.is_open)
    conflicts = (
        select(controller.c.id, func.sum(compacted.c.conflicts, type_=BigInteger))
        .join(compacted, compacted.c.owner_no == controller.c.number)
        .where(compacted.c.conflicts > 0)
        .group_by(controller.c.id)
    )
    return _Statements(
        controllers=of(select(controller).order_by(controller.c.number), controller.c.id),
        seen=of(select(gateway_seen), gateway_seen.c.controller),
        batches=of(select(tally.c.controller, tally.c.last_batch), tally.c.controller),
        gaps=of(gaps.group_by(meter.c.microgrid), meter.c.microgrid),
        conflicts=of(conflicts, controller.c.id),
        boundary=of(boundary, meter.c.microgrid),
    )


def microgrids(
    connection: Connection,
    now: EpochSeconds,
    refused: Mapping[str, tuple[int, str]] | None = None,
    only: Sequence[MicrogridId] | None = None,
    unmanaged: Mapping[str, float] | None = None,
) -> list[MicrogridFacts]:
    """Return what was last received of each microgrid, in the order of the controllers' numbers.

    Args:
        now: The time: meters that were removed before tell nothing of the boundary.
        refused: (time, reason) of the last refused batch, by controller.
        only: The names of those wanted; ``None``: all.
        unmanaged: For how many seconds no controller that can command a microgrid was heard.
    """
    wanted, which = _statements(of_some=only is not None), {} if only is None else {"only": only}
    seen = {row.controller: row for row in connection.execute(wanted.seen, which)}
    batches: dict[str, int] = dict(connection.execute(wanted.batches, which).all())
    gaps: dict[str, int] = dict(connection.execute(wanted.gaps, which).all())
    conflicts: dict[str, int] = dict(connection.execute(wanted.conflicts, which).all())
    meters = connection.execute(wanted.boundary, which | {"quarter": quarter_of(now)}).all()
    boundary = _boundaries(connection, meters)
    closed = _closed(connection, quarter_of(now))
    lasts = newest(connection, only).items()
    managers = {name: last.controller for name, last in lasts if last.controller != last.microgrid}
    if elsewhere := set(managers.values()) - seen.keys():
        hosts = select(gateway_seen).where(gateway_seen.c.controller.in_(elsewhere))
        seen |= {row.controller: row for row in connection.execute(hosts)}
    found = []
    for row in connection.execute(wanted.controllers, which):
        last, batch = seen.get(row.id), batches.get(row.id) or None
        bits, since = boundary.get(row.id, (0, None))
        at, why = (refused or {}).get(row.id, (0, ""))
        found.append(
            MicrogridFacts(
                microgrid=row.id,
                number=row.number,
                kind=row.kind,
                seen=None if last is None else last.time,
                heartbeat=_heartbeat(row.id, last, seen.get(managers.get(row.id, ""))),
                last_batch=batch,
                open_gaps=gaps.get(row.id, 0),
                conflicts=conflicts.get(row.id, 0),
                boundary=bits,
                boundary_since=since,
                refused=why if at > (batch or 0) else None,
                manager=managers.get(row.id),
                unmanaged_s=int((unmanaged or {}).get(row.id, 0)),
                is_closed=row.id in closed,
            )
        )
    return found


def following(connection: Connection, after: int, most: int) -> list[MicrogridId]:
    """Return the names of up to ``most`` microgrids, by the numbers of their controllers, after that number."""
    c = controller.c
    return list(connection.execute(select(c.id).where(c.number > after).order_by(c.number).limit(most)).scalars())


def _heartbeat(microgrid: MicrogridId, last: Row[Any] | None, host: Row[Any] | None) -> Heartbeat | None:
    """Return a gateway's last heartbeat, with batteries and power as the controller says that manages for it."""
    own, said = (None if row is None else heartbeat_of(row.heartbeat) for row in (last, host))
    if own is None or said is None or (energy := said.hosted.get(microgrid)) is None or said.time < own.time:
        return own
    return own.model_copy(update={"time": said.time, **dict(energy)})


def _closed(connection: Connection, quarter: Quarter) -> set[str]:
    """Return the microgrids whose meters were all removed."""
    which = {"quarter": quarter}
    lacking = set(connection.execute(_LACKING, which).scalars())
    return lacking - set(connection.execute(_PRESENT, which).scalars()) if lacking else lacking


def _boundaries(connection: Connection, meters: Iterable[Row[Any]]) -> dict[str, tuple[int, int]]:
    """Return by microgrid the bits of its boundary's last events that tell of an island, and their time."""
    telling = int(State.OFF_GRID | State.DEAD_FEEDER | State.SWITCH_OPEN | State.ISOLATED)
    of = {row.no: row for row in meters if row.last is not None}
    rows = connection.execute(_EVENTS, listed([(row.no, row.last) for row in of.values()])) if of else ()
    last: dict[int, Any] = {row.meter_no: row for row in sound_events(rows)}
    found: dict[str, tuple[int, int]] = {}
    for row in last.values():
        name = of[row.meter_no].microgrid
        bits, since = found.get(name, (0, 0))
        found[name] = bits | row.new_state & telling, max(since, row.time)
    return found


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Quarter-hours in a row of one meter and record type with slots that are requested."""

    microgrid: str  # the microgrid
    meter: str  # the meter's id
    record_type: int  # the record type
    first: Quarter  # the first quarter
    until: Quarter  # the quarter after the last
    slots: int  # slots that are requested
    absent: int  # slots that the gateway reported not to have
    asked: int  # most requests of a quarter-hour
    next_time: int  # the earliest time of the next request


def counts(database: Database) -> dict[str, int]:
    """Return how much waits for a person: readings, corrections (quarter-hours), findings, gaps, accounts, and more.

    The kinds that a person decides are ``utility.overview.inbox.DECISIONS``.
    """
    with database.reads.begin() as connection:
        runs = count_runs(connection)
        return {
            "drafts": runs.get("draft", 0),
            "checked": runs.get("checked", 0),
            "entries": count_entered(connection),
            "tariffs": count_proposals(connection),
            "requests": count_releases(connection, "asked"),
            "releases": count_releases(connection, "waiting"),
            "spared": sum(each.wanted is not None for each in spared_places(connection).values()),
            "readings": count_quarantined(connection),
            "corrections": count_proposed(connection),
            "findings": sum(count_open(connection).values()),
            "gaps": connection.execute(select(func.count()).select_from(gap).where(gap.c.is_open)).scalar_one(),
            "accounts": count_of_differences(connection),
        }


def gaps_page(connection: Connection, meter_no: int | None, limit: int, after: str = "") -> Page:
    """Return gaps that are requested, by meter and time; arguments as those of ``corrections_page``."""
    c = gap.c
    statement = select(gap, meter.c.label, meter.c.microgrid).join(meter, meter.c.no == c.meter_no).where(c.is_open)
    if meter_no is not None:
        statement = statement.where(c.meter_no == meter_no)
    if after:
        block = tuple_(*map(literal, block_of(after)))
        statement = statement.where(tuple_(c.meter_no, c.record_type, c.quarter) > block)
    statement = statement.order_by(c.meter_no, c.record_type, c.quarter).limit(MAX_BLOCKS + 1)
    lines: list[Gaps] = []
    last: tuple[int, int, int] | None = None
    for n, row in enumerate(connection.execute(statement)):
        is_next = last is not None and series_of(row) == (*last[:2], last[2] + 1)
        if n == MAX_BLOCKS or (not is_next and len(lines) == limit):
            return Page(rows=lines, after=".".join(map(str, last or ())))
        lines[len(lines) - is_next :] = [_joined(lines[-1] if is_next else None, row)]
        last = series_of(row)
    return Page(rows=lines, after="")


def _joined(before: Gaps | None, row: Any) -> Gaps:
    slots, absent = (row.mask & ~row.absent).bit_count(), row.absent.bit_count()
    return Gaps(
        microgrid=row.microgrid,
        meter=row.label,
        record_type=row.record_type,
        first=row.quarter if before is None else before.first,
        until=row.quarter + 1,
        slots=slots + (before.slots if before else 0),
        absent=absent + (before.absent if before else 0),
        asked=max(row.asked, before.asked if before else 0),
        next_time=min(row.next_time, before.next_time) if before else row.next_time,
    )
