"""What people and metrics see of settlement: residuals, versions, counts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, func, select

from commonwatt.model.ids import MeterId, signed64
from commonwatt.model.units import MilliwattHours
from commonwatt.settlement.residual import DayResidual, Stretch
from utility.jobs.reasons import Why
from utility.jobs.tables import settled_day
from utility.registry.layout import Day
from utility.registry.tables import controller, meter
from utility.settlement.store.settled import newest
from utility.settlement.tables import settled

RESIDUAL_DAYS = 31  # days back over which the residual is cumulated for the alarm


@dataclass(frozen=True, kw_only=True)
class Residual:
    """The residual of a microgrid over some days."""

    microgrid: str  # its name
    # The residual of the last stretch without a gap, milliwatt-hours; above 0: members took more than the boundary
    # shows.
    cumulated: MilliwattHours
    excess: MilliwattHours  # by how much a stretch is beyond its bound; not above 0: all are within
    days: int  # how many days were settled


def residuals(connection: Connection, first: Day, last: Day) -> list[Residual]:
    """Return the residuals of the microgrids over the days ``first`` to ``last``, the worst first."""
    c = settled_day.c
    statement = select(c.day, c.residual, controller.c.id).join(controller, controller.c.number == c.owner_no)
    statement = statement.where(c.day.between(first, last)).order_by(controller.c.id, c.day)
    so_far: dict[str, tuple[DayResidual, Day, int]] = {}
    for row in connection.execute(statement):
        one = _residual(row.residual)
        if row.id in so_far:
            before, day, count = so_far[row.id]
            # A day without a settlement ends a stretch.
            gap = DayResidual(head=Stretch(), tail=Stretch(), fixed=0)
            before = before if day == row.day - 1 else before.then(gap)
            so_far[row.id] = before.then(one), row.day, count + 1
        else:
            so_far[row.id] = one, row.day, 1
    found = [
        Residual(microgrid=name, cumulated=(one.tail or one.head).residual, excess=one.excess, days=count)
        for name, (one, _, count) in so_far.items()
    ]
    return sorted(found, key=lambda each: (-each.excess, each.microgrid))


def versions_of(connection: Connection, meter_id: MeterId, first: Day, last: Day) -> list[dict[str, object]]:
    """Return the versions of a meter's settled days, newest first."""
    c = settled.c
    statement = select(settled).join(meter, meter.c.no == c.meter_no).where(meter.c.id == signed64(meter_id))
    statement = statement.where(c.day.between(first, last)).order_by(c.day.desc(), c.version.desc())
    return [
        {
            "day": date(1970, 1, 1) + timedelta(days=row.day),
            "version": row.version,
            "computed": row.computed_minute * 60,
            "why": Why(row.why).words,
            "bytes": len(row.payload),
        }
        for row in connection.execute(statement)
    ]


def counts(connection: Connection) -> Mapping[str, int]:
    """Return counts for people: settled and provisional microgrid-days, versions, the first and the last day."""
    c = settled_day.c
    days, provisional, first, last = connection.execute(
        select(func.count(), func.count().filter(~c.final), func.min(c.day), func.max(c.day))
    ).one()
    return {
        "days": days,
        "provisional": provisional,
        "versions": newest(connection),
        "first": first or 0,
        "last": last or 0,
    }


def _residual(kept: str) -> DayResidual:
    it = json.loads(kept)
    tail = None if it["tail"] is None else Stretch(**it["tail"])
    return DayResidual(head=Stretch(**it["head"]), tail=tail, worst=it["worst"], fixed=it["fixed"])
