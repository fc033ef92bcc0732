"""The own login: log in and out, accept an invitation, password, sessions and second factor."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.identity.guesses import Guesses
from commonwatt.identity.passwords import MAX_LENGTH
from commonwatt.model.units import EpochSeconds
from utility.access.passwords import BusyError, hash_password, is_password
from utility.access.people import Actor, Via
from utility.access.secrets import grouped, password_fault, uri_of
from utility.access.store import access, audit_log, second_factors
from utility.access.store.audit_log import By
from utility.access.store.second_factors import Proof
from utility.people.store import end_other_sessions, end_own_session
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.requests import changing
from utility.webkit.rights import (
    COOKIE,
    OPEN,
    SET_UP,
    ChangesOwnLogin,
    SetsUpLogin,
    actor_of,
    address_of,
    gate_of,
    require_own_origin,
)
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
        name = second_factors.person_of(connection, started, now)
        person = None if name is None else access.find_person(connection, name)
        if person is None:
            return _code_page(console, request, next, 410)
        by = By(connection=connection, actor=_acting(person, address), now=console.now(), machine_s=now)
        proof = second_factors.prove(by, person.name, recovery or code)
        if not proof.is_right:
            if not proof.wait_s:
                second_factors.count_wrong(connection, started)
        elif not second_factors.take(connection, started):
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
    with suppress(OSError):  # It was of the first administrator, if it is there.
        console.api.settings.tokens.with_name(FIRST_LOGIN).unlink()
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
        started = second_factors.start(connection, name, gate_of(request).now())
    answer = RedirectResponse(f"/console/login/code?{urlencode({'next': path})}", 303)
    lasts_s = second_factors.LASTS_S
    answer.set_cookie(STARTED, started, max_age=lasts_s, path="/", secure=True, httponly=True, samesite="strict")
    return answer


def _is_started(console: Console, request: Request) -> bool:
    """Return whether the request continues a login that waits for the second factor."""
    started, now = request.cookies.get(STARTED, ""), gate_of(request).now()
    return console.database.read(second_factors.person_of, started, now) is not None


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
    is_plain = is_plain and not console.api.settings.http_plain_text
    is_far = request.url.hostname not in ("localhost", "127.0.0.1", "::1")
    error = console.reader(request, None).counted(error)
    content = {"next": path, "error": error, "needs_https": is_plain and is_far}
    return console.page(request, None, "login.html", content, status)


def _code_page(console: Console, request: Request, path: str, status: int, proof: Proof | None = None) -> Response:
    error = "" if proof is None else console.reader(request, None).counted(refusal_of(proof))
    content = {"next": path, "error": error, "is_over": status == 410}
    page = console.page(request, None, "login_code.html", content, status)
    if proof is not None and proof.wait_s:
        page.headers["Retry-After"] = str(proof.wait_s)
    return page


def _invitation_page(console: Console, request: Request, secret: str, error: str = "", status: int = 200) -> Response:
    person = console.database.read(access.invited, secret, gate_of(request).now())
    reader = console.reader(request, None, None if person is None else person.account)
    content = {"person": person, "error": reader.counted(error), "reader": reader}
    return console.page(request, None, "invitation.html", content, status if person is not None else 404)


def _own_path(path: str) -> str:
    """Return the page to go to after a login: only one of ours."""
    return path if path.startswith("/console/") and "\\" not in path else "/console/"


T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """What a form asks again: the present password, and a code of the second factor or a recovery code."""

    current: Password
    code: Code = ""
    recovery: Code = ""


Proven = Annotated[Again, Depends()]  # what a form asks again


@router.get("/console/account")
def account(console: RequestConsole, request: Request, actor: ChangesOwnLogin) -> Response:
    """Return the page of the own login."""
    machine_s = gate_of(request).now()
    with console.database.reads.begin() as connection:
        person = access.find_person(connection, actor.name)
        sessions = access.sessions_of(connection, actor.name, machine_s)
        factor = second_factors.in_force(connection, actor.name)
    content = {"person": person, "sessions": sessions, "machine_s": machine_s, "factor": factor}
    return console.page(request, actor, "account.html", content)


@router.post("/console/account/password")
def password(
    console: RequestConsole,
    request: Request,
    actor: ChangesOwnLogin,
    current: Password,
    new: Password,
    tokens: Annotated[bool, Form()] = False,
) -> Response:
    """Change the own password; all other sessions end, and if the person wants it the tokens."""
    stored = checked_password(console, request, actor, current)
    if why := password_fault(new, actor.name):
        raise HTTPException(422, f"new: the password is {why}; nothing was changed")
    hashed = hash_password(new)
    with changing_own(console, request, actor, stored) as by:
        access.set_password(by.connection, actor.name, hashed)
        revoked = access.revoke_tokens(by.connection, actor.name, by.machine_s) if tokens else []
        opened = access.open_session(by.connection, actor.name, *client_of(request))
        by.record("person.password", actor.name, after={"tokens revoked": revoked} if revoked else None)
    return with_session(RedirectResponse("/console/account", 303), opened)


@router.post("/console/account/sessions")
def others(console: RequestConsole, request: Request, actor: ChangesOwnLogin, current: Password) -> Response:
    """End all own sessions but this one."""
    stored = checked_password(console, request, actor, current)
    with changing_own(console, request, actor, stored) as by:
        end_other_sessions(by)
    return console.see_other(actor, "/console/account", "Your other sessions ended.")


@router.post("/console/account/sessions/{session}/end")
def end(
    console: RequestConsole,
    request: Request,
    actor: ChangesOwnLogin,
    session: Annotated[str, Path(max_length=64)],
    current: Password,
) -> Response:
    """End one own session."""
    stored = checked_password(console, request, actor, current)
    with changing_own(console, request, actor, stored) as by:
        end_own_session(by, session)
    return console.see_other(actor, "/console/account", "The session ended.")


def checked_password(console: Console, request: Request, actor: Actor, current: str) -> str | None:
    """Return the stored hash of the actor's password; a session that was left open must not serve to guess it."""
    now, address = gate_of(request).now(), address_of(request)
    if wait_s := ceil(console.guesses.guess(actor.name, address, now)):
        raise HTTPException(429, f"too many wrong passwords; try again in {wait_s} s")
    stored = console.database.read(access.password_of, actor.name)
    try:
        is_right = is_password(current, stored)
    except BusyError:
        console.guesses.give_back(actor.name, address, now)
        raise
    if not is_right:
        raise HTTPException(422, "current: this is not your present password; nothing was changed")
    console.guesses.right(actor.name, address, now)
    return stored


@contextmanager
def changing_own(console: Console, request: Request, actor: Actor, stored: str | None) -> Iterator[By]:
    """Open the transaction of a change of the own login, after the password was checked.

    Args:
        actor: The person.
        stored: The hash that the password was checked with.
    """
    with changing(console.api, request, actor) as by:
        if access.password_of(by.connection, actor.name, lock=True) != stored:
            raise HTTPException(409, "the password was changed meanwhile; log in again")
        yield by


def proven_for_others(console: Console, request: Request, actor: Actor, again: Again, do: Callable[[By], T]) -> T:
    """Return what a change of another person's login returns, as ``proven``; without a second factor it is refused."""
    has_one = console.database.read(second_factors.in_force, actor.name) is not None
    if gate_of(request).need_factor and not has_one:
        raise HTTPException(403, "only an administrator with a second factor does this; set yours up in: Your login")
    return proven(console, request, actor, again, do)


def proven(console: Console, request: Request, actor: Actor, again: Again, do: Callable[[By], T]) -> T:
    """Return what a change returns, for the right password and, if a second factor is in force, a right code."""
    stored = checked_password(console, request, actor, again.current)
    with changing_own(console, request, actor, stored) as by:
        proof = Proof(True)
        if second_factors.in_force(by.connection, actor.name) is not None:
            proof = second_factors.prove(by, actor.name, again.recovery or again.code)
        done = do(by) if proof.is_right else None
    # The wrong code is counted by now.
    if not proof.is_right:
        raise HTTPException(429 if proof.wait_s else 422, f"{refusal_of(proof)} Nothing was changed.")
    return done  # type: ignore[return-value]


_Secret = Annotated[str, Form(max_length=64)]


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
