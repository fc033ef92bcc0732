"""What the page of one meter shows beside its series: its row, its events, its exchange, its conflicts."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from commonwatt.model.ids import MeterId, signed64
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, Quarter
from utility.registry.store.accounts import changes_of
from utility.registry.tables import controller, declared_minimum, holding, installed, meter

MAX_MINIMA = 20  # most reported minima of a meter that its page shows


@dataclass(frozen=True, kw_only=True)
class MeterFacts:
    """A registered meter."""

    id: MeterId  # its id
    number: int  # its number in the database
    owner: int  # the number of its microgrid's controller
    microgrid: str  # its microgrid
    location: str  # its place
    function: str  # the kind of place
    direction: str  # the direction that it measures
    record_types: tuple[RecordType, ...]  # what it records
    service_amps: int  # the service that it measures
    capacity: int | None  # the capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    # The sharing minima that it reported, percent, each with the time of its first report, newest first.
    minima: tuple[tuple[int, EpochSeconds], ...]
    since: EpochSeconds | None  # when it was installed; ``None``: from the beginning
    until: EpochSeconds | None  # when it was taken out; ``None``: it is there


def meter_facts(connection: Connection, meter_id: MeterId) -> MeterFacts | None:
    """Return a registered meter; ``None``: there is none of this id."""
    statement = select(meter, controller.c.number, installed.c.since, installed.c.until)
    statement = statement.join(controller, controller.c.id == meter.c.microgrid)
    statement = statement.outerjoin(installed, installed.c.meter == meter.c.id)
    row = connection.execute(statement.where(meter.c.id == signed64(meter_id))).first()
    if row is None:
        return None
    minima = select(declared_minimum).where(declared_minimum.c.meter_no == row.no)
    minima = minima.order_by(declared_minimum.c.said.desc()).limit(MAX_MINIMA)
    known = {int(kind) for kind in RecordType}
    return MeterFacts(
        id=meter_id,
        number=row.no,
        owner=row.number,
        microgrid=row.microgrid,
        location=row.location,
        function=row.function,
        direction=row.direction,
        record_types=tuple(RecordType(int(k)) for k in row.record_types.split(",") if int(k) in known),
        service_amps=row.service_amps,
        capacity=row.battery_capacity,
        minima=tuple((each.percent, each.said) for each in connection.execute(minima)),
        since=_time(row.since),
        until=_time(row.until),
    )


def holder_at(connection: Connection, number: int, quarter: Quarter) -> AccountNumber | None:
    """Return the account that had a meter in a quarter; ``None``: none had it."""
    c = holding.c
    held = (c.meter == number) & (c.since <= quarter) & (c.until.is_(None) | (c.until > quarter))
    found: int | None = connection.execute(select(c.account).where(held)).scalar()
    return None if found is None else AccountNumber(found)


def exchange_history(connection: Connection, facts: MeterFacts, limit: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the meters that were at a meter's place, oldest first, and the newest changes that people made to it."""
    at_place = (meter.c.microgrid == facts.microgrid) & (installed.c.place == facts.location)
    same = (meter.c.direction == facts.direction) & (meter.c.function == facts.function)
    statement = select(installed, meter.c.label).join(meter, meter.c.id == installed.c.meter).where(at_place, same)
    rows = connection.execute(statement.order_by(meter.c.no)).mappings()
    found = [
        {
            "meter": row["label"],
            "since": _time(row["since"]),
            "until": _time(row["until"]),
            "first_register": row["first_register"],
            "last_register": row["last_register"],
        }
        for row in rows
    ]
    ordered = sorted(found, key=lambda each: each["since"] or 0)
    return ordered, changes_of(connection, [f"meter {facts.id}"], limit)


def _time(quarter: Quarter | None) -> EpochSeconds | None:
    return None if quarter is None else quarter * QUARTER_S
