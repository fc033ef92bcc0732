"""Adds the console's pages to the application."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from commonwatt.config.faults import typed_words
from utility.alarms import pages as alarms
from utility.assembly.ending import end_made
from utility.billing.pages import bills, runs
from utility.control import pages as control
from utility.corrections import pages as corrections
from utility.fleet import pages as fleet
from utility.households.pages import home, home_bills
from utility.lasting import pages as lasting
from utility.ledger import pages as ledger
from utility.mail import pages as mail
from utility.moves import pages as moves
from utility.overview.pages import (
    completeness,
    devices,
    find,
    jobs,
    meters,
    microgrids,
    quarantine,
    system,
    tour,
    town,
)
from utility.people.pages import account, audit, login, second_factor, tokens, users
from utility.registry import pages as registry
from utility.replay import pages as replay
from utility.research import pages as research
from utility.statistics import pages as statistics
from utility.statistics.preview import pages as preview
from utility.statistics.preview.api import begin_preview
from utility.tariffs.pages import drafts, rates
from utility.webkit.console import pages as works
from utility.webkit.console import static_files, stream
from utility.webkit.console.again import form_again
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.navigation import entries_for
from utility.webkit.rights import OPEN, RefusedRequestError, UsesConsole, actor_of
from utility.webkit.services import Api

router = APIRouter(include_in_schema=False)
PAGES = (
    static_files.router,
    stream.router,
    router,
    login.router,
    town.router,
    completeness.router,
    microgrids.router,
    lasting.router,
    registry.router,
    meters.router,
    find.router,
    home.router,
    home_bills.router,
    alarms.router,
    quarantine.router,
    corrections.make_router(quarantine.tabs),
    drafts.make_drafts_router(begin_preview),
    rates.make_rates_router(begin_preview),
    preview.router,
    runs.router,
    bills.router,
    moves.router,
    mail.router,
    ledger.router,
    control.router,
    fleet.router,
    works.router,
    jobs.router,
    system.router,
    users.router,
    account.router,
    second_factor.router,
    statistics.router,
    replay.router,
    tokens.make_router(end_made),
    audit.router,
    research.router,
    devices.router,
    tour.router,
)
"""The routes of each page."""


def begin_console(api: Api) -> Console:
    """Return the console of a service, which pages of all rooms have begun."""
    console = Console(api)
    for room in (alarms, runs, town):
        room.begin(console)
    return console


@router.get("/", dependencies=[OPEN])
def root() -> RedirectResponse:
    """Redirect to the console."""
    return RedirectResponse("/console/", 303)


@router.get("/console/")
def start(console: RequestConsole, actor: UsesConsole) -> RedirectResponse:
    """Redirect to the first page that the person may open."""
    offered = entries_for(actor, console.demonstration is not None)
    return RedirectResponse(offered[0].path if offered else "/console/account", 303)


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


async def failed_page(request: Request, text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page that says why a request failed."""
    answer = await _told(request, "There is nothing here" if status == 404 else "That did not work", text, status)
    answer.headers.update(headers or {})
    return answer


def unknown_page(request: Request, text: str, status: int) -> Response:
    """Return a page that says why a request failed, without asking the database anything."""
    if request.headers.get("hx-request") == "true":
        return PlainTextResponse(text, status)
    console: Console = request.app.state.console
    content = {"title": "That did not work", "text": text, "nearest": ""}
    return console.page(request, None, "failed.html", content, status, console.api.zone.last)


async def wrong_form(request: Request, error: RequestValidationError) -> Response:
    """Return a page that names the wrong fields of a form or an address."""
    faults = {str(fault["loc"][1]) if len(fault["loc"]) > 1 else "": typed_words(fault) for fault in error.errors()}
    return await _told(request, "That did not work", "", 422, faults)


async def _told(
    request: Request, title: str, text: str, status: int, faults: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """Return an error: the form again, else a page for a person; the text alone for a part of a page."""
    words = "; ".join(
        [*(f"{name}: {fault}".replace("_", " ") for name, fault in faults.items()), *filter(None, [text])]
    )
    if request.headers.get("hx-request") == "true":
        return PlainTextResponse(words, status)
    nearest = await form_again(request, text, status, faults) if request.method == "POST" else ""
    if isinstance(nearest, Response):
        return nearest
    console: Console = request.app.state.console
    actor, content = await actor_of(request), {"title": title, "text": words, "nearest": nearest}
    return await run_in_threadpool(console.page, request, actor, "failed.html", content, status)
