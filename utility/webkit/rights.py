"""The rights to routes: each route of the application names the roles that it allows, or that it is public.

The application does not start with a route without a rule (``unruled``), and a test asks every route with every role.
"""

import hmac
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends as DependsMarker
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from commonwatt.model.units import EpochSeconds
from utility.access.people import MACHINE, RIGHTS, Actor, Right, Role, Via, on_machine
from utility.access.store import access, second_factors
from utility.database.database import Database

# The cookie of a session; the prefix ties it to this host, its whole site, and a secure connection.
COOKIE = "__Host-commonwatt"
# Where a request with a session that changes something repeats the session's second secret.
CSRF_HEADER, CSRF_FIELD = "X-CSRF", "csrf"
SET_UP = "/console/account/second-factor"  # the page on which a person sets up the second factor

log = logging.getLogger(__name__)

_MACHINE = replace(on_machine(MACHINE), roles=frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN}))
"""Programs that can read the token file, such as `commonwatt do` without a login. What clerks decide needs a login."""

_SAFE = ("GET", "HEAD")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class RefusedRequestError(Exception):
    """A request that is not allowed."""

    def __init__(self, status: int, text: str, instead: str = "") -> None:
        super().__init__(text)
        self.status = status  # 401: nobody is logged in; 403: the person may not do it
        self.text = text  # why, for people
        self.instead = instead  # the page on which a person can change that; empty: there is none


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Identifies the actors of requests."""

    database: Database  # the database of people
    local_key: str  # the key of programs that can read the utility's token file
    now: Callable[[], EpochSeconds]  # returns the machine's epoch seconds
    need_factor: frozenset[Role] = frozenset()  # the roles of which a second factor is required
    machine: Actor = _MACHINE  # the actor of programs that can read the utility's token file

    def identify(self, authorization: str | None, cookie: str | None, address: str) -> Actor | None:
        """Return the actor of a request; ``None``: it proves none."""
        find, secret = access.session_actor, cookie or ""
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
            if scheme.lower() != "bearer" or not secret:
                return None
            if hmac.compare_digest(secret.encode(), self.local_key.encode()):
                return replace(self.machine, address=address)
            find = access.token_actor
        now = self.now()
        found = self.database.read(find, secret, address, now) if secret else None
        if found is None:
            return None
        actor, is_to_store = found
        if is_to_store:
            access.store_use(self.database, actor, now)
        return self._with_factor(actor)

    def _with_factor(self, actor: Actor) -> Actor:
        """Return an actor without roles, if one of them requires a second factor that the person does not have."""
        if not actor.has(*self.need_factor):
            return actor
        has_one = self.database.read(second_factors.in_force, actor.name) is not None
        return actor if has_one else replace(actor, roles=frozenset(), lacks_factor=True)


def gate_of(request: Request) -> Gate:
    """Return the application's gate."""
    gate: Gate = request.app.state.gate
    return gate


def address_of(request: Request) -> str:
    """Return the client's network address."""
    return request.client.host if request.client is not None else ""


async def actor_of(request: Request) -> Actor | None:
    """Return the actor of a request; ``None``: nobody is logged in."""
    gate = gate_of(request)
    cookie = request.cookies.get(COOKIE)
    return await run_in_threadpool(gate.identify, request.headers.get("authorization"), cookie, address_of(request))


class Allowed:
    """A dependency of routes: returns the actor if it has one of the roles.

    Args:
        session: Whether only a person who is logged in may use the route, and no token.
        factorless: Whether it is also for people who lack a second factor that is required.

    Raises:
        RefusedRequestError: No person is logged in, the actor has none of the roles, or a change does not come from a
            page of its session.
    """

    def __init__(self, *roles: Role, session: bool = False, factorless: bool = False) -> None:
        self.roles = frozenset(roles)
        self.session = session
        self.factorless = factorless

    async def __call__(self, request: Request) -> Actor:
        """Return the actor of a request."""
        actor = await actor_of(request)
        if actor is None:
            raise RefusedRequestError(401, "log in first, or send a valid token: Authorization: Bearer TOKEN")
        try:
            await self._check(request, actor)
        except RefusedRequestError as error:
            path = getattr(request.scope.get("route"), "path", "")
            log.warning("refused to %s from %.64s: %s %s: %s", actor.name, actor.address, request.method, path, error)
            raise
        request.state.actor = actor
        return actor

    async def _check(self, request: Request, actor: Actor) -> None:
        if actor.lacks_factor and not self.factorless:
            raise RefusedRequestError(403, "a second factor is required of you: set it up in the console", SET_UP)
        if not (actor.lacks_factor or actor.has(*self.roles)):
            needed = " or ".join(sorted(self.roles))
            raise RefusedRequestError(403, f"this needs the role {needed}; ask an administrator of this utility")
        if self.session and actor.via is not Via.SESSION:
            raise RefusedRequestError(403, "this is for people who are logged in; a token has no login of its own")
        if request.method not in _SAFE and actor.via is Via.SESSION:
            await require_own_page(request, actor.csrf)


class Public:
    """A dependency of routes that need no login."""

    def __call__(self) -> None:
        """Allow the request."""


async def require_own_page(request: Request, secret: str) -> None:
    """Refuse a change that does not come from a page of this session (cross-site request forgery)."""
    require_own_origin(request)
    told = request.headers.get(CSRF_HEADER)
    if told is None and request.headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        form = await request.form()
        field = form.get(CSRF_FIELD)
        told = field if isinstance(field, str) else None
        if request.scope["route"].body_field is None:
            await form.close()  # FastAPI does it where the route has a form.
    if told is None or not hmac.compare_digest(told.encode(errors="replace"), secret.encode()):
        raise RefusedRequestError(403, "the form is not of this session: open its page again, and send it once more")


def require_own_origin(request: Request) -> None:
    """Refuse a request that a page of another site sends, or of this host by the other scheme.

    Raises:
        RefusedRequestError: The browser says so.
    """
    origin = request.headers.get("origin")
    scheme, _, host = (origin or "").partition("://")
    is_foreign = origin is not None and host != request.headers.get("host")
    if is_foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RefusedRequestError(403, "the request comes from a page of another site")
    if origin is not None and scheme != request.url.scheme:
        raise RefusedRequestError(
            403,
            f"the page is served by {scheme:.5} and the request arrives by {request.url.scheme}: if a reverse proxy is "
            "between them, name its address in http_proxies of the utility's file, and let it set X-Forwarded-Proto",
        )


def rule_of(route: BaseRoute) -> Allowed | Public | None:
    """Return the rule of a route; ``None``: it has none."""
    if not isinstance(route, APIRoute):
        return None
    calls = [found.call for found in _dependants(route.dependant)]
    return next((call for call in calls if isinstance(call, Allowed | Public)), None)


def unruled(routes: Iterable[BaseRoute]) -> list[str]:
    """Return the paths of routes without a rule."""
    return [str(getattr(route, "path", route)) for route in routes if rule_of(route) is None]


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _dependants(inner)


def may(right: Right, *, session: bool = False, factorless: bool = False) -> DependsMarker:
    """Return the rule of a route: the roles of a right, of the table ``RIGHTS``."""
    rule: DependsMarker = Depends(Allowed(*RIGHTS[right], session=session, factorless=factorless))
    return rule


OPEN = Depends(Public())  # the rule of a public route
READS_TOWN = may(Right.READ_TOWN)  # the rule of a route that needs no actor, as the two below
READS_AUDIT = may(Right.READ_AUDIT)
USES_CONSOLE = may(Right.USE_CONSOLE)
# The actors of routes.
ReadsTown = Annotated[Actor, READS_TOWN]
SendsCommands = Annotated[Actor, may(Right.SEND_COMMANDS)]
HandlesAlarms = Annotated[Actor, may(Right.HANDLE_ALARMS)]
RunsRollouts = Annotated[Actor, may(Right.RUN_ROLLOUTS)]
ReadsDevices = Annotated[Actor, may(Right.READ_DEVICES)]
ManagesDevices = Annotated[Actor, may(Right.MANAGE_DEVICES)]
ManagesPeople = Annotated[Actor, may(Right.MANAGE_PEOPLE)]
SetsUpStreet = Annotated[Actor, may(Right.SET_UP_STREET)]
ReadsAudit = Annotated[Actor, READS_AUDIT]
EndsRefusals = Annotated[Actor, may(Right.END_REFUSALS)]
CorrectsReadings = Annotated[Actor, may(Right.CORRECT_READINGS)]
KeepsAccounts = Annotated[Actor, may(Right.KEEP_ACCOUNTS)]
ApprovesAccounts = Annotated[Actor, may(Right.APPROVE_ACCOUNTS)]
ProposesPrices = Annotated[Actor, may(Right.PROPOSE_PRICES)]
PreviewsPrices = Annotated[Actor, may(Right.PREVIEW_PRICES)]
ReadsBills = Annotated[Actor, may(Right.READ_BILLS)]
ReadsLedger = Annotated[Actor, may(Right.READ_LEDGER)]
KeepsLedger = Annotated[Actor, may(Right.KEEP_LEDGER)]
ApprovesLedger = Annotated[Actor, may(Right.APPROVE_LEDGER)]
SendsMail = Annotated[Actor, may(Right.SEND_MAIL)]
ReadsReleases = Annotated[Actor, may(Right.READ_RELEASES)]
PreparesReleases = Annotated[Actor, may(Right.PREPARE_RELEASES)]
DownloadsReleases = Annotated[Actor, may(Right.DOWNLOAD_RELEASES)]
ReadsOwnHome = Annotated[Actor, may(Right.READ_OWN_HOME)]  # its account is the only one that the route may show
ReadsOpenAdr = Annotated[Actor, may(Right.READ_OPENADR)]
UsesConsole = Annotated[Actor, USES_CONSOLE]
# A person with a session, no token; who sets up a login may also lack a second factor that is required.
ChangesOwnLogin = Annotated[Actor, may(Right.CHANGE_OWN_LOGIN, session=True)]
SetsUpLogin = Annotated[Actor, may(Right.CHANGE_OWN_LOGIN, session=True, factorless=True)]
