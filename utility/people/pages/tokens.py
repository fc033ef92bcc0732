"""API tokens: the own ones; administrators see and revoke all."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request, Response

from utility.access.actor import Actor
from utility.access.roles import Role
from utility.access.rules import MAX_TOKEN_DAYS
from utility.access.store import audit_log
from utility.access.store.api_tokens import make_token, revoke_token, tokens
from utility.people.pages.entries import with_changes
from utility.webkit.acting import changing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import UsesConsole, gate_of
from utility.webkit.services import Api

Number = Annotated[int, Path(ge=1, lt=2**31)]

SHOWN = 500  # tokens, or entries of the audit log of one, on one page


def make_router(end: Callable[[Api, Actor, int], int]) -> APIRouter:
    """Return the routes; ``end`` ends what a token made, and returns how much."""
    router = APIRouter(include_in_schema=False)

    @router.get("/console/tokens")
    def page(
        console: RequestConsole,
        request: Request,
        actor: UsesConsole,
        everybody: Annotated[bool, Query(alias="all")] = False,
    ) -> Response:
        """Return the own tokens; for an administrator all."""
        return _page(console, request, actor, everybody=everybody)

    @router.post("/console/tokens")
    def make(
        console: RequestConsole,
        request: Request,
        actor: UsesConsole,
        label: Annotated[str, Form(max_length=64)],
        roles: Annotated[list[Role], Form()],
        days: Annotated[int, Form()],
    ) -> Response:
        """Make a token; the page shows it once."""
        with changing(console.api, request, actor) as by:
            text, _ = make_token(by, label, frozenset(roles), 24 * days)
        return _page(console, request, actor, text=text)

    @router.post("/console/tokens/{number}/revoke")
    def revoke(
        console: RequestConsole,
        request: Request,
        actor: UsesConsole,
        number: Number,
        made: Annotated[bool, Form()] = False,
    ) -> Response:
        """Revoke a token, and if the person wants it end what was made with it."""
        with changing(console.api, request, actor) as by:
            revoke_token(by, number, again=made)
        ended = f" {end(console.api, actor, number)} things that it made ended." if made else ""
        return console.see_other(actor, "/console/tokens", f"Token {number} is revoked.{ended}")

    @router.get("/console/tokens/{number}")
    def one(console: RequestConsole, request: Request, actor: UsesConsole, number: Number) -> Response:
        """Return what was done with a token of the actor; for an administrator with any."""
        with console.database.reads.begin() as connection:
            found = tokens(connection, None if actor.has(Role.ADMIN) else actor.name, 1, number)
            entries = audit_log.entries(connection, audit_log.Wanted(token=number), SHOWN)
        if not found:
            raise HTTPException(404, "you have no token of this number")
        content = {"token": found[0], "entries": with_changes(entries, console.zone())}
        return console.page(request, actor, "token.html", content | {"machine_s": gate_of(request).now()})

    return router


def _page(console: Console, request: Request, actor: Actor, *, everybody: bool = False, text: str = "") -> Response:
    everybody = everybody and actor.has(Role.ADMIN)
    found = console.database.read(tokens, None if everybody else actor.name, SHOWN)
    content = {"tokens": found, "text": text, "everybody": everybody, "is_admin": actor.has(Role.ADMIN)}
    content |= {"roles": sorted(actor.roles), "most_days": MAX_TOKEN_DAYS, "machine_s": gate_of(request).now()}
    return console.page(request, actor, "tokens.html", content)
