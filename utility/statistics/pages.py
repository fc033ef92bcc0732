"""Usage by month and more, with plots; what may come; and what a tariff would have made of a year's bills."""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from commonwatt.model.calendar import local_text, parse_month
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S
from utility.access.decisions import shown as shown_second
from utility.access.people import Actor
from utility.billing.bill import steps_of
from utility.billing.decisions import previewed
from utility.billing.preview import Year, sentences
from utility.billing.preview import year as year_of
from utility.database.base import Connection
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUANTITY_WORDS, Quantity
from utility.statistics.api import After, MonthText, NameText, ScopeText, TariffPreview
from utility.statistics.months import Month, Span, columns_of, month_number, month_text, span_around, span_text
from utility.statistics.projection import YEARS
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
from utility.statistics.usage import projected_words, tested_words
from utility.tariffs.pages import Filled
from utility.tariffs.prices_form import kept_of, written
from utility.tariffs.store import find_version
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit.console.answers import ROWS, Skip, found, other_pages, plain
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.plots import line
from utility.webkit.requests import refusing
from utility.webkit.rights import PreviewsPrices, ProposesPrices, ReadsTown

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


_PLACE = "/console/rates/preview"
_FEW = 8  # most steps of a histogram, as many as fit on a phone


@router.post("/console/rates/form/effect")
def effect(
    console: RequestConsole, request: Request, actor: ProposesPrices, filled: Annotated[Filled, Form()]
) -> HTMLResponse:
    """Show what the form's prices would have made of a month's bills, or what is wrong with them."""
    month, year, bill = filled.month or console.api.last_month(), Year(), None
    try:
        made = written(filled, kept := kept_of(filled.source))
        faults, bill = made.faults, kept.get("bill")
        if not faults:
            tariff, default = parse_tariff(made.text), console.api.settings.billing.tariff
            parse_month(month)
            year = year_of([(month, previewed(console.database, tariff, month, default))])
    except ConfigError as error:
        faults = {"": plain(error)}
    steps = steps_of([int(100 * change.difference) for change in year.changes], _FEW)
    content = {"faults": faults, "bill": bill, "month": month, "steps": steps}
    return console.fragment(request, actor, "rates_effect.html", content | {"sentences": sentences(year)})


@router.get(f"{_PLACE}/{{work_id}}")
def preview(
    console: RequestConsole,
    request: Request,
    actor: PreviewsPrices,
    work_id: str,
    order: Annotated[Literal["less", "more"], Query()] = "less",
    skip: Skip = 0,
) -> HTMLResponse:
    """Show who would pay less and who more."""
    work = console.api.works.find(work_id)
    if work is None or not isinstance(work.result, TariffPreview):
        raise HTTPException(404, "this preview is not there any more; make it again from the tariff's page")
    made, path = work.result, f"{_PLACE}/{work_id}"
    changes = made.year.changes
    ranked = changes if order == "less" else changes[::-1]
    content = {
        "preview": made,
        "work": work,
        "sentences": sentences(made.year),
        "steps": steps_of([int(100 * change.difference) for change in changes], _FEW),
        "rows": ranked[skip : skip + ROWS],
        "order": order,
        **other_pages(path, skip, is_more=len(ranked) > skip + ROWS, order=order),
    }
    return console.page(request, actor, "rates_preview.html", content | _stored(console, actor, made.tariff))


def _stored(console: Console, actor: Actor, tariff: Tariff) -> dict[str, Any]:
    """Return of a stored tariff whether it waits for a second person, and whether the one who looks may be that."""
    if not tariff.version:
        return {"stored": None}
    with console.database.reads.begin() as connection:
        stored = find_version(connection, tariff.name, tariff.version)
        second = shown_second(connection, console.api.second(actor), {stored.proposed_by: "proposed it"})
    return {"stored": stored, "tariff": stored.tariff, "begins": local_text(tariff.effective, tariff.zone)} | second
