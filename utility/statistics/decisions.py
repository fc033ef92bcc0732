"""What a new tariff would bring: the next month's projection, and what it would have made of a month's bills (U6)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.billing.money import dollars
from utility.billing.preview import Change
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.statistics.months import Month, month_at, month_text
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_money import RatesInForce, Usage, month_usage, paid, rates_in_force, revenue
from utility.statistics.store.usage_projection import (
    Projectable,
    money_panel,
    months_with_usage,
    projected,
    projection_view,
)
from utility.statistics.words import projected_words
from utility.tariffs.tariff import Tariff

KEPT_S = 300  # seconds for which a month's load shapes are kept while a person paints prices

Band = tuple[int | None, int, int | None]  # low, middle and high, cents; without a band the outer two are None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The town's projected money of a month."""

    month: Month  # the month
    revenue: Band  # what all bills come to with the new tariff
    now: Band | None  # what they come to by the tariffs in force; ``None``: not projected yet
    cost: Band | None  # what the energy costs; ``None``: there is no regional price, or it is not projected yet

    @property
    def words(self) -> list[str]:
        """What it says, a line each."""
        bands = (
            (f"{month_text(self.month)}, projected revenue with it", self.revenue),
            ("by the tariffs in force", self.now),
            ("cost of the energy", self.cost),
        )
        return [f"{what}: {projected_words(*band, is_money=True)}" for what, band in bands if band is not None]


def outlook(database: Database, tariff: Tariff, default: str, now: EpochSeconds) -> Outlook | None:
    """Return what the next month would bring by a tariff; ``None``: no month is known yet.

    Args:
        tariff: The new tariff, in place of the published versions of its name.
        default: The name of the tariff of accounts without one.

    Raises:
        ConfigError: An account has no tariff.
    """
    with database.reads.begin() as connection:
        present = month_at(now // QUARTER_S, zone_of(connection))
        months = months_with_usage(connection, present)
        rates = rates_in_force(connection, present + 1, default, replace(tariff, effective=0))
    paid = {month: database.read(revenue, month, rates) for month in months}
    with database.reads.begin() as connection:
        panel, subjects = money_panel(connection, present, paid)
        view = projection_view(connection, Scope.TOWN)
    made = projected(panel, subjects, Projectable.REVENUE, present + 1)
    whole = [_band(row) for row in made.rows if row["scope"] == Scope.TOWN]
    if not whole:
        return None
    rows = view["rows"] if view and view["month"] == present + 1 else []
    known = {row["quantity"]: _band(row) for row in rows}
    return Outlook(
        month=present + 1, revenue=whole[0], now=known.get(Projectable.REVENUE), cost=known.get(Projectable.COST)
    )


def estimated(database: Database, tariff: Tariff, month: Month, default: str, now: EpochSeconds) -> list[Change]:
    """Return how a month's bills would change by a tariff, from load shapes; none: the month has none.

    Raises:
        ConfigError: An account has no tariff in force.
    """
    kept = _kept(database, month, default, now // KEPT_S)
    if kept is None:
        return []
    usage, rates, before = kept
    tariffs = tuple(tariff if each.name == tariff.name else each for each in rates.tariffs)
    both = zip(before.items(), _by_account(usage, replace(rates, tariffs=tariffs)).values(), strict=True)
    return [Change(account=number, before=old, after=new) for (number, old), new in both]


@lru_cache(maxsize=1)
def _kept(
    database: Database, month: Month, default: str, _since: int
) -> tuple[Usage, RatesInForce, dict[int, Decimal]] | None:
    """Read what stays while a person paints prices."""
    with database.reads.begin() as connection:
        usage, rates = month_usage(connection, month), rates_in_force(connection, month, default)
    return None if usage is None else (usage, rates, _by_account(usage, rates))


def _by_account(usage: Usage, rates: RatesInForce) -> dict[int, Decimal]:
    """Return what each account would pay, dollars."""
    numbers, rows = np.unique(usage[0].numbers, return_inverse=True)
    cents = np.rint(100 * np.bincount(rows, paid(usage, rates))).astype(int)
    return dict(zip(numbers.tolist(), map(dollars, cents.tolist()), strict=True))


def _band(row: Mapping[str, Any]) -> Band:
    return row["low"], row["middle"], row["high"]
