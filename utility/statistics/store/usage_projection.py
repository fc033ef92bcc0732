"""Projections: made before a month begins, kept, shown with how earlier ones came out; usage in dollars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from commonwatt.model.units import EpochSeconds
from utility.billing.inputs import RunInputs
from utility.database.database import insert_or, read_setting, save_setting
from utility.database.town_zone import peak_hours_of, timezone_of, zone_of
from utility.readings.store.reads import town as town_figures
from utility.registry.store.accounts import load_dated_registry
from utility.registry.tables import controller
from utility.statistics.months import CELLS, Month, MonthColumns, columns_of, month_text
from utility.statistics.packed import unpacked
from utility.statistics.projection import (
    MIN_MONTHS,
    YEAR,
    Accounts,
    Floats,
    Microgrids,
    Panel,
    YearBefore,
    bills,
    cost_of,
    coverage,
    project,
    scenarios,
)
from utility.statistics.series import SHAPES
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.store.usage_view import panel_of, taken_with_use
from utility.statistics.tables import usage_month, usage_projection
from utility.tariffs import store as tariffs
from utility.tariffs.tariff import Tariff

SUMMARY = "projection"  # setting with what is known of the last projection besides its rows, JSON
HISTORY = 60  # months before the present one that are looked at

_FIRST_TESTED = MIN_MONTHS + YEAR


class Projectable(IntEnum):
    """What is projected; energies in milliwatt-hours, money in cents."""

    IMPORTED = 1
    EXPORTED = 2
    USED = 3
    REVENUE = 4
    COST = 5

    @property
    def is_money(self) -> bool:
        """Whether it is cents."""
        return self in (Projectable.REVENUE, Projectable.COST)


@dataclass(frozen=True, kw_only=True)
class ProjectedUsage:
    """The projections of one quantity."""

    rows: Sequence[Mapping[str, Any]]  # rows of ``usage_projection``, without the time
    tested: int  # how many of its earlier months could be tested
    held: float  # the part of them that the band held


def projected(
    panel: Panel, subjects: Sequence[tuple[Scope, int]], quantity: Projectable, month: Month
) -> ProjectedUsage:
    """Return the projections of the month after the present one, from the months before the present one.

    Classes and the town, which people look at from the first month on, have without enough past their last known month
    again, and no band.
    """
    (one,) = project(panel)
    tested, held = coverage(project(panel, _FIRST_TESTED)) if panel.values.shape[1] > _FIRST_TESTED else (0, 0.0)
    rows = []
    for row, (scope, subject) in enumerate(subjects):
        low, middle, high = one.quantiles[row].tolist()
        key = {"month": month, "scope": int(scope), "subject": subject, "quantity": int(quantity)}
        if np.isfinite(one.quantiles[row]).all():
            rows.append(key | {"low": round(low), "middle": round(middle), "high": round(high)})
        elif scope in (Scope.CLASS, Scope.TOWN) and np.isfinite(panel.values[row]).any():
            last = panel.values[row][np.isfinite(panel.values[row])][-1]
            rows.append(key | {"low": None, "middle": round(float(last)), "high": None})
    return ProjectedUsage(rows=rows, tested=tested, held=held)


def energy_panel(
    connection: Connection, quantity: Projectable, present: Month
) -> list[tuple[Panel, list[tuple[Scope, int]]]]:
    """Return the panels of a quantity: accounts; microgrids; classes and the town, whose errors are pooled."""
    name = quantity.name.lower()
    found = []
    for scope in (Scope.ACCOUNT, Scope.MICROGRID):
        panel, subjects = panel_of(connection, name, scope, present, HISTORY)
        found.append((_without_empty(panel), [(scope, subject) for subject in subjects]))
    classes, numbers = panel_of(connection, name, Scope.CLASS, present, HISTORY)
    town, _ = panel_of(connection, name, Scope.TOWN, present, HISTORY)
    whole = np.concatenate([classes.values, town.values])
    of = [*((Scope.CLASS, number) for number in numbers), *[(Scope.TOWN, 0)] * len(town.values)]
    return [*found, (aggregate_panel(whole), of)]


def aggregate_panel(values: Floats) -> Panel:
    """Return a panel of classes and the town: each has its own year, and the errors of all are pooled."""
    it = Panel(values=values, groups=np.arange(len(values)), errors=np.zeros(len(values), np.int64))
    return _without_empty(it)


def money_panel(
    connection: Connection, present: Month, months: Mapping[Month, Floats]
) -> tuple[Panel, list[tuple[Scope, int]]]:
    """Return the panel of dollars of classes and the town as cents; months that are not complete are not known."""
    whole, _ = panel_of(connection, "imported", Scope.TOWN, present, HISTORY)
    values = np.full((len(CLASSES) + 1, HISTORY), np.nan)
    for month, dollars in months.items():
        column = month - present + HISTORY
        if len(whole.values) and np.isfinite(whole.values[0, column]):
            values[:, column] = dollars * 100
    subjects = [*((Scope.CLASS, n) for n in range(1, len(CLASSES) + 1)), (Scope.TOWN, 0)]
    return aggregate_panel(values), subjects


def months_with_usage(connection: Connection, present: Month) -> list[Month]:
    """Return the months with usage that a projection looks at."""
    c = usage_month.c
    wanted = select(c.month).where(c.scope == Scope.TOWN, c.month.between(present - HISTORY, present - 1))
    return list(connection.execute(wanted.order_by(c.month)).scalars())


def year_before(connection: Connection, present: Month) -> YearBefore | None:
    """Return the town's last twelve months before the present one; ``None``: in one of them not all use is known."""
    c = usage_month.c

    def sums(first: Month) -> Any:
        names = ("used", "generated", "imported", "exported")
        of_year = (c.scope == Scope.TOWN) & c.month.between(first, first + YEAR - 1)
        found = connection.execute(
            select(func.count(c.used), *(func.sum(c[name]) for name in names)).where(of_year)
        ).one()
        taken = taken_with_use(connection, range(first, first + YEAR))
        is_whole = found[0] == YEAR and found[3] == sum(taken[month, 0] for month in range(first, first + YEAR))
        return found if is_whole else None

    whole = sums(present - YEAR)
    if whole is None:
        return None
    _, used, generated, imported, exported = whole
    before = sums(present - 2 * YEAR)
    return YearBefore(
        used=int(used),
        generated=int(generated),
        imported=int(imported),
        exported=int(exported),
        used_before=int(before[1]) if before is not None else None,
    )


def save_projections(connection: Connection, made: Sequence[ProjectedUsage], month: Month, now: EpochSeconds) -> None:
    """Replace the projections of a month that has not begun."""
    rows = [{**row, "made": now} for one in made for row in one.rows]
    connection.execute(usage_projection.delete().where(usage_projection.c.month == month))
    if rows:
        connection.execute(insert_or(connection, usage_projection), rows)


def save_summary(
    connection: Connection,
    month: Month,
    now: EpochSeconds,
    made: Mapping[Projectable, ProjectedUsage],
    told: Mapping[str, object],
    last: YearBefore | None,
) -> None:
    """Store what is known of a projection besides its rows."""
    tested = {quantity.name.lower(): [one.tested, one.held] for quantity, one in made.items()}
    years = [] if last is None else [asdict(each) for each in scenarios(last)]
    content = {"month": month, "made": now, "tested": tested, "scenarios": years, **told}
    save_setting(connection, SUMMARY, json.dumps(content))


def projection_view(connection: Connection, scope: Scope, subjects: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the newest projection of the subjects of a scope (``None``: all) and what is known of it, or nothing."""
    kept = read_setting(connection, SUMMARY)
    if not kept:
        return {}
    summary: dict[str, Any] = json.loads(kept)
    c = usage_projection.c
    wanted = select(usage_projection).where(c.month == summary["month"], c.scope == scope)
    if subjects is not None:
        wanted = wanted.where(c.subject.in_(list(subjects)))
    rows = connection.execute(wanted.order_by(c.subject, c.quantity)).mappings()
    return {**summary, "rows": [dict(row) for row in rows]}


def _without_empty(panel: Panel) -> Panel:
    """Return a panel without the months at its beginning of which nothing is known."""
    known = np.flatnonzero(np.isfinite(panel.values).any(axis=0))
    start = int(known[0]) if known.size else max(0, panel.values.shape[1] - 1)
    return Panel(values=panel.values[:, start:], groups=panel.groups, errors=panel.errors)


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
