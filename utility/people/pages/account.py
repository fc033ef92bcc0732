"""The own login: password and sessions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse

from commonwatt.identity.passwords import MAX_LENGTH
from utility.access.actor import Actor
from utility.access.choosing import password_fault
from utility.access.passwords import BusyError, hash_password, is_password
from utility.access.store import access, second_factors
from utility.access.store.acting import By
from utility.access.store.second_factors import Proof
from utility.people.pages.login import Code, client_of, refusal_of, with_session
from utility.people.store import end_other_sessions, end_own_session
from utility.webkit.acting import changing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ChangesOwnLogin, address_of, gate_of

T = TypeVar("T")

Password = Annotated[str, Form(max_length=4 * MAX_LENGTH)]


@dataclass(frozen=True)
class Again:
    """What a form asks again: the present password, and a code of the second factor or a recovery code."""

    current: Password
    code: Code = ""
    recovery: Code = ""


Proven = Annotated[Again, Depends()]  # what a form asks again


router = APIRouter(include_in_schema=False)


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
