"""Usage by month, quarter, year and five years, with plots; what the next month and five years may bring."""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from commonwatt.model.units import QUARTER_S
from commonwatt.settlement.settled import QUANTITY_WORDS, Quantity
from utility.database.base import Connection
from utility.database.town_zone import zone_of
from utility.statistics.api import After, MonthText, NameText, ScopeText
from utility.statistics.months import Month, Span, columns_of, month_number, month_text, span_around, span_text
from utility.statistics.scenarios import YEARS
from utility.statistics.series import SHAPES
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.store.usage_projection import Projectable, projection_view
from utility.statistics.store.usage_view import (
    MOST_ROWS,
    last_month,
    load_shape,
    scope_of,
    subject_of,
    usage_history,
    usage_page,
)
from utility.statistics.words import projected_words, tested_words
from utility.webkit.console.answers import found
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.plots import line
from utility.webkit.rights import ReadsTown
from utility.webkit.shapes import refusing

_PATH = "/console/statistics"
_MONTH_S = 28 * 86_400  # seconds of a month's step in a plot: no month is shorter

_HOUR_S = 3600
_MOST_PERIODS = 24  # rows of one subject's past; its plot has five years

_KWH = 1e6
_PLOTTED = {
    "imported": QUANTITY_WORDS[Quantity.IMPORTED].capitalize(),
    "exported": QUANTITY_WORDS[Quantity.EXPORTED].capitalize(),
    "used": "Used",
}
_SHAPED = {**_PLOTTED, "shared_in": "Taken from the microgrid", "generated": "Generated"}

BySpan = Annotated[Span, Query()]


router = APIRouter(include_in_schema=False)


@router.get(_PATH)
def page(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    scope: ScopeText = "town",
    by: BySpan = Span.MONTH,
    month: MonthText = "",
    name: NameText = "",
    after: After = -1,
) -> HTMLResponse:
    """Show usage and projections."""
    content = _content(console, scope_of(scope), by, month, name.strip(), after)
    return console.page(request, actor, "statistics.html", content)


@router.get(f"{_PATH}/months.json")
def months(console: RequestConsole, _: ReadsTown, scope: ScopeText = "town", name: NameText = "town") -> dict[str, Any]:
    """Return the months of a subject's last five years, and what is projected of the next one."""
    return _months(console, scope_of(scope), name)


@router.get(f"{_PATH}/shape.json")
def shape(
    console: RequestConsole,
    _: ReadsTown,
    scope: ScopeText = "town",
    name: NameText = "town",
    by: BySpan = Span.MONTH,
    month: MonthText = "",
) -> dict[str, Any]:
    """Return a subject's mean power by local hour."""
    return _shape(console, scope_of(scope), name, by, month)


def _content(console: Console, scope: Scope, by: Span, month: str, name: str, after: int) -> dict[str, Any]:
    name = name or {Scope.TOWN: "town"}.get(scope, "")
    with console.database.reads.begin() as connection:
        wanted = _month(month) if month else last_month(connection)
        rows, view = [], projection_view(connection, Scope.TOWN)
        if wanted is not None and name:
            rows = usage_history(
                connection, scope, _number(connection, scope, name), wanted, by, min(_MOST_PERIODS, 60 // by.months)
            )
        elif wanted is not None:
            rows = usage_page(connection, scope, span_around(wanted, by), after=after)
    query = {"scope": scope.name.lower(), "by": by.value, "month": month}
    is_more = not name and len(rows) == MOST_ROWS
    return {
        "scope": scope.name.lower(),
        "scopes": [each.name.lower() for each in reversed(Scope)],
        "by": by.value,
        "spans": {each.value: each.value.replace("_", " ") for each in Span},
        "month": month,
        "name": name,
        "classes": CLASSES,
        "rows": [(row, span_text(row.months, by), row.totals) for row in rows],
        "quarter_s": QUARTER_S,
        "years": list(range(1, YEARS + 1)),
        "scenarios": [(name, list(each)) for name, each in groupby(view.get("scenarios", ()), itemgetter("scenario"))],
        "plots": urlencode({"scope": scope.name.lower(), "name": name, "by": by.value, "month": month}),
        "projected": _projected(view),
        "view": view,
        "projected_month": month_text(view["month"]) if view else "",
        "tested": tested_words(*view["tested"]["imported"]) if view else "",
        "earlier": f"{_PATH}?{urlencode(query)}" if after >= 0 else None,
        "later": f"{_PATH}?{urlencode({**query, 'after': rows[-1].subject})}" if is_more else None,
    }


def _projected(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is projected of the town, in words."""
    found = []
    for row in view.get("rows", ()):
        quantity = Projectable(row["quantity"])
        words = projected_words(row["low"], row["middle"], row["high"], is_money=quantity.is_money)
        found.append((quantity.name.capitalize(), words))
    return found


def _months(console: Console, scope: Scope, name: str) -> dict[str, Any]:
    with console.database.reads.begin() as connection:
        last = last_month(connection)
        if last is None:
            return {"series": []}
        subject = _number(connection, scope, name)
        rows = usage_history(connection, scope, subject, last, Span.MONTH, 60)[::-1]
        view = projection_view(connection, scope, [subject])
        zone = zone_of(connection)

    def start(month: Month) -> int:
        return columns_of(month, zone).first * QUARTER_S

    series = []
    for key, label in _PLOTTED.items():
        values = [getattr(row.totals, key) for row in rows]
        high = [None if value is None else value / _KWH for value in values]
        doubtful = [row for row in rows if row.totals.complete < 1]
        marks = [[start(row.months.start), start(row.months.stop), "not complete"] for row in doubtful]
        x = [start(row.months.start) for row in rows]
        series.append(line(label, "kWh", x, _MONTH_S, high) | {"marks": marks if key == "imported" else []})
    for row in view.get("rows", ()):
        quantity = Projectable(row["quantity"])
        if quantity is Projectable.IMPORTED and row["low"] is not None:
            x = [start(view["month"])]
            series += [
                line(f"{_PLOTTED['imported']} as projected, at {word}", "kWh", x, _MONTH_S, [row[key] / _KWH])
                for key, word in (("low", "least"), ("high", "most"))
            ]
    note = "8 of 10 months are expected between the two projected figures." if len(series) > len(_PLOTTED) else ""
    return {"series": series, "note": note}


def _shape(console: Console, scope: Scope, name: str, by: Span, month: str) -> dict[str, Any]:
    with console.database.reads.begin() as connection:
        last = _month(month) if month else last_month(connection)
        if last is None:
            return {"series": []}
        months = span_around(last, by)
        found = load_shape(connection, scope, _number(connection, scope, name), months)
        columns = columns_of(months.start, zone_of(connection))
    begin = columns.plain_day * QUARTER_S
    series = []
    for row, key in enumerate(SHAPES[: len(found)]):
        if key in _SHAPED and found[row].any():
            for day, word in enumerate(("weekdays", "weekends")):
                hours = (found[row, 24 * day : 24 * day + 24] / 1000).tolist()
                x = [begin + _HOUR_S * hour for hour in range(24)]
                series.append(line(f"{_SHAPED[key]}, {word}", "kW", x, _HOUR_S, hours))
    return {"series": series, "note": f"Means by local hour over {span_text(months, by)}; the date means nothing."}


def _number(connection: Connection, scope: Scope, name: str) -> int:
    return int(found(lambda: subject_of(connection, scope, name)))


def _month(text: str) -> Month:
    with refusing(422):
        return month_number(text)
