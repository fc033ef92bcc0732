"""The pages of the system and its jobs: the machine, what the utility does by itself, what to do with a job."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.units import EpochSeconds
from utility.access.people import Actor, Role
from utility.alarms.alarm import Alarm
from utility.alarms.api import runbook_of
from utility.alarms.decisions import alarms_of
from utility.database.database import Database
from utility.jobs import store as listing
from utility.jobs.plans import SHORTEST_S, Plan, Seconds, catalogue, minute_of
from utility.jobs.store import newest_periods
from utility.overview.api import JobName, job_of
from utility.overview.system import BACKUP, Known, parts
from utility.readings.store.gateways import unanswered
from utility.webkit.console.answers import ROWS, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import READS_TOWN, ManagesJobs, ReadsTown

START = "/console/jobs"

PERIODS = 24  # periods of a job that its page shows

BADGES = {"ok": "good", "running": "good", "due": "good", "waiting": "idle", "paused": "warning", "failed": "bad"}


router = APIRouter(include_in_schema=False)


@router.get(f"{START}/live")
def live(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Return the list alone."""
    return console.fragment(request, actor, "jobs_live.html", jobs_now(console))


@router.get("/console/requests")
def requests(console: RequestConsole, request: Request, actor: ReadsTown) -> HTMLResponse:
    """Return the requests without an answer, oldest first."""
    rows = console.database.read(unanswered, console.now(), ROWS)
    return console.page(request, actor, "requests.html", {"rows": rows, "most": ROWS})


@router.get(f"{START}/{{name}}")
def one(console: RequestConsole, request: Request, actor: ReadsTown, name: JobName) -> HTMLResponse:
    """Return a job with its last periods, and the forms of an administrator."""
    plan = job_of(console.api, name)
    (row,) = listing.listed(console.database, [plan], console.now())
    periods = console.database.read(newest_periods, PERIODS, console.now(), plan.name)
    content = {
        "row": row,
        "badges": BADGES,
        "periods": periods,
        "may_change": actor.has(Role.ADMIN),
        "is_interval": isinstance(plan.cadence, Seconds),
        "shortest_s": SHORTEST_S,
        "longest_s": plan.longest_s,
    }
    return console.page(request, actor, "job.html", content)


@router.post(f"{START}/{{name}}/run")
def run(console: RequestConsole, actor: ManagesJobs, name: JobName) -> RedirectResponse:
    """Have the service run a job now."""
    plan = job_of(console.api, name)
    with refusing():
        return _done(console, actor, plan, listing.run_now(console.database, plan, actor, console.now()))


@router.post(f"{START}/{{name}}/pause")
def pause(console: RequestConsole, actor: ManagesJobs, name: JobName) -> RedirectResponse:
    """Pause a job."""
    return _changed(console, actor, name, listing.pause, "It is paused.")


@router.post(f"{START}/{{name}}/resume")
def resume(console: RequestConsole, actor: ManagesJobs, name: JobName) -> RedirectResponse:
    """Resume a job."""
    return _changed(console, actor, name, listing.resume, "It is resumed.")


@router.post(f"{START}/{{name}}/reset")
def reset(console: RequestConsole, actor: ManagesJobs, name: JobName) -> RedirectResponse:
    """Have a job run as planned."""
    return _changed(console, actor, name, listing.change, "It runs as planned.")


@router.post(f"{START}/{{name}}/change")
def change(
    console: RequestConsole,
    actor: ManagesJobs,
    name: JobName,
    every_s: Annotated[int | None, Form()] = None,
    at: Annotated[str, Form(max_length=8)] = "",
) -> RedirectResponse:
    """Set a job's interval or time of day."""
    plan = job_of(console.api, name)
    if every_s is None and not at:
        raise HTTPException(422, "give the interval or the time of day. Nothing was changed.")
    with refusing(422):
        minute = minute_of(at) if at else None
        listing.change(console.database, plan, actor, console.now(), every_s=every_s, minute=minute)
    return _done(console, actor, plan, "It is changed; that holds from the next run on.")


def _done(console: Console, actor: Actor, plan: Plan, words: str) -> RedirectResponse:
    return console.see_other(actor, f"{START}/{plan.name}", words)


_Change = Callable[[Database, Plan, Actor, EpochSeconds], None]


def _changed(console: Console, actor: Actor, name: str, change: _Change, words: str) -> RedirectResponse:
    plan = job_of(console.api, name)
    with refusing():
        change(console.database, plan, actor, console.now())
    return _done(console, actor, plan, words)


def jobs_now(console: Console) -> dict[str, Any]:
    """Return what the list of jobs shows."""
    return {"rows": listing.listed(console.database, catalogue(console.api.settings), console.now()), "badges": BADGES}


@router.get("/console/system")
def system(console: RequestConsole, request: Request, actor: ReadsTown) -> HTMLResponse:
    """Return the parts with their states, and the jobs."""
    jobs = jobs_now(console)
    backups = [job for job in jobs["rows"] if job.name == BACKUP]
    known = Known(
        version=version("commonwatt"),
        schema=console.database.schema[1],
        jobs=len(jobs["rows"]),
        makes_backups=bool(backups),
        backup=backups[0].done if backups else None,
    )
    found = parts(alarms_of(console.api).facts(), known, console.now())
    return console.page(request, actor, "system.html", {"parts": list(found), "where": _where} | jobs)


@router.get("/console/jobs", dependencies=[READS_TOWN])
def old() -> RedirectResponse:
    """Redirect from the former page of the jobs."""
    return RedirectResponse("/console/system#jobs", 303)


def _where(alarm: Alarm) -> str:
    """Return where a person acts on an alarm."""
    return f"/console/jobs/{alarm.labels['task']}" if "task" in alarm.labels else runbook_of(alarm.name)
