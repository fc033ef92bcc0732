"""A resident's pages: the own account's day, month, battery, sharing, bills and files, never of another."""

import json
from datetime import date, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from fastapi import HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from commonwatt.look.palette import PowerFlow
from commonwatt.look.writing import Writing
from commonwatt.model.calendar import (
    local_day,
    midnight,
    month_after,
    month_before,
    month_of,
    month_quarters,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, Quarter, quarter_of
from utility.access.people import Actor
from utility.billing.documents.explained import ExplainedBill, hours_plot, rows_within
from utility.billing.documents.statement import hours, line_text
from utility.billing.pages import bill_content, due_date, printed
from utility.billing.store.documents import KeptDocuments, RunDocuments, issued_bills, issued_documents
from utility.exports.customer import MEDIA_TYPES, SUFFIXES, CustomerFormat, FileSource, pieces_of
from utility.exports.selection import ExportSelection, Resolution, intervals
from utility.exports.store.exports import AskedExport, account_quarters
from utility.households.api import ACTIONS, own_account, own_home
from utility.households.course import (
    HOME_LOOKS,
    CourseSums,
    SettledSums,
    day_series,
    helped_now,
    home_now,
    sources_of,
    stacked,
    together,
)
from utility.households.store import (
    AccountHome,
    BillSoFar,
    BillsSoFar,
    day_around,
    day_of,
    figures_by_day,
    read_course,
    read_helping,
    read_settled,
    stored_now,
)
from utility.lasting.jobs import lasting_of
from utility.ledger.store import open_of
from utility.moves.move import next_move, told
from utility.registry.accounts import LEAST, MOST, value_at, weight_at
from utility.statistics.months import Span, columns_of, month_number
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_view import usage_history
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff, in_force
from utility.webkit.console.answers import attached, download, plain, quarters_of
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsOwnHome
from utility.webkit.services import Api

_WHOLE = 1000  # permille
SHOWN_BILLS = 60  # issued bills that are listed: five years

_Day = Annotated[
    date | None,
    Query(ge=date(2000, 1, 1), le=date(2099, 12, 31), description="A local day; today if it is not given."),
]
_Year = Annotated[int | None, Query(ge=2000, le=2099, description="A year; the present one if it is not given.")]
_Span = Annotated[Literal["day", "month", "year"], Query(description="What the plot spans.")]
_Month = Annotated[
    str | None,
    Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A local month; the present one if it is not given."),
]


router = ACTIONS.forms


@router.get("/console/home")
def page(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, of: _Span = "day", at: _Day = None
) -> Response:
    """Return the page, with the plot of a day, month or year."""
    home, now, zone = own_home(console.database, actor), console.now(), console.zone()
    reader = console.reader(request, actor)
    content = _today(console, home, now, zone, reader)
    content |= _bills(console, home, now, zone, reader) | _course_of(of, at or content["date"], content["date"], reader)
    content |= {"reader": reader, "owed": console.database.read(open_of, home.account.number)}
    content["line_text"] = partial(line_text, reader)
    moves = next_move(home.registry, home.account.number, quarter_of(now))
    content["move"] = moves and told(moves[1], moves[0], zone, reader)
    return console.page(request, actor, "home.html", content)


@router.get("/console/home/live")
def live(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return the part of the page that changes by itself: today and the battery."""
    reader = console.reader(request, actor)
    content = _today(console, own_home(console.database, actor), console.now(), console.zone(), reader)
    return console.fragment(request, actor, "home_live.html", content | {"moved": True, "reader": reader})


@router.get("/console/home/bills")
def issued(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return the issued bills, a part of the page that is loaded after it: each is proved."""
    account, reader = own_home(console.database, actor).account.number, console.reader(request, actor)
    bills, cancelled = (issued_bills(console.database, account, SHOWN_BILLS, [s]) for s in ("issued", "cancelled"))
    shown = [
        (reader.month(bill.month)[:3], bill.total or 0, f"/console/home/bills/{bill.month}") for bill in bills[:12]
    ]
    month = month_of(quarter_of(console.now()), console.zone())
    both = (month_before(month), f"{int(month[:4]) - 1}{month[4:]}")
    befores = [
        (reader.month(bill.month), bill.total) for bill in bills if bill.month in both and bill.total is not None
    ]
    content = {"issued": bills, "shown": shown, "older": bills[12:], "befores": befores, "cancelled": cancelled}
    return console.fragment(request, actor, "home_bills.html", content | {"reader": reader})


def _local_today(console: Console) -> date:
    return local_day(console.now(), console.zone())


@router.get("/console/home/course")
def course(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, of: _Span = "day", at: _Day = None
) -> Response:
    """Return the plot of a day, month or year, a part of the page."""
    own_home(console.database, actor)
    reader = console.reader(request, actor)
    content = _course_of(of, at or _local_today(console), _local_today(console), reader)
    return console.fragment(request, actor, "home_course.html", content | {"reader": reader})


def _plot(console: Console, request: Request, actor: Actor, series: list[dict[str, Any]]) -> dict[str, Any]:
    say = console.reader(request, actor).say
    return {"series": [one | {"label": say(one["label"])} for one in series], "stack": True}


@router.get("/console/home/day.json")
def day_plot(console: RequestConsole, request: Request, actor: ReadsOwnHome, day: _Day = None) -> dict[str, Any]:
    """Return the series of a local day for its plot, kilowatts by quarter-hour."""
    day = day or _local_today(console)
    home, (first, end) = own_home(console.database, actor), quarters_of(day, day, console.zone())
    return _plot(console, request, actor, day_series(day_of(console.database, home, first, end).course))


@router.get("/console/home/month.json")
def month_plot(console: RequestConsole, request: Request, actor: ReadsOwnHome, month: _Month = None) -> dict[str, Any]:
    """Return the series of a local month for its plot, kWh by day."""
    month = month or f"{_local_today(console):%Y-%m}"
    home, (first, end) = own_home(console.database, actor), month_quarters(month, console.zone())
    return _plot(console, request, actor, _days_series(console, home, first, end))


@router.get("/console/home/year.json")
def year_plot(console: RequestConsole, request: Request, actor: ReadsOwnHome, year: _Year = None) -> dict[str, Any]:
    """Return the series of a year for its plot, kWh by month."""
    home = own_home(console.database, actor)
    return _plot(console, request, actor, _months_series(console, home, year or _local_today(console).year))


@router.get("/console/home/month")
def month(console: RequestConsole, request: Request, actor: ReadsOwnHome, month: _Month = None) -> Response:
    """Return a local month by day."""
    reader, month = console.reader(request, actor), month or f"{_local_today(console):%Y-%m}"
    content = _month(console, own_home(console.database, actor), month, reader)
    return console.page(request, actor, "home_month.html", content)


@router.get("/console/home/month/sums")
def month_sums(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return the sums of the present month, a part of the page that is loaded after it."""
    home, month = own_home(console.database, actor), month_of(quarter_of(console.now()), console.zone())
    content = _month(console, home, month, console.reader(request, actor))
    return console.fragment(request, actor, "home_sums.html", content)


@router.get("/console/settings")
def settings(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return what a resident decides and takes away: the weight, and files."""
    home, now, zone = own_home(console.database, actor), console.now(), console.zone()
    reader = console.reader(request, actor)
    content = _today(console, home, now, zone, reader) | _sharing(home, now, zone)
    content |= _bills(console, home, now, zone, reader) | {"reader": reader}
    return console.page(request, actor, "home_settings.html", content)


@router.get("/console/home/weight/past")
def past(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return what the weight did last month, a part of the page that is loaded after it."""
    home, zone = own_home(console.database, actor), console.zone()
    month = month_before(month_of(quarter_of(console.now()), zone))
    first, end = month_quarters(month, zone)
    last, weight = read_helping(console.database, home, first, end), weight_at(home.account, end - 1)
    reader = console.reader(request, actor)
    content = {"title": reader.month(month), "weight": weight, "last": last, "reader": reader}
    return console.fragment(request, actor, "home_weight.html", content)


def _today(console: Console, home: AccountHome, now: EpochSeconds, zone: ZoneInfo, reader: Writing) -> dict[str, Any]:
    own = stored_now(console.database, home, now, zone, shared=False)
    today = day_of(console.database, home, *day_around(now, zone)) if own is None else own.today
    building, reports = stored_now(console.database, home, now, zone, shared=True), lasting_of(console.api).said
    low = [battery for its in (own, building) if its and its.low_since for battery in its.batteries]
    beats = {b.meter: reports[b.microgrid].heartbeat if b.microgrid in reports else None for b in low}
    return {
        "help": {meter: helped_now(beat, meter, now, reader) for meter, beat in beats.items()},
        "account": home.account.number,
        "has_setup": console.api.settings.site is not None,
        "town": console.api.zone.name if console.api.settings.site is not None or console.api.zone.street else "",
        "places": home.places(quarter_of(now)),
        "today": today,
        "picture": home_now(today.course),
        "looks": HOME_LOOKS,
        "date": local_day(now, zone),
        "own": own,
        "building": building,
        "lasting": lasting_of(console.api).told_to_residents(
            (name for name, _ in home.places(quarter_of(now))), home.account.number, reader
        ),
    }


def _sharing(home: AccountHome, now: EpochSeconds, zone: ZoneInfo) -> dict[str, Any]:
    quarter = quarter_of(now)
    return {
        "last_month": month_before(month_of(quarter, zone)),
        "weight": weight_at(home.account, quarter),
        "later_weights": [dated for dated in home.account.weights if dated.start > quarter],
        "least": LEAST,
        "most": MOST,
        "tomorrow": local_day(now, zone) + timedelta(days=1),
    }


def _so_far(api: Api) -> BillsSoFar:
    return BillsSoFar(api.database, api.settings.billing.tariff, api.settings.settlement)


def _bills(console: Console, home: AccountHome, now: EpochSeconds, zone: ZoneInfo, reader: Writing) -> dict[str, Any]:
    content: dict[str, Any] = {"so_far": None, "has_rates": True, "energy_today": None}
    try:
        if (bill := console.api.part(_so_far).of(home, now)) is not None:
            content |= {"energy_today": bill, "so_far": bill if bill.until else None}
    except ConfigError:
        content["has_rates"] = False
    content["issued"] = issued_bills(console.database, home.account.number, 1)
    month = month_of(quarter_of(now), zone)
    content |= {"month": month, "title": reader.say(f"{_first(month):%B}")}
    return content | _file(content["so_far"], _first(month), local_day(now, zone), zone)


def _file(so_far: BillSoFar | None, first: date, today: date, zone: ZoneInfo) -> dict[str, Any]:
    """Return what the form of files is filled with, so that the file has data: the month as far as it is settled."""
    settled = first if so_far is None or so_far.until is None else local_day(so_far.until * QUARTER_S, zone)
    if settled > first:
        return {"file_from": first, "file_to": settled, "file_of": FileSource.SETTLED}
    return {"file_from": today, "file_to": today + timedelta(days=1), "file_of": FileSource.READINGS}


def _month(console: Console, home: AccountHome, month: str, reader: Writing) -> dict[str, Any]:
    zone = console.zone()
    first, end = month_quarters(month, zone)
    # Days that have not begun have no row.
    end = max(first, min(end, day_around(console.now(), zone)[1]))
    settled, until = read_settled(console.database, home, first, end, zone) if first < end else ([], None)
    days = figures_by_day(console.database, home, first, end, zone) if first < end else []
    rows = [
        (local_day(day.start, zone), day, figures) for day, figures in zip(settled, days, strict=True) if day.expected
    ]
    whole = together([sums for _, sums, _ in rows], first * QUARTER_S)
    return {
        "saved": _saved(console, home, rows),
        "reader": reader,
        "month": month,
        "title": reader.month(month),
        "helping": read_helping(console.database, home, first, end) if first < end else None,
        "rows": rows,
        "whole": whole,
        "settled_days": sum(sums.quarters > 0 for _, sums, _ in rows),
        "sums": _added([figures for _, _, figures in rows]),
        "until": None if until is None else until * QUARTER_S,
        "earlier": month_before(month),
        "later": month_after(month) if end == month_quarters(month, zone)[1] else None,
    }


def _saved(
    console: Console, home: AccountHome, rows: list[tuple[date, SettledSums, CourseSums]]
) -> tuple[float, float, int] | None:
    """Return what own energy, and neighbours', saved at the lowest price, and of how many days the first is."""
    # Neighbours' is of all that is settled, as what was received; the own is of settled days with all readings.
    # ``None``: no tariff is in force.
    tariff = _tariff(console, home)
    if tariff is None:
        return None
    price = float(min(period.import_ for period in tariff.prices)) / 1e6
    own = [
        (figures.used.energy or 0) - sums.imported - sums.got
        for _, sums, figures in rows
        if sums.quarters == sums.expected and figures.used is not None and figures.used.permille == _WHOLE
    ]
    return max(0, sum(own)) * price, sum(sums.got for _, sums, _ in rows) * price, len(own)


def _tariff(console: Console, home: AccountHome) -> Tariff | None:
    """Return the version of the account's tariff that is in force now; ``None``: none is."""
    versions = console.database.read(published)
    now = quarter_of(console.now())
    name = value_at(home.account.tariffs, now) or console.api.settings.billing.tariff
    return in_force([version for version in versions if version.name == name], now)


def _added(days: list[CourseSums]) -> list[tuple[str, int, int]]:
    """Return the sums over some days, by name, and of how many days each is; only of what has readings."""
    by_name: dict[str, list[int]] = {}
    for day in days:
        for name, figure in day.all:
            if figure.energy is not None:
                by_name.setdefault(name, []).append(figure.energy)
    return [(name, sum(energies), len(energies)) for name, energies in by_name.items()]


def _first(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


def _course_of(span: str, at: date, today: date, reader: Writing) -> dict[str, Any]:
    """Return what the plot of a day, month or year shows, with the ones before and after it."""
    by_span = {"day": f"{at}", "month": f"{at:%Y-%m}", "year": f"{at.year}"}
    if span == "day":
        title, first, after = reader.day(at), at, at + timedelta(days=1)
    elif span == "month":
        first = at.replace(day=1)
        title, after = reader.month(by_span["month"]), (first + timedelta(days=31)).replace(day=1)
    else:
        title, first, after = by_span["year"], at.replace(month=1, day=1), date(at.year + 1, 1, 1)
    return {
        "of": span,
        "at": at,
        "course_title": title,
        "asked": by_span,
        "before": first - timedelta(days=1),
        "after": after if after <= today else None,
    }


def _days_series(console: Console, home: AccountHome, first: Quarter, end: Quarter) -> list[dict[str, Any]]:
    """Return the use of each day by source, as its whole quarter-hours have it."""
    # Of a month whose readings are no longer kept: what was taken, as settled.
    zone = console.zone()
    end = max(first, min(end, day_around(console.now(), zone)[1]))
    if first >= end:
        return []
    course = read_course(console.database, home, first, end)
    starts = intervals(Resolution.DAY, first, end, zone).starts
    places = (starts[:-1] // QUARTER_S - first).tolist()
    is_whole = course.used.is_whole
    known = np.add.reduceat(is_whole, places) > 0
    if not known.any():
        settled, _ = read_settled(console.database, home, first, end, zone)
        taken = {
            PowerFlow.NEIGHBOURS: [day.got for day in settled],
            PowerFlow.PLANT: [day.imported for day in settled],
        }
        days = [day.start for day in settled]
        kwh = {flow: [round(value / 1e6, 3) for value in energies] for flow, energies in taken.items()}
        return stacked(kwh, days, 86_400, "kWh") if any(day.quarters for day in settled) else []
    rows = {
        flow: [
            round(energy / 1e6, 3) if there else None
            for energy, there in zip(np.add.reduceat(used * is_whole, places).tolist(), known.tolist(), strict=True)
        ]
        for flow, used in sources_of(course).items()
    }
    return stacked(rows, starts[:-1].tolist(), 86_400, "kWh") if course.used.expected.any() else []


def _months_series(console: Console, home: AccountHome, year: int) -> list[dict[str, Any]]:
    """Return the use of each month by source, as settled."""
    rows = console.database.read(
        usage_history, Scope.ACCOUNT, home.account.number, month_number(f"{year}-12"), Span.MONTH, 12
    )
    rows = [row for row in reversed(rows) if row.totals.used is not None]
    totals = [(row.totals, max(0, (row.totals.used or 0) - row.totals.imported - row.totals.shared_in)) for row in rows]
    kwh: dict[PowerFlow, list[float | None]] = {
        PowerFlow.SUN: [round(own / 1e6, 3) for _, own in totals],
        PowerFlow.NEIGHBOURS: [round(usage.shared_in / 1e6, 3) for usage, _ in totals],
        PowerFlow.PLANT: [round(usage.imported / 1e6, 3) for usage, _ in totals],
    }
    starts = [columns_of(row.months.start, console.zone()).first * QUARTER_S for row in rows]
    return stacked(kwh, starts, 30 * 86_400, "kWh") if rows else []


_BillMonth = Annotated[str, Path(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A local month.")]
_Run = Annotated[int, Query(ge=0, lt=2**31, description="A cancelled run, whose bill is wanted; 0: the issued one.")]
_Form = Annotated[CustomerFormat, Query(description="Green Button (XML), or a spreadsheet (CSV).")]
_Source = Annotated[FileSource, Query(description="Settled quarter-hours, as bills have them, or sums of readings.")]


@router.get("/console/home/bills/{month}")
def month_page(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, month: _BillMonth, run: _Run = 0
) -> Response:
    """Return an issued bill with its explanation by day."""
    account, documents = _documents(console, actor, month, run)
    (statement,) = documents.statements([account])
    explained = ExplainedBill(documents.run.inputs(), statement.bill, statement.meters)
    path, query = f"/console/home/bills/{month}", f"?run={run}" if run else ""
    reader, before = console.reader(request, actor), (month_before(month), 0)
    content = bill_content(
        console, statement, documents, lambda: console.api.part(_kept).of(account, before), reader.language
    ) | {
        "reader": reader,
        "rows": rows_within(explained, writing=reader),
        "files": [f"{path}/{name}{query}" for name in ("pdf", "receipt", "plot.json")],
        "due": due_date(console, documents.number),
    }
    return console.page(request, actor, "bill_parts.html", content)


@router.get("/console/home/bills/{month}/plot.json")
def plot(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, month: _BillMonth, run: _Run = 0
) -> dict[str, Any]:
    """Return the bill's energies by local hour, kWh, as the printed bill draws them."""
    account, documents = _documents(console, actor, month, run)
    (statement,) = documents.statements([account])
    return hours_plot(hours(statement), console.reader(request, actor))


@router.get("/console/home/bills/{month}/receipt")
def receipt(console: RequestConsole, actor: ReadsOwnHome, month: _BillMonth, run: _Run = 0) -> Response:
    """Return the receipt of an issued bill, by which its household checks it without the utility."""
    account, documents = _documents(console, actor, month, run)
    content = json.dumps(documents.receipt(account), separators=(",", ":"))
    return download(content.encode(), f"receipt-{month}-{account}.json", "application/json")


@router.get("/console/home/bills/{month}/pdf")
def paper(console: RequestConsole, actor: ReadsOwnHome, month: _BillMonth, run: _Run = 0) -> Response:
    """Return an issued bill as PDF."""
    account, documents = _documents(console, actor, month, run)
    return download(printed(console, documents, account), f"bill-{month}-{account}.pdf", "application/pdf")


@router.get("/console/home/energy")
def energy(
    console: RequestConsole,
    actor: ReadsOwnHome,
    start: date | None = None,
    end: date | None = None,
    form: _Form = CustomerFormat.GREEN_BUTTON,
    of: _Source = FileSource.SETTLED,
) -> Response:
    """Return the account's quarter-hours of some local days as a file; today's if none are given."""
    account, zone = own_account(actor), console.zone()
    start = start or local_day(console.now(), zone)
    end = end or start + timedelta(days=1)
    try:
        first, until = (midnight(day, zone) * QUARTER_S for day in (start, end))
        selection = ExportSelection(accounts=(account,))
        export = AskedExport(start=first, end=until, selection=selection, names=("start", "end", "", "", "account"))
        quarters = account_quarters(console.database, export, settled=of is FileSource.SETTLED)
    except (ConfigError, ValueError, OverflowError) as error:
        raise HTTPException(422, plain(error)) from error
    name = f"energy-{account}-{start}-{end}.{SUFFIXES[form]}"
    pieces = pieces_of(quarters, form, f"{console.database.store_id:x}", zone)
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[form], headers=attached(name))


def _kept(api: Api) -> KeptDocuments[tuple[str, int]]:
    return KeptDocuments(partial(issued_documents, api.database), api.database)


def _documents(console: Console, actor: Actor, month: str, run: int) -> tuple[AccountNumber, RunDocuments]:
    account = own_account(actor)
    try:
        return account, console.api.part(_kept).of(account, (month, run))
    except ConfigError as error:
        raise HTTPException(404, "no bill of yours can be shown here; if you have one, ask the utility") from error
