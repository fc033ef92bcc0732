"""Months of usage in dollars: what each class and the town would pay by tariffs, and what its energy costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from utility.billing.inputs import RunInputs
from utility.database.town_zone import peak_hours_of, timezone_of, zone_of
from utility.readings.store.reads import town as town_figures
from utility.registry.store.accounts import load_dated_registry
from utility.registry.tables import controller
from utility.statistics.money import Accounts, Microgrids, bills, cost_of
from utility.statistics.months import CELLS, Month, MonthColumns, columns_of, month_text
from utility.statistics.packed import unpacked
from utility.statistics.projection import Floats
from utility.statistics.series import SHAPES
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.tables import usage_month
from utility.tariffs.store import tariffs
from utility.tariffs.tariff import Tariff

_IMPORTED, _EXPORTED = SHAPES.index("imported"), SHAPES.index("exported")


@dataclass(frozen=True, kw_only=True)
class RatesInForce:
    """The rates of a month."""

    month: Month  # the month
    tariffs: tuple[Tariff, ...]  # the tariffs in force for accounts
    of_account: Mapping[int, int]  # the number of an account's tariff, of accounts that have another than the first

    @property
    def words(self) -> str:
        """The tariffs' names with their versions."""
        return ", ".join(tariff.label for tariff in self.tariffs)


def rates_in_force(connection: Connection, month: Month, default: str) -> RatesInForce:
    """Return the rates at the beginning of a month.

    Args:
        default: The name of the tariff of accounts that have none of their own.
    """
    registry = load_dated_registry(connection)
    inputs = RunInputs(
        month=month_text(month),
        timezone=timezone_of(connection),
        registry=registry,
        tariffs=tariffs.published(connection),
        default=default,
    )
    labels: dict[str, Tariff] = {}
    label_of = {0: inputs.segments(0)[0].tariff.label}
    labels[label_of[0]] = inputs.segments(0)[0].tariff
    for number in registry.accounts:
        tariff = inputs.segments(number)[0].tariff
        labels.setdefault(tariff.label, tariff)
        label_of[number] = tariff.label
    order = list(labels)
    others = {number: order.index(label) for number, label in label_of.items() if label != order[0]}
    return RatesInForce(month=month, tariffs=tuple(labels.values()), of_account=others)


def _usage(connection: Connection, month: Month) -> tuple[Accounts, Microgrids, MonthColumns] | None:
    """Return the load shapes of a month; ``None``: there are none of accounts."""
    c = usage_month.c
    wanted = select(c.scope, c.subject, c.owner_no, c.payload).where(c.month == month)
    owners: dict[int, NDArray[np.int64]] = {}
    accounts: list[tuple[int, int, NDArray[np.int64]]] = []
    for scope, subject, owner, payload in connection.execute(
        wanted.where(c.scope.in_([Scope.ACCOUNT, Scope.MICROGRID]))
    ):
        shape = unpacked(payload, f"load shape of {month_text(month)}, {Scope(scope).name.lower()} {subject}")
        if scope == Scope.MICROGRID:
            owners[owner] = shape[_EXPORTED]
        else:
            accounts.append((subject, owner, shape))
    if not accounts:
        return None
    at = {number: row for row, number in enumerate(owners)}
    kinds = {row.number: row.kind for row in connection.execute(select(controller.c.number, controller.c.kind))}
    all_accounts = Accounts(
        imported=np.array([shape[_IMPORTED] for _, _, shape in accounts]),
        exported=np.array([shape[_EXPORTED] for _, _, shape in accounts]),
        microgrids=np.array([at[owner] for _, owner, _ in accounts]),
        numbers=np.array([subject for subject, _, _ in accounts]),
    )
    microgrids = Microgrids(
        exported=np.array(list(owners.values())).reshape(-1, CELLS),
        kind=np.array([CLASSES.index(kinds[number]) for number in owners]),
    )
    return all_accounts, microgrids, columns_of(month, zone_of(connection))


def revenue(connection: Connection, month: Month, rates: RatesInForce) -> Floats:
    """Return what the accounts of each class, and all of them, would pay for a month by some rates, dollars, (4)."""
    usage = _usage(connection, month)
    if usage is None:
        return np.zeros(len(CLASSES) + 1)
    accounts, microgrids, columns = usage
    which = np.array([rates.of_account.get(number, 0) for number in accounts.numbers.tolist()])
    due = np.zeros(len(which))
    for number, tariff in enumerate(rates.tariffs):
        if (which == number).any():
            due = np.where(which == number, bills(accounts, microgrids, tariff, columns), due)
    kind = microgrids.kind[accounts.microgrids]
    return np.append(np.bincount(kind, weights=due, minlength=len(CLASSES)), due.sum())


def cost(connection: Connection, month: Month, price: float) -> NDArray[np.float64]:
    """Return what the energy of each class, and of the town, costs in a month at the regional price, dollars, (4).

    Args:
        price: The price outside peak hours, dollars per kWh; the town's file has the peak's hours and factor.
    """
    town, c = town_figures(connection), usage_month.c
    peak = peak_hours_of(connection)
    factor = float(str(town["peak_factor"]))
    found = np.zeros(len(CLASSES) + 1)
    wanted = select(c.scope, c.subject, c.payload).where(c.month == month, c.scope.in_([Scope.CLASS, Scope.TOWN]))
    for scope, subject, payload in connection.execute(wanted):
        shape = unpacked(payload, f"load shape of {month_text(month)}, class {subject}")
        row = subject - 1 if scope == Scope.CLASS else len(CLASSES)
        found[row] = cost_of(shape[_IMPORTED], shape[_EXPORTED], price, peak, factor)
    return found
