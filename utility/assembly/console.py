"""Adds the console's pages to the application."""

from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from commonwatt.config.faults import plain
from utility.alarms.pages import add_alarms
from utility.assembly.ending import end_made
from utility.billing.pages.bills import add_bills
from utility.billing.pages.runs import add_runs
from utility.control.pages import add_schedules
from utility.corrections.pages import add_corrections
from utility.fleet.pages import add_fleet, add_reports, add_rollout_forms
from utility.households.pages.home import add_home
from utility.households.pages.home_bills import add_home_bills
from utility.lasting.pages import add_lasting
from utility.ledger.pages import add_ledger
from utility.mail.pages import add_mail
from utility.moves.pages import add_accounts
from utility.overview.pages.completeness import add_completeness
from utility.overview.pages.devices import add_devices
from utility.overview.pages.find import add_find
from utility.overview.pages.jobs import add_jobs
from utility.overview.pages.meters import add_meters
from utility.overview.pages.microgrids import add_microgrids
from utility.overview.pages.quarantine import add_quarantine, tabs
from utility.overview.pages.system import add_system
from utility.overview.pages.tour import add_tour
from utility.overview.pages.town import add_town
from utility.people.pages.account import add_account
from utility.people.pages.audit import add_audit
from utility.people.pages.login import add_login
from utility.people.pages.second_factor import add_second_factor
from utility.people.pages.tokens import add_tokens
from utility.people.pages.users import add_users
from utility.registry.pages import add_spared
from utility.replay.pages import add_replay
from utility.research.pages import add_research
from utility.statistics.pages import add_statistics_page
from utility.statistics.preview.api import begin_preview
from utility.statistics.preview.pages import add_preview
from utility.tariffs.pages.drafts import add_drafts
from utility.tariffs.pages.rates import add_rates
from utility.webkit.console.console import Console
from utility.webkit.console.look import add_look
from utility.webkit.console.navigation import entries_for
from utility.webkit.console.pages import add_works
from utility.webkit.console.static_files import add_static
from utility.webkit.console.stream import add_stream
from utility.webkit.rights import OPEN, Anybody, RefusedRequestError, actor_of

PAGES: tuple[Callable[[FastAPI, Console], None], ...] = (
    add_login,
    add_town,
    add_completeness,
    add_microgrids,
    add_lasting,
    add_spared,
    add_meters,
    add_find,
    add_home,
    add_home_bills,
    add_alarms,
    add_quarantine,
    partial(add_corrections, tabs=tabs),
    partial(add_drafts, begin=begin_preview),
    partial(add_rates, begin=begin_preview),
    add_preview,
    add_runs,
    add_bills,
    add_accounts,
    add_mail,
    add_ledger,
    add_schedules,
    add_fleet,
    add_rollout_forms,
    add_reports,
    add_works,
    add_look,
    add_jobs,
    add_system,
    add_users,
    add_account,
    add_second_factor,
    add_statistics_page,
    add_replay,
    partial(add_tokens, end=end_made),
    add_audit,
    add_research,
    add_devices,
    add_tour,
)
"""Each adds the routes of one page."""


def add_console(app: FastAPI, console: Console) -> None:
    """Add all pages."""
    app.state.console = console
    add_static(app, console.static)
    add_stream(app, console.streams)

    @app.get("/", include_in_schema=False, dependencies=[OPEN])
    def root() -> RedirectResponse:
        """Redirect to the console."""
        return RedirectResponse("/console/", 303)

    @app.get("/console/", include_in_schema=False)
    def start(actor: Anybody) -> RedirectResponse:
        """Redirect to the first page that the person may open."""
        offered = entries_for(actor, console.demonstration is not None)
        return RedirectResponse(offered[0].path if offered else "/console/account", 303)

    for add in PAGES:
        add(app, console)


async def refused_page(request: Request, error: RefusedRequestError) -> Response:
    """Return the answer to a request of a page that is not allowed: the login page, or why not."""
    if error.status == 401:
        login = f"/console/login?next={quote(request.url.path)}" if request.method == "GET" else "/console/login"
        if request.headers.get("hx-request") == "true":
            return PlainTextResponse(error.text, 401, {"HX-Redirect": "/console/login"})
        return RedirectResponse(login, 303)
    if error.instead and request.headers.get("hx-request") == "true":
        return PlainTextResponse(error.text, error.status, {"HX-Redirect": error.instead})
    if error.instead:
        return RedirectResponse(error.instead, 303)
    return await _told(request, "Not allowed", error.text, error.status)


async def failed_page(request: Request, error: HTTPException) -> Response:
    """Return a page that says why a request failed."""
    title = "There is nothing here" if error.status_code == 404 else "That did not work"
    answer = await _told(request, title, str(error.detail), error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def unknown_page(request: Request, text: str, status: int) -> Response:
    """Return a page that says why a request failed, without asking the database anything."""
    if request.headers.get("hx-request") == "true":
        return PlainTextResponse(text, status)
    console: Console = request.app.state.console
    content = {"title": "That did not work", "text": text}
    return console.page(request, None, "failed.html", content, status, console.api.zone.last)


async def wrong_form(request: Request, error: RequestValidationError) -> Response:
    """Return a page that names the wrong fields of a form or an address."""
    named = [(".".join(map(str, fault["loc"][1:])).replace("_", " "), plain(fault)) for fault in error.errors()]
    return await _told(request, "That did not work", "; ".join(f"{name}: {text}" for name, text in named), 422)


async def _told(request: Request, title: str, text: str, status: int) -> Response:
    """Return an error: a page for a person, the text alone for a part of a page."""
    if request.headers.get("hx-request") == "true":
        return PlainTextResponse(text, status)
    console: Console = request.app.state.console
    actor, content = await actor_of(request), {"title": title, "text": text}
    return await run_in_threadpool(console.page, request, actor, "failed.html", content, status)
