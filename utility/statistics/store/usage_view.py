"""Usage for people and programs: totals by month, quarter, year and five years, load shapes, and panels to project."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import Quarter
from utility.database.town_zone import zone_of
from utility.jobs.tables import settled_day
from utility.registry.tables import controller, holding, installed, meter
from utility.statistics.months import Month, Span, columns_of, span_around, span_text
from utility.statistics.packed import unpacked
from utility.statistics.projection import Panel
from utility.statistics.series import mean_power
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.tables import usage_month
from utility.statistics.usage import Totals, cells_of, totals_of

MOST_ROWS = 100  # most subjects or periods of one page
# Days before the last settled one in which a day may be provisional: a month and the deadline of settlement.
_PROVISIONAL_DAYS = 75

_FOR_EVER = 2**31 - 1
_A_FEW = {"yield_per": 2_000}
_OF_MICROGRIDS = (Scope.CLASS, Scope.TOWN)

_COLUMNS = [column for column in usage_month.c if column.name not in ("payload", "computed")]


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """The usage of a subject in a span of months."""

    scope: Scope  # what it is of
    subject: int  # the account's number, or the number of the microgrid, of the class; 0: the town
    name: str  # its name for people: ``17``, ``r001``, ``residential``, ``town``
    months: range  # the span
    totals: Totals  # its sums
    is_provisional: bool  # whether a day of it may still change without a correction


def scope_of(text: str) -> Scope:
    """Return a scope by its name."""
    try:
        return Scope[text.upper()]
    except KeyError as error:
        raise ConfigError(f"{text}: no such scope; one of: account, microgrid, class, town") from error


def subject_of(connection: Connection, scope: Scope, name: str) -> int:
    """Return the number of a subject by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if scope is Scope.ACCOUNT:
        found = int(name) if name.isdecimal() and len(name) < 10 else None
    else:
        found = {known: number for number, known in names_of(connection, scope).items()}.get(name)
    if found is None:
        raise ConfigError(f"{name}: no such {scope.name.lower()} in the statistics")
    return found


def last_month(connection: Connection) -> Month | None:
    """Return the last month with usage; ``None``: there is none."""
    return connection.execute(select(func.max(usage_month.c.month))).scalar()


def usage_page(
    connection: Connection, scope: Scope, months: range, *, after: int = -1, limit: int = MOST_ROWS
) -> list[UsageRow]:
    """Return the usage of the subjects of a scope in a span of months, by number, after ``after``."""
    c = usage_month.c
    ours = (c.scope == scope) & c.month.between(months.start, months[-1]) & (c.subject > after)
    some = connection.execute(select(c.subject).where(ours).distinct().order_by(c.subject).limit(limit)).scalars().all()
    if not some:
        return []
    wanted = select(*_COLUMNS).where(ours, c.subject <= some[-1]).order_by(c.subject, c.month)
    by_subject: dict[int, list[Mapping[str, Any]]] = {}
    for row in _rows(connection, scope, wanted, months):
        by_subject.setdefault(row["subject"], []).append(row)
    names, provisional = names_of(connection, scope), _provisional(connection, months)
    return [_row(scope, n, names, months, rows, provisional) for n, rows in by_subject.items()]


def as_cells(connection: Connection, rows: Iterable[UsageRow], by: Span) -> list[Mapping[str, str]]:
    """Return rows as text, by column."""
    zone, found = zone_of(connection), []
    for row in rows:
        scope, period = row.scope.name.lower(), span_text(row.months, by)
        found.append(cells_of(scope, row.name, period, row.totals, zone, is_provisional=row.is_provisional))
    return found


def usage_of_all(connection: Connection, scope: Scope, months: range) -> list[UsageRow]:
    """Return the usage of all subjects of a scope in a span of months."""
    found: list[UsageRow] = []
    while some := usage_page(connection, scope, months, after=found[-1].subject if found else -1):
        found += some
    return found


def usage_history(
    connection: Connection, scope: Scope, subject: int, last: Month, span: Span, count: int
) -> list[UsageRow]:
    """Return the usage of a subject in the ``count`` spans that end with the one around ``last``, newest first."""
    spans = [span_around(last, span)]
    while len(spans) < count and span is not Span.FIVE_YEARS:
        spans.append(span_around(spans[-1].start - 1, span))
    c = usage_month.c
    wanted = (c.scope == scope) & (c.subject == subject) & c.month.between(spans[-1].start, spans[0][-1])
    rows = _rows(connection, scope, select(*_COLUMNS).where(wanted), range(spans[-1].start, spans[0].stop))
    names = names_of(connection, scope)
    ours = [(months, [row for row in rows if row["month"] in months]) for months in spans]
    return [_row(scope, subject, names, at, some, _provisional(connection, at)) for at, some in ours if some]


def load_shape(connection: Connection, scope: Scope, subject: int, months: range) -> NDArray[np.float64]:
    """Return the mean power by row of ``SHAPES`` and cell, watts: four rows of an account or a microgrid, else six."""
    c = usage_month.c
    zone = zone_of(connection)
    wanted = (c.scope == scope) & (c.subject == subject) & c.month.between(months.start, months[-1])
    total: NDArray[np.int64] | None = None
    found: set[Month] = set()
    for month, payload in connection.execute(select(c.month, c.payload).where(wanted)):
        one = unpacked(payload, f"load shape of {scope.name.lower()} {subject}")
        total = one if total is None else total + one
        found.add(month)  # An account in several microgrids has several rows of a month.
    if total is None:
        return np.zeros((4, 48))
    return mean_power(total, np.concatenate([columns_of(month, zone).cells for month in found]))


def taken_with_use(connection: Connection, months: range) -> Counter[tuple[Month, int]]:
    """Return what the microgrids took whose use is known, by month and number of their class; 0: the town."""
    c = usage_month.c
    of_microgrids = select(c.month, controller.c.kind, func.sum(c.imported)).where(
        c.scope == Scope.MICROGRID,
        c.month.between(months.start, months[-1]),
        c.used.is_not(None),
        controller.c.number == c.subject,
    )
    found: Counter[tuple[Month, int]] = Counter()
    for month, kind, taken in connection.execute(of_microgrids.group_by(c.month, controller.c.kind)):
        for number in (CLASSES.index(kind) + 1, 0):
            found[month, number] += int(taken)
    return found


def panel_of(connection: Connection, quantity: str, scope: Scope, until: Month, months: int) -> tuple[Panel, list[int]]:
    """Return the months before ``until`` of all subjects of a scope, in their classes, and the subjects' numbers.

    Months without a row, and months of which less than 19 in 20 quarter-hours are there, are not known; nor are those
    in which an account or a microgrid came or went, nor the use of classes and the town in months in which a
    microgrid's is not.
    """
    c, start = usage_month.c, until - months
    wanted = (c.scope == scope) & c.month.between(start, until - 1)
    there = func.sum(c.settled - c.missing)
    statement = select(
        c.subject,
        c.month,
        func.max(c.owner_no),
        func.sum(c[quantity]),
        func.sum(c.imported),
        there,
        func.sum(c.quarters),
    )
    subjects = list(connection.execute(select(c.subject).where(wanted).distinct().order_by(c.subject)).scalars())
    at = {subject: n for n, subject in enumerate(subjects)}
    kinds = {row.number: CLASSES.index(row.kind) for row in connection.execute(select(controller))}
    values, groups = np.full((len(subjects), months), np.nan), np.zeros(len(subjects), np.int64)
    # The rows of all accounts take 100 MB.
    rows = connection.execute(statement.where(wanted).group_by(c.subject, c.month), execution_options=_A_FEW)
    taken = taken_with_use(connection, range(start, until)) if quantity == "used" and scope in _OF_MICROGRIDS else None
    spans, zone = _spans(connection, scope), zone_of(connection)
    columns = [columns_of(month, zone) for month in range(start, until)]
    for subject, month, owner, total, imported, settled, quarters in rows:
        since, end = spans.get(subject, (0, _FOR_EVER))
        is_whole = since <= columns[month - start].first and columns[month - start].until <= end
        is_whole &= taken is None or taken[month, subject] == imported
        if total is not None and is_whole and 20 * int(settled) >= 19 * int(quarters) > 0:
            values[at[subject], month - start] = max(0, int(total))
        groups[at[subject]] = subject - 1 if scope is Scope.CLASS else kinds.get(owner, 0)
    return Panel(values=values, groups=np.zeros(len(subjects), np.int64) if scope is Scope.TOWN else groups), subjects


def _spans(connection: Connection, scope: Scope) -> dict[int, tuple[Quarter, Quarter]]:
    """Return the first quarter in which each account or microgrid had a meter, and the one after the last."""
    if scope in _OF_MICROGRIDS:
        return {}
    of, subject = (holding.c, holding.c.account) if scope is Scope.ACCOUNT else (installed.c, controller.c.number)
    statement = select(
        subject, func.min(func.coalesce(of.since, 0)), func.max(func.coalesce(of.until, _FOR_EVER))
    ).group_by(subject)
    if scope is Scope.MICROGRID:
        places = installed.join(meter, meter.c.id == installed.c.meter)
        statement = statement.select_from(places.join(controller, controller.c.id == meter.c.microgrid))
    return {number: (since, until) for number, since, until in connection.execute(statement)}


def _rows(connection: Connection, scope: Scope, wanted: Select[Any], months: range) -> list[dict[str, Any]]:
    """Return the rows of a scope in some months, as ``totals_of`` needs them."""
    rows = [dict(row) for row in connection.execute(wanted).mappings()]
    if scope in _OF_MICROGRIDS:
        taken = taken_with_use(connection, months)
        rows = [row | {"taken_with_use": taken[row["month"], row["subject"]]} for row in rows]
    return rows


def _row(
    scope: Scope,
    subject: int,
    names: Mapping[int, str],
    months: range,
    rows: Sequence[Mapping[str, Any]],
    provisional: set[int],
) -> UsageRow:
    owners = {row["owner_no"] for row in rows}
    return UsageRow(
        scope=scope,
        subject=subject,
        name=names.get(subject, str(subject)),
        months=months,
        totals=totals_of(rows),
        is_provisional=bool(provisional) if owners == {0} else bool(provisional & owners),
    )


def _provisional(connection: Connection, months: range) -> set[int]:
    """Return the microgrids with a provisional day in some months."""
    last = connection.execute(select(func.max(settled_day.c.day))).scalar()
    if last is None:
        return set()
    zone, c = zone_of(connection), settled_day.c
    first = max(columns_of(months.start, zone).days.start, last - _PROVISIONAL_DAYS)
    until = columns_of(months[-1], zone).days.stop
    return set(
        connection.execute(select(c.owner_no).where(c.day.between(first, until - 1), ~c.final).distinct()).scalars()
    )


def names_of(connection: Connection, scope: Scope) -> dict[int, str]:
    """Return the names of a scope's subjects by number; accounts have none."""
    if scope is Scope.MICROGRID:
        return {row.number: row.id for row in connection.execute(select(controller.c.number, controller.c.id))}
    if scope is Scope.CLASS:
        return dict(enumerate(CLASSES, 1))
    return {0: "town"} if scope is Scope.TOWN else {}
