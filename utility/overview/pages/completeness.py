"""Completeness of a month, by day and by microgrid; and how far a lost database is refilled."""

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from commonwatt.model.time.local_calendar import month_after, month_before, month_quarters
from utility.overview.pages.town import permille_of
from utility.overview.pages.town_view import month_days
from utility.overview.store.days import counted_days
from utility.readings.columns import Refilling
from utility.readings.store.heartbeats import refills
from utility.webkit.columns import columns_of
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import ReadsTown

WORST = 50  # microgrids that are listed

_EPOCH = date(1970, 1, 1)
_Month = Annotated[str | None, Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A local month.")]


router = APIRouter(include_in_schema=False)


@router.get("/console/completeness")
def page(console: RequestConsole, request: Request, actor: ReadsTown, month: _Month = None) -> Response:
    """Return the page."""
    zone = console.zone()
    present, _, until = month_days(console.now(), zone)
    shown = month or present
    first, end = (quarter // 96 for quarter in month_quarters(shown, zone))
    found = console.database.read(counted_days, first, max(first, min(end, until)))
    worst = sorted(found.by_microgrid.items(), key=lambda each: permille_of(each[1]) or 0)[:WORST]
    content = {
        "month": shown,
        "found": found,
        "total": permille_of(found.total),
        "days": [(_EPOCH + timedelta(days=day), one, permille_of(one)) for day, one in found.by_day.items()],
        "worst": [(name, one, permille_of(one)) for name, one in worst],
        "earlier": f"?month={month_before(shown)}",
        "later": f"?month={month_after(shown)}" if shown < present else None,
    }
    return console.page(request, actor, "completeness.html", content)


@router.get("/console/refilling")
def refilling(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Return how far each gateway is in refilling a database that was lost."""
    rows = console.database.read(refills, int(console.now()))
    return console.page(request, actor, "refilling.html", {"rows": rows, "columns": columns_of(Refilling)})
