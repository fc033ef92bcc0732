"""Adds the console's pages to the application, and ends what was made with an API token, in every room."""

import json
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from commonwatt.config.files import typed_words
from commonwatt.model.exceptions import ConfigError
from utility.access.people import Actor
from utility.access.store import audit_log
from utility.alarms import pages as alarms
from utility.alarms.decisions import alarms_of
from utility.billing import pages as billing
from utility.control import pages as control
from utility.control.decisions import cancel_change
from utility.corrections import pages as corrections
from utility.fleet import pages as fleet
from utility.households import pages as households
from utility.lasting import pages as lasting
from utility.ledger import pages as ledger
from utility.mail import pages as mail
from utility.moves import pages as moves
from utility.overview.pages import devices, meters, microgrids, quarantine, tour, town
from utility.overview.pages import jobs as pages
from utility.people.api import END_MADE
from utility.people.pages import audit, login, users
from utility.registry import pages as registry
from utility.replay import pages as replay
from utility.research import pages as research
from utility.setup import pages as setup
from utility.statistics import pages as statistics
from utility.statistics.api import begin_preview
from utility.tariffs import pages as tariffs
from utility.webkit.console import live, static_files
from utility.webkit.console import pages as works
from utility.webkit.console.again import form_again
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import OPEN, RefusedRequestError, UsesConsole, actor_of
from utility.webkit.services import Api


def end_made(api: Api, actor: Actor, token: int) -> int:
    """End what was made with a token and still holds; return how much.

    These are planned changes of gateways, silences and acknowledgements. What it sent, decided or proposed stays.
    """
    now, wanted = int(api.clock.now()), audit_log.AuditFilter(token=token)
    ended = 0
    # However many: a thief could bury what matters under others.
    for entry in audit_log.all_entries(api.database, wanted):
        subject, after = entry["subject"], json.loads(entry["after"] or "null")
        with suppress(ConfigError):  # It holds no more, or was ended by another person.
            match entry["action"]:
                case "command.plan":
                    cancel_change(api.database, actor, int(subject.removeprefix("change ")), now)
                case "alarm.silence":
                    alarms_of(api).end(actor, "silence", after["no"])
                case "alarm.acknowledge":
                    alarms_of(api).end(actor, "acknowledgement", after["no"])
                case _:
                    continue
            ended += 1
    return ended


router = APIRouter(include_in_schema=False)
PAGES = (
    static_files.router,
    live.router,
    router,
    login.router,
    town.router,
    microgrids.router,
    lasting.router,
    registry.router,
    meters.router,
    households.router,
    alarms.router,
    quarantine.router,
    corrections.make_router(quarantine.tabs),
    tariffs.make_drafts_router(begin_preview),
    tariffs.make_rates_router(begin_preview),
    statistics.router,
    billing.router,
    moves.router,
    mail.router,
    ledger.router,
    control.router,
    fleet.router,
    works.router,
    pages.router,
    users.router,
    replay.router,
    audit.router,
    research.router,
    devices.router,
    setup.router,
    tour.router,
)
"""The routes of each page."""


def begin_console(api: Api) -> Console:
    """Return the console of a service, which pages of all rooms have begun."""
    console = Console(api)
    api.parts[END_MADE] = end_made
    for room in (alarms, billing, town):
        room.begin(console)
    return console


@router.get("/", dependencies=[OPEN])
def root() -> RedirectResponse:
    """Redirect to the console."""
    return RedirectResponse("/console/", 303)


@router.get("/console/")
def start(console: RequestConsole, actor: UsesConsole) -> RedirectResponse:
    """Redirect to the first page that the person may open."""
    console.zone()
    if setup.leads(console, actor):
        return RedirectResponse(setup.PATH, 303)
    offered = console.entries(actor)
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
