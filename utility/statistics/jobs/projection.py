"""The job of projections: projects the next month once a day, so that the last one stands before the month begins (U6).

Steps are short, because other jobs' steps come between: one for each quantity, and one for each month's bills.
"""

import logging
from collections.abc import Callable

from commonwatt.config.utility import BillingSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.database.base import Connection
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


async def project(
    settings: BillingSettings, database: Database, threads: Threads, is_trusted: Callable[[], bool], turn: Turn
) -> None:
    """Project the next month; nothing while the clock is not synchronized.

    It reads and projects on the jobs' thread, and writes on the one for writes.
    """
    if not is_trusted():
        return
    read = threads.read
    present: Month = month_at(turn.now // QUARTER_S, await read(database.read, zone_of))
    made = {each: await read(_energy, database, each, present) for each in _ENERGIES}
    months = await read(database.read, months_with_usage, present)
    rates: RatesInForce | None = await read(database.read, _rates, present + 1, settings.tariff)
    if rates is not None:
        paid = {month: await read(database.read, revenue, month, rates) for month in months}
        made[Projectable.REVENUE] = await read(_money, database, Projectable.REVENUE, present, paid)
    price = settings.regional_price
    if price is not None:
        costs = {month: await read(database.read, cost, month, float(price)) for month in months}
        made[Projectable.COST] = await read(_money, database, Projectable.COST, present, costs)
    told = {
        "known_months": len(months),
        "tariffs": None if rates is None else rates.words,
        "regional_price": None if price is None else str(price),
    }
    await threads.write(database.write, _save, made, present, turn.now, told)


def _energy(database: Database, quantity: Projectable, present: Month) -> Made:
    panels = database.read(energy_panel, quantity, present)
    made = [projected(panel, subjects, quantity, present + 1) for panel, subjects in panels]
    tested = sum(one.tested for one in made)
    held = sum(one.tested * one.held for one in made) / max(tested, 1)
    return Made(rows=[row for one in made for row in one.rows], tested=tested, held=held)


def _money(database: Database, quantity: Projectable, present: Month, months: dict[Month, Floats]) -> Made:
    panel, subjects = database.read(money_panel, present, months)
    return projected(panel, subjects, quantity, present + 1)


def _rates(connection: Connection, month: Month, tariff: str) -> RatesInForce | None:
    try:
        return rates_in_force(connection, month, tariff)
    except ConfigError as error:
        log.info("no projection of revenue: %s", error)
        return None


def _save(
    connection: Connection, made: dict[Projectable, Made], present: Month, now: EpochSeconds, told: dict[str, object]
) -> None:
    save_projections(connection, list(made.values()), present + 1, now)
    save_summary(connection, present + 1, now, made, told, year_before(connection, present))
