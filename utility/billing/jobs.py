"""The jobs of billing: the draft of each month's bills, and the rates that controllers receive.

Both may be repeated without harm: a month has one run of the service, and a controller gets rates once.
"""

import logging
from dataclasses import dataclass
from secrets import token_hex

from commonwatt.model.calendar import month_of
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter
from utility.billing.store import billing_sources
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import SERVICE, bills_wait_for, is_to_bill
from utility.billing.stored_run import Computed
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.plans import Threads
from utility.jobs.store import NotYetError, Turn
from utility.registry.store.registry import registry_revision
from utility.settings import BillingSettings
from utility.tariffs.store import controllers, published, tell, told
from utility.tariffs.tariff import ToldRates, next_change, rates_of, tariffs_by_microgrid

LOOK_AGAIN_S = 3_600  # seconds until a month that can't be billed yet is looked at again

log = logging.getLogger(__name__)


async def make_bills(settings: BillingSettings, database: Database, threads: Threads, turn: Turn) -> None:
    """Make the draft of a month's bills as soon as all its days are final, and the months before it are issued.

    Raises:
        NotYetError: It waits for readings, or for an earlier month.
    """
    bills: Computed | None = await threads.read(_bills, settings, database, turn)
    if bills is None:
        return
    number = await threads.write(saved, database, bills, SERVICE, turn.now)
    if number is not None:
        log.info("bills of %s: run %s is a draft for two people to check and issue", bills.run.month, number)


def _bills(settings: BillingSettings, database: Database, turn: Turn) -> Computed | None:
    if not is_to_bill(database, turn.period):
        return None
    if (waits_for := bills_wait_for(database, turn.period)) is not None:
        raise NotYetError(waits_for, turn.now + LOOK_AGAIN_S)
    bills = computed_run(database, prepared(database, turn.period.name, settings.tariff, turn.now))
    return bills if bills.billed else None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look for rates saw."""

    at: tuple[str, tuple[str, ...], int]  # the month, the versions of the tariffs, the registry's revision
    # The quarter in which the registry gives a controller other accounts or tariffs; ``None``: none does.
    until: Quarter | None = None


class RatesJob:
    """Tells each controller the rates of its accounts' tariffs: as they are dated, at a new version, each new month."""

    def __init__(self, settings: BillingSettings, database: Database, threads: Threads) -> None:
        self._settings = settings
        self._database = database
        self._threads = threads
        self._looked: Looked | None = None

    async def run(self, turn: Turn) -> None:
        """Send what was not sent yet, if anything has changed since the last look."""
        looked, new = await self._threads.read(
            rates_to_tell, self._database, self._settings.tariff, turn.now, self._looked
        )
        if new:
            await self._threads.write(self._tell, new, turn.now)
        self._looked = looked

    def _tell(self, new: list[tuple[MicrogridId, ToldRates]], now: EpochSeconds) -> None:
        with self._database.writes.begin() as connection:
            known = told(connection)
            left = [(name, rates) for name, rates in new if known.get((name, rates.tariff)) != _key(rates)]
            tell(connection, left, now, lambda: token_hex(4))


def rates_to_tell(
    database: Database, tariff: str, now: EpochSeconds, before: Looked | None = None
) -> tuple[Looked, list[tuple[MicrogridId, ToldRates]]]:
    """Return what was seen, and the rates that controllers were not sent yet.

    Args:
        tariff: The name of the tariff of accounts without one.
        before: What the last look saw; if nothing has changed since, nothing is to be sent.
    """
    quarter = now // QUARTER_S
    with database.reads.begin() as connection:
        versions = published(connection)
        zone = zone_of(connection)
        month = month_of(quarter, zone)
        at = month, tuple(version.label for version in versions), registry_revision(connection)
        if before is not None and before.at == at and (before.until is None or quarter < before.until):
            return before, []
        if not versions:
            return Looked(at=at), []
        known, names = told(connection), controllers(connection)
        registry = billing_sources.load_registry(connection)
    rates = {
        name: rates_of([version for version in versions if version.name == name], month, zone)
        for name in {version.name for version in versions}
    }
    wanted = tariffs_by_microgrid(registry, names, tariff, quarter)
    new = [
        (controller, found)
        for controller, tariffs in wanted.items()
        for name in tariffs
        if (found := rates.get(name)) is not None and known.get((controller, name)) != _key(found)
    ]
    return Looked(at=at, until=next_change(registry, quarter)), new


def _key(rates: ToldRates) -> tuple[int, str]:
    return rates.version, rates.month
