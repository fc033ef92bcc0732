"""The page of the system: the utility's machine and its jobs."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from utility.alarms.alarm import Alarm
from utility.alarms.api import runbook_of
from utility.alarms.decisions import alarms_of
from utility.overview.pages.jobs import jobs_now
from utility.overview.system import BACKUP, Known, parts
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import READS_TOWN, ReadsTown

router = APIRouter(include_in_schema=False)


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
