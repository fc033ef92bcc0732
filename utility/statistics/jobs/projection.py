"""The job of projections: projects the next month once a day, so that the last one stands before the month begins (U6).

Steps are short, because other jobs' steps come between: one for each quantity, and one for each month's bills.
"""

import logging
from collections.abc import Callable

from commonwatt.config.utility import BillingSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.statistics.months import Month, month_at
from utility.statistics.projection import Floats
from utility.statistics.store.usage_money import RatesInForce, cost, rates_in_force, revenue
from utility.statistics.store.usage_projection import (
    Made,
    Projectable,
    energy_panel,
    money_panel,
    months_with_usage,
    projected,
    save_projections,
    save_summary,
    year_before,
)

log = logging.getLogger(__name__)

_ENERGIES = (Projectable.IMPORTED, Projectable.EXPORTED, Projectable.USED)


class ProjectionJob:
    """Reads and projects on the jobs' thread, and writes on the one for writes."""

    def __init__(
        self, settings: BillingSettings, database: Database, threads: Threads, *, is_trusted: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._database = database
        self._is_trusted = is_trusted
        self._threads = threads

    async def run(self, turn: Turn) -> None:
        """Project the month after the present one; with an unsynchronized clock nobody knows which that is."""
        if not self._is_trusted():
            return
        read, database = self._threads.read, self._database
        present: Month = await read(self._present, turn.now)
        made = {each: await read(self._energy, each, present) for each in _ENERGIES}
        months = await read(database.read, months_with_usage, present)
        rates: RatesInForce | None = await read(self._rates, present + 1)
        if rates is not None:
            paid = {month: await read(database.read, revenue, month, rates) for month in months}
            made[Projectable.REVENUE] = await read(self._money, Projectable.REVENUE, present, paid)
        price = self._settings.regional_price
        if price is not None:
            costs = {month: await read(database.read, cost, month, float(price)) for month in months}
            made[Projectable.COST] = await read(self._money, Projectable.COST, present, costs)
        told = {
            "known_months": len(months),
            "tariffs": None if rates is None else rates.words,
            "regional_price": None if price is None else str(price),
        }
        await self._threads.write(self._save, made, present, turn.now, told)

    def _present(self, now: EpochSeconds) -> Month:
        return month_at(now // QUARTER_S, self._database.read(zone_of))

    def _energy(self, quantity: Projectable, present: Month) -> Made:
        panels = self._database.read(energy_panel, quantity, present)
        made = [projected(panel, subjects, quantity, present + 1) for panel, subjects in panels]
        tested = sum(one.tested for one in made)
        held = sum(one.tested * one.held for one in made) / max(tested, 1)
        return Made(rows=[row for one in made for row in one.rows], tested=tested, held=held)

    def _money(self, quantity: Projectable, present: Month, months: dict[Month, Floats]) -> Made:
        panel, subjects = self._database.read(money_panel, present, months)
        return projected(panel, subjects, quantity, present + 1)

    def _rates(self, month: Month) -> RatesInForce | None:
        try:
            return self._database.read(rates_in_force, month, self._settings.tariff)
        except ConfigError as error:
            log.info("no projection of revenue: %s", error)
            return None

    def _save(self, made: dict[Projectable, Made], present: Month, now: EpochSeconds, told: dict[str, object]) -> None:
        with self._database.writes.begin() as connection:
            save_projections(connection, list(made.values()), present + 1, now)
            save_summary(connection, present + 1, now, made, told, year_before(connection, present))
