"""The bill so far of an account: computed for its microgrids together, and kept for some minutes."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, reduce
from threading import Lock

from commonwatt.config.utility import SettlementSettings
from commonwatt.model.ids import MeterId
from commonwatt.model.time.local_calendar import local_day, month_of
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter, quarter_of
from commonwatt.settlement.settled import QUARTERS_A_DAY, SettledQuarters
from utility.billing.bill import Bill
from utility.billing.so_far import SoFar, bills_so_far, grown
from utility.billing.store.billing_sources import inputs_of, newest_settled, settled_as_of
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.households.store.home import Home
from utility.households.store.today import day_around
from utility.settlement.day import with_day
from utility.settlement.jobs.settlement import settled_so_far

KEPT_S = 300  # seconds for which a computed bill is shown again, with its age
MOST_KEPT = 64  # most sets of microgrids whose bills are kept; the one used longest ago is dropped


@dataclass(frozen=True, kw_only=True)
class BillSoFar:
    """The bill of a month that is not over."""

    bill: Bill  # the bill; its base is that of the whole month, its energy that of the settled quarters
    until: Quarter | None  # the quarter after the last settled one; ``None``: none is settled yet
    # What today's energy adds to it until now, before taxes, dollars: settled as far as it is, else as it would be
    # settled by the readings that have come.
    today: Decimal
    computed: EpochSeconds  # when it was computed


_Kept = tuple[EpochSeconds, SoFar, dict[AccountNumber, Decimal]]  # when computed, the month's bills, today's energy


@dataclass(eq=False)
class BillsSoFar:
    """Computes bills so far, and keeps them."""

    database: Database  # the database
    tariff: str  # the name of the tariff of accounts without one
    settlement: SettlementSettings  # how days are settled
    # Computing one at a time: a building's three hundred residents share one result.
    _lock: Lock = field(default_factory=Lock)
    _kept: OrderedDict[tuple[str, frozenset[MicrogridId]], _Kept] = field(default_factory=OrderedDict)

    def of(self, home: Home, now: EpochSeconds) -> BillSoFar | None:
        """Return the bill of an account for the present month; ``None``: it had no meter in it.

        Raises:
            ConfigError: No tariff is in force for an account of its microgrids.
        """
        microgrids = frozenset(meter.microgrid for meter in home.registry.meters.values())
        with self._lock:
            computed, found, today = self._found(home, microgrids, now)
        number = home.account.number
        if number not in found.bills:
            return None
        bill, until = found.bills[number], found.until.get(number)
        return BillSoFar(bill=bill, until=until, today=today[number], computed=computed)

    def _found(self, home: Home, microgrids: frozenset[MicrogridId], now: EpochSeconds) -> _Kept:
        with self.database.reads.begin() as connection:
            zone = zone_of(connection)
            month = month_of(quarter_of(now), zone)
            key = (f"{local_day(now, zone)}", microgrids)
            known = self._kept.get(key)
            if known is not None and 0 <= now - known[0] < KEPT_S:
                self._kept.move_to_end(key)
                return known
            inputs = inputs_of(connection, month, home.registry, self.tariff)
            newest = newest_settled(connection)
        load, (first, _), end = cache(settled_as_of(self.database, newest)), day_around(now, zone), quarter_of(now) + 1
        days = range(first // QUARTERS_A_DAY, (end - 1) // QUARTERS_A_DAY + 1)
        open_days = [settled_so_far(self.database, self.settlement, day, microgrids, end) for day in days]

        def with_today(meters: Sequence[MeterId], start: Quarter, until: Quarter) -> SettledQuarters:
            return reduce(with_day, open_days, load(meters, start, until))

        self._kept[key] = now, bills_so_far(inputs, load), grown(inputs, cache(with_today), first, end)
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
