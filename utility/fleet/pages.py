"""The page *Fleet*: the controllers of a town, sorted and filtered, what is done to many of them; their reports."""

from collections import Counter
from typing import Annotated, get_args

from fastapi import Form, HTTPException, Path, Query, Request, Response
from pydantic import StringConstraints

from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.text import counted
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.reports import read_report
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.alarms.decisions import alarms_of
from utility.care.store import published
from utility.control.changes import TITLES, AskedChange
from utility.control.decisions import make_change
from utility.control.store import kinds_of
from utility.fleet.api import ACTIONS, shown_rollout
from utility.fleet.fleet import Sort, cared_for, chosen, ordered
from utility.fleet.store import reports_of
from utility.readings.store.gateways import last_heartbeats
from utility.webkit.console.answers import ROWS, Skip, download, other_pages, refusing
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import ReadsTown, RunsRollouts

PATH = "/console/fleet"

SHOWN = 20  # most reports of a controller that are listed
SHOWN_CHARACTERS = 200_000  # most of a report on a page; the file has all

_Name = Annotated[str, Path(pattern=f"^{MICROGRID_PATTERN}$")]
_Microgrid = Annotated[str, StringConstraints(pattern=f"^{MICROGRID_PATTERN}$")]
_Command = Annotated[str, Path(max_length=64)]
_Word = Annotated[str, Query(max_length=32)]


router = ACTIONS.forms


@router.get(PATH)
def fleet(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    name: _Word = "",
    kind: _Word = "",
    release: _Word = "",
    wrong: bool = False,
    sort: Sort = "name",
    skip: Skip = 0,
) -> Response:
    """List the controllers."""
    with console.database.reads.begin() as connection:
        kinds, heard = kinds_of(connection), last_heartbeats(connection)
    every = cared_for(kinds, heard, [row.alarm for row in alarms_of(console.api).board().rows])
    shown = ordered(chosen(every, name=name, kind=kind, release=release, wrong=wrong), sort)
    words = {"name": name, "kind": kind, "release": release, "wrong": "true" if wrong else "", "sort": sort}
    content = words | {
        "rows": shown[skip : skip + ROWS],
        "all": len(every),
        "found": len(shown),
        "wrong_count": sum(bool(one.wrong) for one in every),
        "releases": sorted(Counter(one.release for one in every if one.release).items(), reverse=True),
        "kinds": list(dict.fromkeys(kinds.values())),
        "sorts": get_args(Sort),
        "actions": TITLES,
        "rollout": next(iter(shown_rollout(console.api)), None),
        "published": sorted({each.manifest.version for each in published(console.api.settings.packages)}),
        **other_pages(PATH, skip, is_more=len(shown) > skip + ROWS, **words),
    }
    return console.page(request, actor, "fleet.html", content)


@router.post(f"{PATH}/reports")
def ask_reports(
    console: RequestConsole, actor: RunsRollouts, microgrid: Annotated[list[_Microgrid] | None, Form()] = None
) -> Response:
    """Ask the chosen controllers for reports."""
    with refusing():
        names = tuple(microgrid or ())
        if not names:
            raise ConfigError("choose controllers first")
        asked = AskedChange(action=Action.REPORT, microgrids=names)
        make_change(console.database, actor, asked, console.now())
    path = f"{PATH}/{names[0]}" if len(names) == 1 else PATH
    return console.see_other(actor, path, f"{counted(len(names), 'controller')} asked for a report")


@router.get("/console/fleet/{name}")
def reports_page(console: RequestConsole, request: Request, actor: ReadsTown, name: _Name) -> Response:
    """Show the newest report of a controller, and list the earlier ones."""
    with console.database.reads.begin() as connection:
        if name not in kinds_of(connection):
            raise HTTPException(404, f"there is no controller {name}")
        found = reports_of(connection, name, SHOWN)
    text = _text(found[0].text) if found else ""
    content = {"name": name, "reports": found, "text": text[:SHOWN_CHARACTERS], "is_cut": len(text) > SHOWN_CHARACTERS}
    return console.page(request, actor, "reports.html", content)


@router.get("/console/fleet/{name}/reports/{command}")
def file(console: RequestConsole, _: ReadsTown, name: _Name, command: _Command) -> Response:
    """Return a report as a file."""
    found = [each for each in console.database.read(reports_of, name, SHOWN) if each.command == command]
    if not found:
        raise HTTPException(404, f"there is no such report of {name}")
    return download(_text(found[0].text).encode(), f"report-{name}-{found[0].time}.txt", "text/plain")


def _text(report: str) -> str:
    try:
        return read_report(report)
    except ProtocolError as error:
        return f"what the controller sent can't be read: {error}"
