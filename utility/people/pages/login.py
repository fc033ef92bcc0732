"""Log in with the password and the second factor, log out, and accept an invitation."""

import logging
from math import ceil
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from commonwatt.identity.guesses import Guesses
from commonwatt.identity.passwords import MAX_LENGTH
from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor, Via
from utility.access.choosing import password_fault
from utility.access.passwords import BusyError, hash_password, is_password
from utility.access.store import access, audit_log, second_factors, started_logins
from utility.access.store.acting import By
from utility.access.store.second_factors import Proof
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import COOKIE, OPEN, SetsUpLogin, actor_of, address_of, gate_of, require_own_origin
from utility.webkit.services import Api

Name = Annotated[str, Form(max_length=32)]
Password = Annotated[str, Form(max_length=4 * MAX_LENGTH)]
Next = Annotated[str, Form(max_length=2_000)]
Code = Annotated[str, Form(max_length=64)]

STARTED = "__Host-commonwatt-login"  # the cookie of a login that waits for the second factor

log = logging.getLogger(__name__)


router = APIRouter(include_in_schema=False)


@router.get("/console/login", dependencies=[OPEN])
async def form(console: RequestConsole, request: Request, next: str = "") -> Response:  # noqa: A002 - the name in the address
    """Return the login page; a person who is logged in goes on."""
    if await actor_of(request) is not None:
        return RedirectResponse(_own_path(next), 303)
    return await run_in_threadpool(_login_page, console, request, next)


@router.post("/console/login", dependencies=[OPEN])
def log_in(console: RequestConsole, request: Request, name: Name, password: Password, next: Next = "") -> Response:  # noqa: A002
    """Open a session for the right password, or ask for the second factor."""
    require_own_origin(request)
    now, address = gate_of(request).now(), address_of(request)
    wait_s = ceil(console.api.part(_guesses).guess(name, address, now))
    if wait_s > 0:
        page = _login_page(console, request, next, f"Too many wrong passwords. Try again in {wait_s} s.", 429)
        page.headers["Retry-After"] = str(wait_s)
        return page
    stored = console.database.read(access.password_of, name)
    try:
        is_right = is_password(password, stored)
    except BusyError:
        console.api.part(_guesses).give_back(name, address, now)
        raise
    if not is_right:
        log.warning("console: a wrong name or password from %s", address)
        return _login_page(console, request, next, "The name or the password is wrong.", 401)
    # Only now: the time of a wrong password's answer must not tell who has a second factor.
    is_enough = console.database.read(second_factors.in_force, name) is None
    console.api.part(_guesses).right(name, address, now, is_login=is_enough)
    return _opened(console, request, name, _own_path(next), stored)


@router.post("/console/logout")
def log_out(console: RequestConsole, actor: SetsUpLogin) -> Response:
    """End the session: its cookie is worthless from now on."""
    console.database.write(access.end_session, actor.session)
    answer = RedirectResponse("/console/login", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    # Not "cookies": that would end the sessions of other programs of this domain, too.
    answer.headers["Clear-Site-Data"] = '"storage"'
    return answer


@router.get("/console/login/code", dependencies=[OPEN])
def code_form(console: RequestConsole, request: Request, next: str = "") -> Response:  # noqa: A002
    """Return the page that asks for the code, after the password."""
    return _code_page(console, request, next, 200 if _is_started(console, request) else 410)


@router.post("/console/login/code", dependencies=[OPEN])
def second_step(
    console: RequestConsole,
    request: Request,
    code: Code = "",
    recovery: Code = "",
    next: Next = "",  # noqa: A002
) -> Response:
    """Open a session for the right code of the app, or a recovery code."""
    require_own_origin(request)
    # Only read: a request that proves nothing must not wait for writers, nor they for it.
    if not _is_started(console, request):
        return _code_page(console, request, next, 410)
    now, address, started = gate_of(request).now(), address_of(request), request.cookies.get(STARTED, "")
    with console.database.writes.begin() as connection:
        name = started_logins.person_of(connection, started, now)
        person = None if name is None else access.find_person(connection, name)
        if person is None:
            return _code_page(console, request, next, 410)
        by = By(connection=connection, actor=_acting(person, address), now=console.now(), machine_s=now)
        proof = second_factors.prove(by, person.name, recovery or code)
        if not proof.is_right:
            if not proof.wait_s:
                started_logins.count_wrong(connection, started)
        elif not started_logins.take(connection, started):
            raise HTTPException(409, "this login was used meanwhile; log in again")
        else:
            access.end_session_of(connection, request.cookies.get(COOKIE, ""))
            opened = access.open_session(connection, person.name, *client_of(request))
    if not proof.is_right:
        log.warning("console: the right password of %s and a wrong code from %s", person.name, address)
        return _code_page(console, request, next, 429 if proof.wait_s else 401, proof)
    console.api.part(_guesses).logged_in(person.name, address, now)
    log.info("console: %s logged in with the second factor from %s", person.name, address)
    answer = with_session(RedirectResponse(_own_path(next), 303), opened)
    answer.delete_cookie(STARTED, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.get("/console/invitation/{secret}", dependencies=[OPEN])
def invited(console: RequestConsole, request: Request, secret: str) -> Response:
    """Return the page on which an invited person chooses a password."""
    return _invitation_page(console, request, secret)


@router.post("/console/invitation/{secret}", dependencies=[OPEN])
def accept(
    console: RequestConsole,
    request: Request,
    secret: str,
    password: Password,
    display: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Set the password of an invited person, once, and open a session."""
    require_own_origin(request)
    now = gate_of(request).now()
    person = console.database.read(access.invited, secret, now)
    if person is None:
        return _invitation_page(console, request, secret)
    if why := password_fault(password, person.name, person.display, display):
        return _invitation_page(console, request, secret, f"The password is {why}.", 422)
    hashed = hash_password(password)
    with console.database.writes.begin() as connection:
        if not access.take_invitation(connection, secret, now):
            raise HTTPException(409, "the link was used meanwhile")
        access.set_password(connection, person.name, hashed)
        access.set_display(connection, person.name, display.strip() or person.display)
        actor = _acting(person, address_of(request))
        audit_log.record(connection, actor, console.now(), "person.password", person.name)
    return _opened(console, request, person.name, "/console/", hashed)


def _guesses(_: Api) -> Guesses:
    return Guesses()


def _opened(console: Console, request: Request, name: str, path: str, hashed: str | None) -> Response:
    """Open a session, or ask for the second factor, unless the password was changed meanwhile."""
    # The session of the request ends.
    with console.database.writes.begin() as connection:
        # Locked, so that a change of the password at the same time ends this session, too.
        if access.password_of(connection, name, lock=True) != hashed:
            raise HTTPException(409, "the password was changed meanwhile; log in again")
        access.end_session_of(connection, request.cookies.get(COOKIE, ""))
        if second_factors.in_force(connection, name) is None:
            log.info("console: %s logged in from %s", name, address_of(request))
            return with_session(RedirectResponse(path, 303), access.open_session(connection, name, *client_of(request)))
        started = started_logins.start(connection, name, gate_of(request).now())
    answer = RedirectResponse(f"/console/login/code?{urlencode({'next': path})}", 303)
    lasts_s = started_logins.LASTS_S
    answer.set_cookie(STARTED, started, max_age=lasts_s, path="/", secure=True, httponly=True, samesite="strict")
    return answer


def _is_started(console: Console, request: Request) -> bool:
    """Return whether the request continues a login that waits for the second factor."""
    started, now = request.cookies.get(STARTED, ""), gate_of(request).now()
    return console.database.read(started_logins.person_of, started, now) is not None


def client_of(request: Request) -> tuple[str, str, EpochSeconds]:
    """Return what a session says of its login: the network address, the browser, and when."""
    return address_of(request), request.headers.get("user-agent", ""), gate_of(request).now()


def _acting(person: access.Person, address: str) -> Actor:
    """Return a person who acts before there is a session."""
    return Actor(name=person.name, roles=person.roles, account=person.account, via=Via.SESSION, address=address)


def refusal_of(proof: Proof) -> str:
    """Return why a code is refused, for people."""
    if proof.wait_s:
        return (
            "Too many wrong codes. Type two codes that your app shows one after the other, or a recovery code, or try "
            f"again in {proof.wait_s} s."
        )
    return "The code is wrong, or was used already."


def with_session(answer: Response, opened: access.Opened) -> Response:
    """Return an answer that gives the browser the cookie of a new session."""
    answer.set_cookie(
        COOKIE, opened.cookie, max_age=access.ABSOLUTE_S, path="/", secure=True, httponly=True, samesite="lax"
    )
    return answer


def _login_page(console: Console, request: Request, path: str, error: str = "", status: int = 200) -> Response:
    is_plain = request.url.scheme == "http" and request.headers.get("x-forwarded-proto", "http") != "https"
    is_far = request.url.hostname not in ("localhost", "127.0.0.1", "::1")
    content = {"next": path, "error": error, "needs_https": is_plain and is_far}
    return console.page(request, None, "login.html", content, status)


def _code_page(console: Console, request: Request, path: str, status: int, proof: Proof | None = None) -> Response:
    error = "" if proof is None else refusal_of(proof)
    content = {"next": path, "error": error, "is_over": status == 410}
    page = console.page(request, None, "login_code.html", content, status)
    if proof is not None and proof.wait_s:
        page.headers["Retry-After"] = str(proof.wait_s)
    return page


def _invitation_page(console: Console, request: Request, secret: str, error: str = "", status: int = 200) -> Response:
    person = console.database.read(access.invited, secret, gate_of(request).now())
    content = {"person": person, "error": error}
    return console.page(request, None, "invitation.html", content, status if person is not None else 404)


def _own_path(path: str) -> str:
    """Return the page to go to after a login: only one of ours."""
    return path if path.startswith("/console/") and "\\" not in path else "/console/"
