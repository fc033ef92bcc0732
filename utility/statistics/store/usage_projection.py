"""Projections in the database: made before a month begins, kept, and shown with how earlier ones came out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from commonwatt.model.units import EpochSeconds
from utility.database.database import insert_or, read_setting, save_setting
from utility.statistics.months import Month
from utility.statistics.projection import MIN_MONTHS, YEAR, Floats, Panel, coverage, project
from utility.statistics.scenarios import YearBefore, scenarios
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.store.usage_view import panel_of, taken_with_use
from utility.statistics.tables import usage_month, usage_projection

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
class Made:
    """The projections of one quantity."""

    rows: Sequence[Mapping[str, Any]]  # rows of ``usage_projection``, without the time
    tested: int  # how many of its earlier months could be tested
    held: float  # the part of them that the band held


def projected(panel: Panel, subjects: Sequence[tuple[Scope, int]], quantity: Projectable, month: Month) -> Made:
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
    return Made(rows=rows, tested=tested, held=held)


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


def save_projections(connection: Connection, made: Sequence[Made], month: Month, now: EpochSeconds) -> None:
    """Replace the projections of a month that has not begun."""
    rows = [{**row, "made": now} for one in made for row in one.rows]
    connection.execute(usage_projection.delete().where(usage_projection.c.month == month))
    if rows:
        connection.execute(insert_or(connection, usage_projection), rows)


def save_summary(
    connection: Connection,
    month: Month,
    now: EpochSeconds,
    made: Mapping[Projectable, Made],
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
