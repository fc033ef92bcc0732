"""What months of usage come to in dollars: bills by a tariff, from load shapes, and the cost of the energy bought.

A bill is computed from sums by hour of the day, apart for weekdays and weekends. Prices that change within an hour, or
on holidays, count by their part of the month's quarter-hours of that hour. It is a projection's estimate; bills are
computed from quarter-hours (``utility.billing``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utility.billing.policies import POLICIES
from utility.billing.policies.policy import CreditGoesTo
from utility.statistics.months import CELLS, MonthColumns
from utility.statistics.projection import Floats
from utility.tariffs.tariff import Tariff

_PUBLIC = 2
_KWH = 1e6  # milliwatt-hours of a kilowatt-hour


@dataclass(frozen=True, kw_only=True, eq=False)
class Accounts:
    """The months of accounts."""

    imported: NDArray[np.int64]  # milliwatt-hours by cell, (accounts, 48)
    exported: NDArray[np.int64]  # the same of what they gave by their own meters
    microgrids: NDArray[np.int64]  # the number of each account's microgrid, from 0
    numbers: NDArray[np.int64]  # their numbers; one that moved between microgrids comes several times


@dataclass(frozen=True, kw_only=True, eq=False)
class Microgrids:
    """The months of microgrids."""

    exported: NDArray[np.int64]  # milliwatt-hours by cell, (microgrids, 48)
    # What no account's own meter gave is for all accounts of a building's (1) and of the public (2) microgrid.
    kind: NDArray[np.int64]


def bills(accounts: Accounts, microgrids: Microgrids, tariff: Tariff, columns: MonthColumns) -> Floats:
    """Return what each account would pay for the month by a tariff, dollars, if it had both whole."""
    paid, given_back = cell_prices(tariff, columns)
    own, pool = accounts.exported, np.zeros_like(microgrids.exported)
    if POLICIES[tariff.policy.name].credit_goes_to is CreditGoesTo.UNITS:
        own, pool = np.zeros_like(own), microgrids.exported
        weights = np.ones(len(own))
    else:
        given = np.zeros_like(microgrids.exported)
        np.add.at(given, accounts.microgrids, accounts.exported)
        pool = (microgrids.exported - given) * (microgrids.kind > 0)[:, None]
        by_import = (microgrids.kind == _PUBLIC) & (getattr(tariff.policy, "farm", "") == "import")
        weights = np.where(by_import[accounts.microgrids], accounts.imported.sum(axis=1), 1.0)
    whole = np.bincount(accounts.microgrids, weights=weights, minlength=len(pool))[accounts.microgrids]
    part = weights / np.where(whole > 0, whole, 1.0)
    credited = own + pool[accounts.microgrids] * part[:, None]
    due = float(tariff.base) + (accounts.imported @ paid - credited @ given_back) / _KWH
    return np.asarray(np.maximum(due, 0.0), np.float64)


def cell_prices(tariff: Tariff, columns: MonthColumns) -> tuple[Floats, Floats]:
    """Return the mean prices of import and of credit in each cell of a month, dollars per kWh."""
    periods = tariff.periods_of(np.arange(columns.first, columns.until))
    credit = POLICIES[tariff.policy.name].credit_prices(tariff)
    count = np.maximum(np.bincount(columns.cells, minlength=CELLS), 1)
    of_import = np.array([float(price.import_) for price in tariff.prices])
    found = (prices[periods] for prices in (of_import, np.array([float(price) for price in credit])))
    paid, given_back = (np.bincount(columns.cells, weights=each, minlength=CELLS) / count for each in found)
    return paid, given_back


def cost_of(
    imported: NDArray[np.int64], exported: NDArray[np.int64], price: float, peak: tuple[int, ...], factor: float
) -> float:
    """Return what a month's energy costs at the regional price, dollars: what the microgrids took less what they gave.

    Args:
        imported: Milliwatt-hours by cell, (48).
        exported: The same.
        price: The regional price outside peak hours, dollars per kWh.
        peak: The local hours of the peak price, of each day.
        factor: The peak price as a multiple.
    """
    hours = np.arange(CELLS) % 24
    prices = np.where(np.isin(hours, peak), price * factor, price)
    return float((np.maximum(imported - exported, 0) * prices).sum() / _KWH)
