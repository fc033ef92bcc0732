"""The own second factor: set up with an app, confirmed by its first code, renewed and removed with a code."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from utility.access.actor import Actor
from utility.access.one_time import grouped, uri_of
from utility.access.store import access, second_factors
from utility.access.store.acting import By
from utility.people.pages.account import Proven, proven
from utility.people.pages.login import Code, client_of, with_session
from utility.webkit.acting import changing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import SET_UP, SetsUpLogin, gate_of

_Secret = Annotated[str, Form(max_length=64)]


router = APIRouter(include_in_schema=False)


@router.get(SET_UP)
def page(console: RequestConsole, request: Request, actor: SetsUpLogin) -> Response:
    """Return the state of the own second factor, and the forms that change it."""
    factor = console.database.read(second_factors.in_force, actor.name)
    content = {"factor": factor, "machine_s": gate_of(request).now()}
    return console.page(request, actor, "second_factor.html", content)


@router.post(f"{SET_UP}/offer")
def offer(console: RequestConsole, request: Request, actor: SetsUpLogin, again: Proven) -> Response:
    """Show a new secret; one that is in force stays until the new one is confirmed."""
    seed = proven(console, request, actor, again, second_factors.offer)
    return _offer_page(console, request, actor, seed)


@router.post(f"{SET_UP}/confirm")
def confirm(console: RequestConsole, request: Request, actor: SetsUpLogin, secret: _Secret, code: Code) -> Response:
    """Put the new secret in force; the page shows the recovery codes once, in a new session."""
    with changing(console.api, request, actor) as by:
        codes = second_factors.confirm(by, secret, code)
        if codes is not None:
            opened = access.open_session(by.connection, actor.name, *client_of(request))
            found = access.session_actor(by.connection, opened.cookie, actor.address, by.machine_s)
    if codes is None or found is None:
        error = "The code is wrong. Wait for the next one, and look at the time of your device."
        return _offer_page(console, request, actor, secret, error, 422)
    content = {"codes": [grouped(one, "-") for one in codes]}
    return with_session(console.page(request, found[0], "recovery_codes.html", content), opened)


@router.post(f"{SET_UP}/remove")
def remove(console: RequestConsole, request: Request, actor: SetsUpLogin, again: Proven) -> Response:
    """Remove the second factor; all other sessions end."""

    def do(by: By) -> access.Opened:
        second_factors.remove(by, actor.name)
        return access.open_session(by.connection, actor.name, *client_of(request))

    opened = proven(console, request, actor, again, do)
    return with_session(RedirectResponse(SET_UP, 303), opened)


def _offer_page(
    console: Console, request: Request, actor: Actor, seed: str, error: str = "", status: int = 200
) -> Response:
    uri = uri_of(actor.name, seed)
    content = {"secret": seed, "shown": grouped(seed), "uri": uri, "error": error}
    return console.page(request, actor, "second_factor_offer.html", content, status)
