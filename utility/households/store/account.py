"""What the registry and meters say of one account's meters, its issued bills, and the bases of its next bill."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, select

from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.model.records import RecordType
from commonwatt.model.units import AccountNumber, EpochSeconds, MilliwattHours
from utility.billing.tables import bill, bill_run
from utility.registry.tables import meter, present_minimum


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What is registered of a meter, and what it reported."""

    id: MeterId  # its id
    kinds: frozenset[RecordType]  # its record types
    capacity: MilliwattHours | None  # capacity of the battery behind it; ``None``: no battery
    minimum: int | None  # the minimum in the registry, percent; ``None``: none
    declared: int | None  # the minimum that the meter reported (T6), percent; ``None``: it did not report one yet
    declared_at: EpochSeconds | None  # when it reported it


def registered(connection: Connection, ids: Collection[MeterId]) -> dict[MeterId, Registered]:
    """Return what is registered of some meters of one account, by id."""
    columns = (meter.c.id, meter.c.record_types, meter.c.battery_capacity, meter.c.minimum_percent)
    statement = select(*columns, present_minimum.c.percent, present_minimum.c.said).outerjoin(present_minimum)
    rows = connection.execute(statement.where(meter.c.id.in_([signed64(one) for one in ids])))
    found = [
        Registered(
            id=unsigned64(row.id),
            kinds=frozenset(RecordType(int(kind)) for kind in row.record_types.split(",")),
            capacity=row.battery_capacity,
            minimum=row.minimum_percent,
            declared=row.percent,
            declared_at=row.said,
        )
        for row in rows
    ]
    return {one.id: one for one in found}


def bases_of(connection: Connection, accounts: Collection[AccountNumber]) -> dict[AccountNumber, Decimal]:
    """Return the own bases that some accounts have after the newest issued bills, dollars."""
    newest = select(bill_run.c.no).where(bill_run.c.state == "issued").order_by(bill_run.c.month.desc()).limit(1)
    its = (bill.c.run_no == newest.scalar_subquery()) & bill.c.account.in_(accounts) & bill.c.base.is_not(None)
    rows = connection.execute(select(bill.c.account, bill.c.base).where(its))
    return {row.account: Decimal(row.base) for row in rows}
