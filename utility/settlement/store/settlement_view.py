"""What people and metrics see of settlement: residuals, versions, counts."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import groupby, pairwise

from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from commonwatt.model.ids import MeterId, signed64
from commonwatt.settlement.residual import DayResidual, Stretch
from utility.jobs.reasons import Why
from utility.jobs.tables import settled_day
from utility.registry.layout import Day
from utility.registry.tables import controller, meter
from utility.settlement.store.settled import newest
from utility.settlement.tables import settled

RESIDUAL_DAYS = 31  # days back over which the residual is cumulated for the alarm


class Residual(BaseModel):
    """What a microgrid's members took beyond what its boundary shows, over the last 31 days."""

    microgrid: str
    cumulated: int = Field(description="Since the last day without a settlement, milliwatt-hours.")
    excess: int = Field(description="Beyond what rounded readings explain, mWh: theft, a damaged meter or a setting.")
    days: int = Field(description="Settled days.")


def residuals(connection: Connection, first: Day, last: Day) -> list[Residual]:
    """Return the residuals of the microgrids over the days ``first`` to ``last``, the worst first."""
    c = settled_day.c
    statement = select(c.day, c.residual, controller.c.id).join(controller, controller.c.number == c.owner_no)
    statement = statement.where(c.day.between(first, last)).order_by(controller.c.id, c.day)
    found = []
    for name, of in groupby(connection.execute(statement), key=lambda row: row.id):
        days = list(of)
        one = _residual(days[0].residual)
        for before, after in pairwise(days):
            # A day without a settlement ends a stretch.
            one = one if before.day == after.day - 1 else one.then(DayResidual(head=Stretch(), tail=Stretch(), fixed=0))
            one = one.then(_residual(after.residual))
        cumulated = (one.tail or one.head).residual
        found.append(Residual(microgrid=name, cumulated=cumulated, excess=one.excess, days=len(days)))
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
