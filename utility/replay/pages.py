"""Our own days, otherwise: the form of what changes, and what a replay found, as a page and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel

from commonwatt.config.files import check_table
from commonwatt.model.calendar import local_day, require_near
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import Scenario
from utility.access.people import Actor, Right
from utility.billing.bill import steps_of
from utility.control.pages import Given
from utility.replay.decisions import Replayed, replay
from utility.supply.simulated import POLICIES
from utility.tariffs.store import find_version, versions
from utility.webkit.columns import columns_of
from utility.webkit.console.answers import ROWS, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsTown
from utility.webkit.works import Progress, WorkKind

_START = "/console/replay"
MAX_DAYS = 366  # most days of a replay by the page: half an hour of a small town (docs/scenarios.md)
_BARS = 8  # most steps of a histogram, as many as fit on a phone


router = APIRouter(include_in_schema=False)


@router.get(_START)
def form(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Show the form."""
    tariffs = [f"{each.name} v{each.version}" for each in console.database.read(versions)]
    return console.page(request, actor, "replay.html", {"policies": POLICIES, "tariffs": tariffs})


@router.post(_START)
def begin(console: RequestConsole, actor: ReadsTown, given: Given) -> Response:
    """Begin a replay."""
    default, policy = console.api.settings.billing.tariff, given.get("policy", "spec")
    with refusing(422):
        scenario = scenario_of(given, local_day(console.now(), console.zone()))
        name, _, number = given.get("tariff", "").rpartition(" v")
        version = int(number) if number.isdecimal() and len(number) < 10 else 0
        tariff = console.database.read(find_version, name, version).tariff if number else None

        def job(progress: Progress) -> tuple[str, Replayed]:
            return f"{_START}/{{id}}", replay(console.database, scenario, policy, tariff, default, progress)

        work = console.api.works.start(WorkKind.REPLAY, scenario.title, actor.name, console.now(), job)
    return console.see_other(actor, f"/console/works/{work.id}")


def _found(console: Console, work_id: str, actor: Actor) -> tuple[Replayed, dict[str, Sequence[BaseModel]]]:
    """Return what was _found, and the lists for a person: those who may see no bills see no account's."""
    work = console.api.works.find(work_id)
    if work is None or not isinstance(it := work.result, Replayed):
        raise HTTPException(404, "this replay is not there any more; begin it again")
    has_bills = actor.may(Right.READ_BILLS)
    return it, {name: rows for name, rows in it.tables.items() if has_bills or rows is not it.accounts}


@router.get(f"{_START}/{{work_id}}")
def shown(console: RequestConsole, request: Request, actor: ReadsTown, work_id: str) -> Response:
    """Show what a replay found."""
    it, tables = _found(console, work_id, actor)
    content = {
        "work": console.api.works.find(work_id),
        "near": it.near,
        "tables": {name: (columns_of(type(rows[0])), rows[:ROWS]) for name, rows in tables.items() if rows},
        "steps": steps_of([int(100 * row.more) for row in it.accounts], _BARS),
    }
    return console.page(request, actor, "replay_found.html", content)


@router.get(f"{_START}/{{work_id}}/rows.json")
def as_json(console: RequestConsole, actor: ReadsTown, work_id: str) -> dict[str, object]:
    """Return all rows."""
    it, tables = _found(console, work_id, actor)
    return {**it.near, **tables}


def scenario_of(given: Mapping[str, str], today: date) -> Scenario:
    """Return the scenario of a form."""
    try:
        first, last = (date.fromisoformat(given.get(name, "")) for name in ("from", "to"))
    except ValueError as error:
        raise ConfigError("from, to: give two days, such as 2026-10-01") from error
    require_near("from", first, today, 7_320, 0)
    require_near("to", last, today, 7_320, 0)
    if last - first >= timedelta(MAX_DAYS):
        raise ConfigError(f"to: at most {MAX_DAYS} days at once", "for more: commonwatt scenario run --readings")
    table: dict[str, object] = {"title": f"Our days from {first} to {last}", "start": first}
    for entry in ("battery", "outage"):
        keys = {
            key.removeprefix(f"{entry}."): text for key, text in given.items() if key.startswith(f"{entry}.") and text
        }
        if keys:
            table[entry] = [keys | ({"what": "feeder"} if entry == "outage" else {})]
    return check_table(lambda *at: ".".join(map(str, at)), Scenario, table | {"days": (last - first).days + 1})
