"""The jobs of statistics: they take settled days into months' usage, and project the next month (U6, A7).

A microgrid's month is computed whole from its settled days, so that a repeated run, or one after a kill, changes
nothing. Marks are deleted after everything that they touch is stored. A projection is made once a day, so that the last
one stands before the month begins. Its steps are short, because other jobs' steps come between: one for each quantity,
and one for each month's bills.
"""

import logging
from collections.abc import Callable, Sequence

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.plans import Threads
from utility.jobs.store import MarkedDay, Turn, unmark
from utility.jobs.tables import usage_due
from utility.registry.layout import Day
from utility.settings import BillingSettings
from utility.statistics.months import Month, columns_of, month_at, months_of_day
from utility.statistics.projection import Floats
from utility.statistics.store.usage import (
    DayUsage,
    TownUsage,
    day_usage,
    due_usage,
    load_town_usage,
    microgrid_rows,
    oldest_due,
    refresh_classes,
    save_day_usage,
    save_microgrid_rows,
)
from utility.statistics.store.usage_projection import (
    Projectable,
    ProjectedUsage,
    RatesInForce,
    cost,
    energy_panel,
    money_panel,
    months_with_usage,
    projected,
    rates_in_force,
    revenue,
    save_projections,
    save_summary,
    year_before,
)

METERS_AT_A_TIME = 400
"""Meters that are taken in at once, eight days in memory at a time, unless one microgrid has more: about 20 MB."""


async def take_in(
    database: Database, threads: Threads, turn: Turn, tell: Callable[[Month], object] = lambda _: None
) -> None:
    """Take in everything that is due, a month after the other; ``tell`` is called with each month.

    It computes on the jobs' thread, and writes on the one for writes.
    """
    town: TownUsage | None = None
    while due := await threads.read(database.read, _due, town):
        if town is None:
            town = await threads.read(database.read, load_town_usage)
        known = [one for one in due if one.owner_no in town.owners]
        months: dict[Month, set[int]] = {}
        days: dict[Day, list[int]] = {}
        for one in known:
            days.setdefault(one.day, []).append(one.owner_no)
            for month in months_of_day(one.day, town.zone):
                months.setdefault(month, set()).add(one.owner_no)
        for day, some in days.items():
            found: DayUsage = await threads.read(database.read, day_usage, town, day)
            await threads.write(database.write, save_day_usage, town, found, some)
        for month, owners in sorted(months.items()):
            tell(month)
            for chunk in _chunks(sorted(owners), town):
                rows = await threads.read(database.read, microgrid_rows, town, chunk, month, turn.now)
                await threads.write(database.write, save_microgrid_rows, chunk, month, rows)
            await threads.write(database.write, refresh_classes, town, month, turn.now)
        await threads.write(database.write, unmark, usage_due, due)


def _due(connection: Connection, town: TownUsage | None) -> list[MarkedDay]:
    """Return what is due of the days of the oldest month that has any."""
    oldest = oldest_due(connection)
    if oldest is None:
        return []
    zone = zone_of(connection) if town is None else town.zone
    return due_usage(connection, columns_of(months_of_day(oldest, zone)[-1], zone).days.stop)


def _chunks(owners: Sequence[int], town: TownUsage) -> list[list[int]]:
    """Return the microgrids in parts of about ``METERS_AT_A_TIME`` meters."""
    found: list[list[int]] = [[]]
    count = 0
    for number in owners:
        meters = len(town.owners[number].meters)
        if found[-1] and count + meters > METERS_AT_A_TIME:
            found.append([])
            count = 0
        found[-1].append(number)
        count += meters
    return found


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


def _energy(database: Database, quantity: Projectable, present: Month) -> ProjectedUsage:
    panels = database.read(energy_panel, quantity, present)
    made = [projected(panel, subjects, quantity, present + 1) for panel, subjects in panels]
    tested = sum(one.tested for one in made)
    held = sum(one.tested * one.held for one in made) / max(tested, 1)
    return ProjectedUsage(rows=[row for one in made for row in one.rows], tested=tested, held=held)


def _money(database: Database, quantity: Projectable, present: Month, months: dict[Month, Floats]) -> ProjectedUsage:
    panel, subjects = database.read(money_panel, present, months)
    return projected(panel, subjects, quantity, present + 1)


def _rates(connection: Connection, month: Month, tariff: str) -> RatesInForce | None:
    try:
        return rates_in_force(connection, month, tariff)
    except ConfigError as error:
        log.info("no projection of revenue: %s", error)
        return None


def _save(
    connection: Connection,
    made: dict[Projectable, ProjectedUsage],
    present: Month,
    now: EpochSeconds,
    told: dict[str, object],
) -> None:
    save_projections(connection, list(made.values()), present + 1, now)
    save_summary(connection, present + 1, now, made, told, year_before(connection, present))
