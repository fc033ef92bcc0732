"""The jobs of billing: the draft of each month's bills, and the rates that controllers are told.

Both look often and repeat without harm: a month has one run of the service, and a controller is told rates once.
"""

import logging
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.config.utility import BillingSettings
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId
from utility.billing.rates import ToldRates, rates_of, tariffs_by_microgrid
from utility.billing.stored_run import Computed
from utility.billing.tariffs.local_calendar import month_before, month_of
from utility.store import billing_sources
from utility.store.billing import SERVICE, has_job_run
from utility.store.database import Database
from utility.store.job_leases import Turn
from utility.store.rates import controllers, tell, told
from utility.store.rations import timezone_of
from utility.store.registry import registry_revision
from utility.store.run_bills import computed_run, is_final, prepared, saved
from utility.store.tariffs import published

log = logging.getLogger(__name__)

InThread = Callable[..., Awaitable[Any]]
"""Runs a function on a thread."""


class BillsJob:
    """Makes the draft of the last month's bills, as soon as all its quarter-hours are final."""

    def __init__(
        self, settings: BillingSettings, database: Database, *, in_thread: InThread, writing: InThread
    ) -> None:
        self._settings = settings
        self._database = database
        self._in_thread = in_thread
        self._writing = writing
        self._waiting = ""

    async def run(self, turn: Turn) -> None:
        """Make the last month's run if there is none and its data is final; else wait for the next turn."""
        bills: Computed | None = await self._in_thread(self._make, turn.now)
        if bills is None:
            return
        number = await self._writing(saved, self._database, bills, SERVICE, turn.now)
        if number is not None:
            log.info("bills of %s: run %s is a draft for two people to check and issue", bills.run.month, number)

    def _make(self, now: EpochSeconds) -> Computed | None:
        with self._database.reads.begin() as connection:
            if not published(connection):
                return None
            month = month_before(month_of(now // QUARTER_S, ZoneInfo(timezone_of(connection))))
            if has_job_run(connection, month):
                return None
        run = prepared(self._database, month, self._settings.tariff)
        if not is_final(run.inputs(), billing_sources.settled_as_of(self._database, run.settled)):
            if self._waiting != month:
                log.info("bills of %s wait: some of its quarter-hours are provisional", month)
            self._waiting = month
            return None
        bills = computed_run(self._database, run)
        return bills if bills.billed else None


class RatesJob:
    """Tells each controller the rates of its accounts' tariffs, at a new version and at each new month."""

    def __init__(
        self, settings: BillingSettings, database: Database, *, in_thread: InThread, writing: InThread
    ) -> None:
        self._settings = settings
        self._database = database
        self._in_thread = in_thread
        self._writing = writing
        self._looked: object = None

    async def run(self, turn: Turn) -> None:
        """Tell what was not told yet, if anything has changed since the last look."""
        looked, new = await self._in_thread(self._look, turn.now)
        if new:
            await self._writing(self._tell, new, turn.now)
        self._looked = looked

    def _look(self, now: EpochSeconds) -> tuple[object, list[tuple[MicrogridId, ToldRates]]]:
        """Return what was looked at, and what is to be told."""
        quarter = now // QUARTER_S
        with self._database.reads.begin() as connection:
            versions = published(connection)
            zone = ZoneInfo(timezone_of(connection))
            month = month_of(quarter, zone)
            looked = month, [version.label for version in versions], registry_revision(connection)
            if not versions or looked == self._looked:
                return looked, []
            known, names = told(connection), controllers(connection)
            registry = billing_sources.load_registry(connection)
        rates = {
            name: rates_of([version for version in versions if version.name == name], month, zone)
            for name in {version.name for version in versions}
        }
        wanted = tariffs_by_microgrid(registry, names, self._settings.tariff, quarter)
        new = [
            (controller, found)
            for controller, tariffs in wanted.items()
            for tariff in tariffs
            if (found := rates.get(tariff)) is not None and known.get((controller, tariff)) != _key(found)
        ]
        return looked, new

    def _tell(self, new: list[tuple[MicrogridId, ToldRates]], now: EpochSeconds) -> None:
        with self._database.writes.begin() as connection:
            known = told(connection)
            left = [(name, rates) for name, rates in new if known.get((name, rates.tariff)) != _key(rates)]
            tell(connection, left, now, lambda: token_hex(4))


def _key(rates: ToldRates) -> tuple[int, str]:
    return rates.version, rates.month
