"""The page of alarms: what stands, silences, maintenances; and the count that every page shows."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from utility.alarms.alarm import HEAD_END, PARTS, PREFIX, TOWN, Alarm, places, title
from utility.alarms.api import ACTIONS, runbook_of
from utility.alarms.board import groups
from utility.alarms.decisions import alarms_of
from utility.alarms.jobs import notifier_of
from utility.control.changes import local_input
from utility.webkit.console.answers import ROWS, Skip, address, found, other_pages
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import HandlesAlarms, ReadsTown

DURATIONS = ((3_600, "1 hour"), (14_400, "4 hours"), (86_400, "1 day"), (259_200, "3 days"), (604_800, "7 days"))
"""The ends that a person is offered, clock seconds from now."""

PAST = 20  # ended alarms on the page
AGES_S = 30  # seconds after which a page that did not change is sent for its ages

_START = "/console/alarms"
_LOOKS = {
    "FindingsOpen": "/console/quarantine/findings",
    "ReadingsQuarantined": "/console/quarantine",
    "SecondPersonRefused": "/console/audit?action=second.",
    "BreakGlass": "/console/audit?action=machine.",
    **dict.fromkeys(("JobFailing", "JobLate", "JobPaused"), "/console/system#jobs"),
}

Key = Annotated[str, Query(max_length=30_000)]
Seen = Annotated[str, Query(max_length=40)]


def begin(console: Console) -> None:
    """Have a console's pages show the board, and its streams tell of a change."""
    console.shared["board"] = lambda: alarms_of(console.api).board()
    # Ages on the page are at most half a minute old.
    console.streams.marks["alarms"] = lambda: f"{alarms_of(console.api).board().mark} {console.now() // 30}"


router = ACTIONS.forms


@router.get(_START)
def board(console: RequestConsole, request: Request, actor: ReadsTown, skip: Skip = 0) -> HTMLResponse:
    """List what stands, and what ended last."""
    content = _listed(console, skip) | {"past": alarms_of(console.api).past(PAST)}
    content["calls"] = bool(console.api.settings.notify.to)
    return console.page(request, actor, "alarms.html", content)


@router.get(f"{_START}/live")
def live(console: RequestConsole, request: Request, actor: ReadsTown, skip: Skip = 0, seen: Seen = "") -> Response:
    """Return what stands, if the page does not show it yet."""
    content = _listed(console, skip)
    if seen == content["mark"]:
        return Response(status_code=204)
    return console.fragment(request, actor, "alarms_live.html", content)


@router.get(f"{_START}/count")
async def count(console: RequestConsole, request: Request, actor: ReadsTown, seen: Seen = "") -> Response:
    """Return the counts for the top of a page, if it does not show them yet; from memory, so on no thread."""
    if seen == alarms_of(console.api).board().mark:
        return Response(status_code=204)
    return console.page(request, actor, "alarm_count.html", {}, zone=console.api.zone.last)


@router.post(f"{_START}/test")
def test(console: RequestConsole, actor: HandlesAlarms) -> RedirectResponse:
    """Send a test message to all whom alarms call."""
    results = notifier_of(console.api).test()
    words = [f"{shown}: {'sent' if is_sent else 'failed'}" for shown, is_sent in results]
    return console.see_other(actor, _START, "; ".join(words) or "No address is set yet")


@router.get(f"{_START}/one")
def one(console: RequestConsole, request: Request, actor: ReadsTown, key: Key | None = None) -> HTMLResponse:
    """Show one alarm, with what can be done about it."""
    key = key or ""
    row = found(lambda: alarms_of(console.api).find(key))
    equal = alarms_of(console.api).equal(key)
    content = {
        "row": row,
        "equal": equal,
        "places": places(each.alarm.place for each in equal),
        "runbook": runbook_of(row.alarm.name),
        "look": _look(row.alarm),
        "durations": DURATIONS,
    }
    return console.page(request, actor, "alarm.html", content)


@router.get(f"{_START}/maintenance")
def form(
    console: RequestConsole, request: Request, actor: HandlesAlarms, place: Annotated[str, Query(max_length=40)] = ""
) -> HTMLResponse:
    """Return the form of a maintenance, for the next four hours."""
    now, zone = console.now(), console.zone()
    start, end = local_input(now, zone), local_input(now + 14_400, zone)
    parts = {"": "all of it"} | {part: part for part in PARTS}
    content = {"place": place, "start": start, "until": end, "parts": parts}
    return console.page(request, actor, "maintenance.html", content)


def _listed(console: Console, skip: int) -> dict[str, Any]:
    board = alarms_of(console.api).board()
    found = groups(board.rows)
    return {
        "board": board,
        "groups": found[skip : skip + ROWS],
        "title": title,
        "places": places,
        "skip": skip,
        "mark": f"{board.mark}-{board.time // AGES_S}",
        "alertmanager": console.api.settings.alertmanager,
        "one": lambda alarm: address(f"{_START}/one", key=alarm.key),
        "silences_shown": ROWS,
        **other_pages(_START, skip, is_more=skip + ROWS < len(found)),
    }


def _look(alarm: Alarm) -> str:
    """Return the address of the page that shows what an alarm is about; empty: there is none."""
    if alarm.place not in (TOWN, HEAD_END):
        return f"/console/microgrids/{quote(alarm.place, safe='')}"
    return _LOOKS.get(alarm.name.removeprefix(PREFIX), "")
