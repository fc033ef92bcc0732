"""Recorded sharing: which microgrids' quarters are due, and the versions of each (C2).

The compactor marks a microgrid's quarter as due when its readings are joined, also when late ones come. The job of
sharing computes it, and deletes the mark if nothing was joined meanwhile.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter, unsigned64
from utility.jobs.store import unmark
from utility.jobs.tables import sharing_due
from utility.readings.store.retention import kept_from
from utility.registry.tables import controller, meter
from utility.settlement.shared_quarter import QuarterShare, SharedQuarter
from utility.settlement.tables import sharing, sharing_quarter

MAX_DUE = 200  # most microgrid quarters computed in one step; other jobs' steps come between


@dataclass(frozen=True, kw_only=True)
class Due:
    """A microgrid's quarter to compute."""

    quarter: Quarter  # the quarter
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked


def due(connection: Connection, before: Quarter, after: tuple[Quarter, int]) -> list[Due]:
    """Return the marked quarters before ``before``, in order, that come after the key ``after``."""
    c = sharing_due.c
    later = (c.quarter > after[0]) | ((c.quarter == after[0]) & (c.owner_no > after[1]))
    statement = select(sharing_due).where(c.quarter < before, later).order_by(c.quarter, c.owner_no).limit(MAX_DUE)
    return [Due(**row) for row in connection.execute(statement).mappings()]


def forget_dropped(connection: Connection) -> None:
    """Delete the marks of quarters whose readings, or levels before, are no longer kept: what is recorded stays."""
    connection.execute(sharing_due.delete().where(sharing_due.c.quarter <= kept_from(connection)))


def save_sharing(connection: Connection, found: Sequence[tuple[Due, SharedQuarter]], now: EpochSeconds) -> None:
    """Store what was computed as a new version where it differs from the last one."""
    for one, result in found:
        _save(connection, one, result, now)
    unmark(connection, sharing_due, [one for one, _ in found])


def _save(connection: Connection, one: Due, result: SharedQuarter, now: EpochSeconds) -> None:
    version, last = _last(connection, one.quarter, one.owner_no)
    if (version == 0 and not result.given) or last == result:
        return
    key = {"quarter": one.quarter, "owner_no": one.owner_no, "version": version + 1}
    total = sum(result.given.values())
    row = key | {"computed": now, "complete": result.complete, "shared": total}
    connection.execute(sharing_quarter.insert().values(row))
    rows = [
        key | {"meter_no": no, "given": result.given.get(no, 0), "received": result.received.get(no, 0)}
        for no in sorted({*result.given, *result.received})
    ]
    if rows:
        connection.execute(sharing.insert(), rows)


def _last(connection: Connection, quarter: Quarter, owner_no: int) -> tuple[int, SharedQuarter | None]:
    """Return the last version of a microgrid's quarter; 0: there is none."""
    c = sharing_quarter.c
    ours = (c.quarter == quarter) & (c.owner_no == owner_no)
    row = connection.execute(select(sharing_quarter).where(ours).order_by(c.version.desc()).limit(1)).first()
    if row is None:
        return 0, None
    s = sharing.c
    rows = connection.execute(
        select(sharing).where(s.quarter == quarter, s.owner_no == owner_no, s.version == row.version)
    ).all()
    return row.version, SharedQuarter(
        given={each.meter_no: each.given for each in rows if each.given},
        received={each.meter_no: each.received for each in rows if each.received},
        complete=row.complete,
    )


def recorded(
    connection: Connection, first: Quarter, last: Quarter, microgrid: MicrogridId | None, limit: int
) -> list[dict[str, Any]]:
    """Return the newest version of each microgrid's quarter with sharing, newest quarter first."""
    c = sharing_quarter.c
    newest = select(c.quarter, c.owner_no, func.max(c.version).label("version")).group_by(c.quarter, c.owner_no)
    of = newest.where(c.quarter.between(first, last)).subquery()
    statement = (
        select(sharing_quarter, controller.c.id.label("microgrid"))
        .join(of, (of.c.quarter == c.quarter) & (of.c.owner_no == c.owner_no) & (of.c.version == c.version))
        .join(controller, controller.c.number == c.owner_no)
        .order_by(c.quarter.desc(), c.owner_no)
        .limit(limit)
    )
    if microgrid is not None:
        statement = statement.where(controller.c.id == microgrid)
    return [_shown(connection, row) for row in connection.execute(statement).all()]


def shared_by_meter(connection: Connection, microgrids: Collection[MicrogridId], quarters: range) -> list[QuarterShare]:
    """Return what the batteries of some microgrids gave and received, by the newest versions of their quarters."""
    c, s = sharing_quarter.c, sharing.c
    owners = connection.execute(select(controller.c.number).where(controller.c.id.in_(microgrids))).scalars().all()
    # Each quarter by its key: a range would read the quarters of all microgrids.
    newest = select(c.quarter, c.owner_no, func.max(c.version).label("version")).group_by(c.quarter, c.owner_no)
    of = newest.where(c.quarter.in_(quarters), c.owner_no.in_(owners)).subquery()
    key = (of.c.quarter == s.quarter) & (of.c.owner_no == s.owner_no) & (of.c.version == s.version)
    columns = (s.quarter, s.given, s.received, meter.c.id, meter.c.location, controller.c.id.label("microgrid"))
    statement = select(*columns).join(of, key).join(meter, meter.c.no == s.meter_no)
    statement = statement.join(controller, controller.c.number == s.owner_no)
    return [
        QuarterShare(
            quarter=row.quarter,
            meter=unsigned64(row.id),
            place=(row.microgrid, row.location),
            given=row.given,
            received=row.received,
        )
        for row in connection.execute(statement)
    ]


def _shown(connection: Connection, row: Any) -> dict[str, Any]:
    s = sharing.c
    ours = (s.quarter == row.quarter) & (s.owner_no == row.owner_no) & (s.version == row.version)
    statement = select(meter.c.label, s.given, s.received).join(meter, meter.c.no == s.meter_no).where(ours)
    meters = [dict(each) for each in connection.execute(statement.order_by(s.meter_no)).mappings()]
    return {
        "microgrid": row.microgrid,
        "start": row.quarter * QUARTER_S,
        "version": row.version,
        "computed": row.computed,
        "complete": row.complete,
        "shared": row.shared,
        "meters": [{"meter": each.pop("label"), **each} for each in meters],
    }
