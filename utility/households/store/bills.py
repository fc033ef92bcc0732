"""The bill so far of an account: computed for its microgrids together, and kept for some minutes."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from commonwatt.model.time.local_calendar import month_of
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter, quarter_of
from utility.billing.bill import Bill
from utility.billing.inputs import RunInputs
from utility.billing.so_far import SoFar, bills_so_far
from utility.billing.store.billing_sources import newest_settled, settled_as_of
from utility.billing.tables import bill, bill_run
from utility.database.database import Database
from utility.database.town_zone import timezone_of
from utility.households.store.home import Home
from utility.tariffs.store.tariffs import published

KEPT_S = 300  # seconds for which a computed bill is shown again, with its age
MOST_KEPT = 64  # most sets of microgrids whose bills are kept; the one used longest ago is dropped


@dataclass(frozen=True, kw_only=True)
class BillSoFar:
    """The bill of a month that is not over."""

    bill: Bill  # the bill; its base is that of the whole month, its energy that of the settled quarters
    until: Quarter  # the quarter after the last settled one
    computed: EpochSeconds  # when it was computed


class BillsSoFar:
    """Computes bills so far, and keeps them.

    Args:
        tariff: The name of the tariff of accounts without one.
    """

    def __init__(self, database: Database, tariff: str) -> None:
        self._database = database
        self._tariff = tariff
        # Computing one at a time: a building's three hundred residents share one result.
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, frozenset[MicrogridId]], tuple[EpochSeconds, SoFar]] = OrderedDict()

    def of(self, home: Home, now: EpochSeconds) -> BillSoFar | None:
        """Return the bill of an account for the present month; ``None``: nothing of it is settled yet.

        Raises:
            ConfigError: No tariff is in force for an account of its microgrids.
        """
        microgrids = frozenset(meter.microgrid for meter in home.registry.meters.values())
        with self._lock:
            computed, found = self._found(home, microgrids, now)
        number = home.account.number
        if number not in found.until:
            return None
        return BillSoFar(bill=found.bills[number], until=found.until[number], computed=computed)

    def _found(self, home: Home, microgrids: frozenset[MicrogridId], now: EpochSeconds) -> tuple[EpochSeconds, SoFar]:
        with self._database.reads.begin() as connection:
            timezone = timezone_of(connection)
            month = month_of(quarter_of(now), ZoneInfo(timezone))
            key = (month, microgrids)
            known = self._kept.get(key)
            if known is not None and 0 <= now - known[0] < KEPT_S:
                self._kept.move_to_end(key)
                return known
            inputs = RunInputs(
                month=month,
                timezone=timezone,
                registry=home.registry,
                tariffs=published(connection),
                default=self._tariff,
                bases=_bases_of(connection, home.registry.accounts.keys()),
            )
            newest = newest_settled(connection)
        self._kept[key] = now, bills_so_far(inputs, settled_as_of(self._database, newest))
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


def _bases_of(connection: Connection, accounts: Collection[AccountNumber]) -> dict[AccountNumber, Decimal]:
    """Return the own bases that some accounts have after the newest issued bills, dollars."""
    newest = select(bill_run.c.no).where(bill_run.c.state == "issued").order_by(bill_run.c.month.desc()).limit(1)
    its = (bill.c.run_no == newest.scalar_subquery()) & bill.c.account.in_(accounts) & bill.c.base.is_not(None)
    rows = connection.execute(select(bill.c.account, bill.c.base).where(its))
    return {row.account: Decimal(row.base) for row in rows}
