"""The pages of the system and its jobs: the machine, what the utility does by itself, what to do with a job."""

import json
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.street.backup import BACKUPS, KEY_FILE, LAST_FILE, kept
from utility.access.people import Right
from utility.alarms.alarm import Alarm
from utility.alarms.api import runbook_of
from utility.alarms.decisions import alarms_of
from utility.jobs import store as listing
from utility.jobs.plans import SHORTEST_S, Seconds, catalogue
from utility.jobs.store import newest_periods
from utility.overview.api import ACTIONS, JobName, job_of
from utility.overview.system import BACKUP, SystemFacts, parts
from utility.readings.store.gateways import unanswered
from utility.webkit.console.answers import ROWS
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import READS_TOWN, ReadsTown

START = "/console/jobs"

PERIODS = 24  # periods of a job that its page shows

BADGES = {"ok": "good", "running": "good", "due": "good", "waiting": "idle", "paused": "warning", "failed": "bad"}


router = ACTIONS.forms


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
        "may_change": actor.may(Right.MANAGE_JOBS),
        "is_interval": isinstance(plan.cadence, Seconds),
        "shortest_s": SHORTEST_S,
        "longest_s": plan.longest_s,
    }
    return console.page(request, actor, "job.html", content)


def jobs_now(console: Console) -> dict[str, Any]:
    """Return what the list of jobs shows."""
    return {"rows": listing.listed(console.database, catalogue(console.api.settings), console.now()), "badges": BADGES}


@router.get("/console/system")
def system(console: RequestConsole, request: Request, actor: ReadsTown) -> HTMLResponse:
    """Return the parts with their states, and the jobs."""
    jobs = jobs_now(console)
    backups = [job for job in jobs["rows"] if job.name == BACKUP]
    known = SystemFacts(
        version=version("commonwatt"),
        schema=console.database.schema[1],
        jobs=len(jobs["rows"]),
        makes_backups=bool(backups),
        backup=backups[0].done if backups else None,
    )
    if (street := console.api.settings.site) is not None and not backups:
        made, last = kept(street), street / BACKUPS / LAST_FILE
        known = replace(
            known,
            street=True,
            makes_backups=(street / KEY_FILE).exists(),
            backup=int(made[0].stat().st_mtime) if made else None,
            fault=str(json.loads(last.read_bytes())["fault"]) if last.exists() else "",
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
