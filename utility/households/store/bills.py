"""The bill so far of an account: computed for its microgrids together, and kept for some minutes."""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from commonwatt.model.time.local_calendar import month_of
from commonwatt.model.units import EpochSeconds, MicrogridId, Quarter, quarter_of
from utility.billing.bill import Bill
from utility.billing.so_far import SoFar, bills_so_far
from utility.billing.store.billing_sources import inputs_of, newest_settled, settled_as_of
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.households.store.home import Home

KEPT_S = 300  # seconds for which a computed bill is shown again, with its age
MOST_KEPT = 64  # most sets of microgrids whose bills are kept; the one used longest ago is dropped


@dataclass(frozen=True, kw_only=True)
class BillSoFar:
    """The bill of a month that is not over."""

    bill: Bill  # the bill; its base is that of the whole month, its energy that of the settled quarters
    until: Quarter  # the quarter after the last settled one
    computed: EpochSeconds  # when it was computed


@dataclass(eq=False)
class BillsSoFar:
    """Computes bills so far, and keeps them."""

    database: Database  # the database
    tariff: str  # the name of the tariff of accounts without one
    # Computing one at a time: a building's three hundred residents share one result.
    _lock: Lock = field(default_factory=Lock)
    _kept: OrderedDict[tuple[str, frozenset[MicrogridId]], tuple[EpochSeconds, SoFar]] = field(
        default_factory=OrderedDict
    )

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
        with self.database.reads.begin() as connection:
            month = month_of(quarter_of(now), zone_of(connection))
            key = (month, microgrids)
            known = self._kept.get(key)
            if known is not None and 0 <= now - known[0] < KEPT_S:
                self._kept.move_to_end(key)
                return known
            inputs = inputs_of(connection, month, home.registry, self.tariff)
            newest = newest_settled(connection)
        self._kept[key] = now, bills_so_far(inputs, settled_as_of(self.database, newest))
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
