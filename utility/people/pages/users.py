"""People and API tokens: list, invite, roles, new links, sessions, disable; tokens made and revoked."""

import re
import unicodedata
from typing import Annotated, Any

from fastapi import Form, HTTPException, Path, Query, Request, Response

from utility.access.people import (
    COLUMNS,
    MAX_TOKEN_DAYS,
    MOST,
    NAME_PATTERN,
    AccessFaultError,
    Actor,
    NewPerson,
    Right,
    Role,
    links_table,
    read_residents,
)
from utility.access.store import access, audit_log
from utility.access.store.access import make_token, tokens
from utility.access.store.audit_log import By
from utility.access.store.second_factors import in_force, remove_of_another
from utility.people.api import ACTIONS
from utility.people.pages.audit import with_changes
from utility.people.pages.login import Proven, proven_for_others
from utility.people.store import (
    change_roles,
    enable,
    invite_people,
    invite_person,
    list_people,
    listed,
    new_link,
)
from utility.webkit.console.answers import download
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.requests import address_of_link, changing
from utility.webkit.rights import ManagesPeople, UsesConsole, gate_of, may

SHOWN = 100  # people on one page

_Name = Annotated[str, Path(pattern=NAME_PATTERN)]
_AtConsole = Annotated[Actor, may(Right.MANAGE_PEOPLE, session=True)]
"""An administrator with a session: no token invites, makes a link, gives roles or removes a second factor."""

_Roles = Annotated[list[Role], Form()]
_Sure = Annotated[bool, Form()]
_ACCOUNT = r"^[0-9]{0,5}$"
_Account = Annotated[str, Form(pattern=_ACCOUNT)]


router = ACTIONS.forms


@router.get("/console/users")
def users(
    console: RequestConsole,
    request: Request,
    actor: ManagesPeople,
    search: Annotated[str, Query(max_length=64)] = "",
    role: Annotated[str, Query(max_length=16)] = "",
    after: Annotated[str, Query(max_length=32)] = "",
    account: Annotated[str, Query(pattern=_ACCOUNT)] = "",
    display: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Return the people, some at a time; the form of an invitation is filled in for an account and a name."""
    machine_s = gate_of(request).now()
    wanted = Role(role) if role in set(Role) else None
    found = console.database.read(list_people, search, wanted, after, SHOWN + 1, machine_s)
    content = {"people": found[:SHOWN], "search": search, "role": role, "roles": list(Role), "machine_s": machine_s}
    content |= {"account": account, "display": display, "login": _login_of(display)}
    content["next"] = found[SHOWN - 1].name if len(found) > SHOWN else ""
    return _page(console, request, actor, "users.html", content)


@router.get("/console/users/{name}")
def user(console: RequestConsole, request: Request, actor: ManagesPeople, name: _Name) -> Response:
    """Return one person."""
    return _person_page(console, request, actor, name)


@router.post("/console/users")
def invite(
    console: RequestConsole,
    request: Request,
    actor: _AtConsole,
    again: Proven,
    name: Annotated[str, Form(max_length=32)],
    roles: _Roles,
    display: Annotated[str, Form(max_length=64)] = "",
    account: _Account = "",
    sure_both: _Sure = False,
) -> Response:
    """Invite a person; the page shows the link once."""
    _ask_about_both(frozenset(), frozenset(roles), is_sure=sure_both)
    number = int(account) if account else None
    new = NewPerson(name=name.strip(), display=display, roles=frozenset(roles), account=number)
    link = proven_for_others(console, request, actor, again, lambda by: invite_person(by, new))
    return _person_page(console, request, actor, link.name, address_of_link(request, link))


@router.post("/console/residents")
def invite_residents(
    console: RequestConsole, request: Request, actor: _AtConsole, again: Proven, residents: Annotated[str, Form()]
) -> Response:
    """Invite the residents of a list; the answer is the list of their links, once."""
    try:
        new = read_residents(residents)
    except AccessFaultError as error:
        raise HTTPException(422, f"{error}; nobody was invited") from error
    links = proven_for_others(console, request, actor, again, lambda by: invite_people(by, new))
    addresses = [address_of_link(request, link) for link in links]
    content = "".join(links_table(zip(new, addresses, strict=True)))
    return download(content.encode(), "links.csv", "text/csv")


@router.get("/console/residents")
def residents(console: RequestConsole, request: Request, actor: ManagesPeople) -> Response:
    """Return the form for a list of residents."""
    return _page(console, request, actor, "residents.html", {"columns": COLUMNS, "most": MOST})


@router.post("/console/users/{name}/link")
def link(console: RequestConsole, request: Request, actor: _AtConsole, name: _Name, again: Proven) -> Response:
    """Make a new link for a person; the page shows it once."""
    made = proven_for_others(console, request, actor, again, lambda by: new_link(by, name))
    return _person_page(console, request, actor, name, address_of_link(request, made))


def _ask_about_both(before: frozenset[Role], after: frozenset[Role], *, is_sure: bool) -> None:
    """Ask once more before a person becomes clerk and approver."""
    both = {Role.CLERK, Role.APPROVER}
    if both <= after and not (is_sure or both <= before):
        text = "sure_both: Clerk and approver in one person: with few people this leaves no second one. Give both"
        raise HTTPException(422, text)


def _login_of(display: str) -> str:
    """Return a name at login for a name for people, such as ``home-1``; empty: it has no Latin letter."""
    plain = unicodedata.normalize("NFKD", display.lower()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).lstrip("-0123456789")[:32].rstrip("-")


def _done(console: Console, actor: ManagesPeople, name: str, words: str) -> Response:
    return console.see_other(actor, f"/console/users/{name}", words)


@router.post("/console/users/{name}/roles")
def set_roles(
    console: RequestConsole,
    request: Request,
    actor: _AtConsole,
    name: _Name,
    again: Proven,
    roles: _Roles,
    account: _Account = "",
    sure: _Sure = False,
    sure_both: _Sure = False,
) -> Response:
    """Replace a person's roles and account; a role ends only if the form says so."""
    wanted, number = frozenset(roles), int(account) if account else None

    def do(by: By) -> None:
        found = access.find_person(by.connection, name)
        if not sure and found is not None and (lost := ", ".join(sorted(found.roles - wanted))):
            raise HTTPException(
                422, f"sure: {name} would lose: {lost}. Tick the box that takes roles away. Nothing was changed."
            )
        _ask_about_both(found.roles if found else frozenset(), wanted, is_sure=sure_both)
        change_roles(by, name, wanted, number)

    proven_for_others(console, request, actor, again, do)
    return _done(console, actor, name, f"{name} now has the roles: {', '.join(sorted(set(roles)))}.")


@router.post("/console/users/{name}/enable")
def switch_on(console: RequestConsole, request: Request, actor: _AtConsole, name: _Name, again: Proven) -> Response:
    """Enable a person."""
    proven_for_others(console, request, actor, again, lambda by: enable(by, name))
    return _done(console, actor, name, f"{name} is enabled, and needs a new link.")


@router.post("/console/users/{name}/second-factor/remove")
def remove_factor(console: RequestConsole, request: Request, actor: _AtConsole, name: _Name, again: Proven) -> Response:
    """Remove the second factor of a person who lost it."""
    proven_for_others(console, request, actor, again, lambda by: remove_of_another(by, name))
    return _done(console, actor, name, f"{name} has no second factor any more; all sessions ended.")


def _person_page(console: Console, request: Request, actor: ManagesPeople, name: str, link: str = "") -> Response:
    """Return the page of one person; with the address of a new link, which is shown this once."""
    machine_s = gate_of(request).now()
    with console.database.reads.begin() as connection:
        found = listed(connection, name, machine_s)
        if found is None:
            raise HTTPException(404, f"there is no person called {name}")
        sessions = access.sessions_of(connection, name, machine_s)
        made = tokens(connection, name, SHOWN)
        entries = audit_log.entries(connection, audit_log.AuditFilter(subject=name, action="person."), 20)
    entries = [one for one in entries if one["subject"] == name]
    content = {
        "one": found,
        "link": link,
        "days": access.INVITED_S // 86_400,
        "sessions": sessions,
        "tokens": made,
        "roles": list(Role),
        "entries": with_changes(entries, console.zone()),
        "machine_s": machine_s,
    }
    return _page(console, request, actor, "user.html", content)


def _page(console: Console, request: Request, actor: Actor, template: str, content: dict[str, Any]) -> Response:
    """Return a page with forms that ask for the password again, and for a code if the actor has a second factor."""
    has_factor = console.database.read(in_force, actor.name) is not None
    factor = {"has_factor": has_factor, "lacks_factor": gate_of(request).need_factor and not has_factor}
    return console.page(request, actor, template, content | factor)


Number = Annotated[int, Path(ge=1, lt=2**31)]

SHOWN_TOKENS = 500  # tokens, or entries of the audit log of one, on one page


@router.get("/console/tokens")
def own_tokens(
    console: RequestConsole,
    request: Request,
    actor: UsesConsole,
    everybody: Annotated[bool, Query(alias="all")] = False,
) -> Response:
    """Return the own tokens; for an administrator all."""
    return _tokens_page(console, request, actor, everybody=everybody)


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
    return _tokens_page(console, request, actor, text=text)


@router.get("/console/tokens/{number}")
def token(console: RequestConsole, request: Request, actor: UsesConsole, number: Number) -> Response:
    """Return what was done with a token of the actor; for an administrator with any."""
    with console.database.reads.begin() as connection:
        found = tokens(connection, None if actor.has(Role.ADMIN) else actor.name, 1, number)
        entries = audit_log.entries(connection, audit_log.AuditFilter(token=number), SHOWN_TOKENS)
    if not found:
        raise HTTPException(404, "you have no token of this number")
    content = {"token": found[0], "entries": with_changes(entries, console.zone())}
    return console.page(request, actor, "token.html", content | {"machine_s": gate_of(request).now()})


def _tokens_page(
    console: Console, request: Request, actor: Actor, *, everybody: bool = False, text: str = ""
) -> Response:
    everybody = everybody and actor.has(Role.ADMIN)
    found = console.database.read(tokens, None if everybody else actor.name, SHOWN_TOKENS)
    content = {"tokens": found, "text": text, "everybody": everybody, "is_admin": actor.has(Role.ADMIN)}
    content |= {"roles": sorted(actor.roles), "most_days": MAX_TOKEN_DAYS, "machine_s": gate_of(request).now()}
    return console.page(request, actor, "tokens.html", content)
