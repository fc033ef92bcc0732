"""Where runs of bills get the registry with its dates and the settled quarter-hours."""

from decimal import Decimal

from sqlalchemy import Connection, select

from utility.billing.inputs import Load, RunInputs
from utility.billing.tables import bill, bill_run
from utility.database.database import Database
from utility.database.town_zone import timezone_of
from utility.registry.accounts import DatedRegistry
from utility.registry.store.accounts import load_dated_registry as load_registry
from utility.registry.store.accounts import load_registry_around
from utility.settlement.store.settled import load_settled
from utility.settlement.store.settled import newest as newest_settled
from utility.tariffs.store import published

__all__ = ["inputs_of", "load_registry", "load_registry_around", "newest_settled", "settled_as_of"]


def settled_as_of(database: Database, number: int) -> Load:
    """Return a function that loads settled quarter-hours as they were at a row number."""
    return lambda meters, first, until: database.read(load_settled, meters, first, until, as_of=number)


def inputs_of(connection: Connection, month: str, registry: DatedRegistry, default: str) -> RunInputs:
    """Return the inputs of a month's bills of some microgrids with what is known now; ``registry`` has them alone."""
    zone, tariffs = timezone_of(connection), published(connection)
    newest = select(bill_run.c.no).where(bill_run.c.state == "issued").order_by(bill_run.c.month.desc()).limit(1)
    its = (bill.c.run_no == newest.scalar_subquery()) & bill.c.account.in_(registry.accounts) & bill.c.base.is_not(None)
    rows = connection.execute(select(bill.c.account, bill.c.base).where(its))
    bases = {row.account: Decimal(row.base) for row in rows}
    return RunInputs(month=month, timezone=zone, registry=registry, tariffs=tariffs, default=default, bases=bases)
