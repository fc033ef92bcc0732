"""Changes of people, each with its entry in the audit log; the last administrator stays one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PlainSerializer
from sqlalchemy import Connection, func, select

from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.access.people import AccessFaultError, NewPerson, Role, check_person, check_roles
from utility.access.store import access
from utility.access.store.audit_log import By, Link
from utility.access.tables import invitation, person, person_role, second_factor, session
from utility.database.engines import Lock, take
from utility.registry.tables import account
from utility.webkit.columns import Time

DEMONSTRATION: dict[Role, str] = {
    Role.VIEWER: "vera",
    Role.OPERATOR: "otto",
    Role.CLERK: "clara",
    Role.APPROVER: "anton",
    Role.RESEARCHER: "rosa",
    Role.RESIDENT: "rita",
}
"""The people of a demonstration, beside its administrator."""

SHOWN_FAULTS = 10  # most faults of a list of people that are shown at once


@dataclass(frozen=True, kw_only=True)
class Listed(access.Person):
    """A person in a list."""

    roles: Annotated[frozenset[Role], PlainSerializer(sorted, return_type=list[Role])]
    created: Time  # when the person was invited first
    sessions: int  # how many sessions are open
    used: Annotated[Time | None, Field(description="When a session was used last.")]
    link_until: Annotated[Time | None, Field(description="When a link ends that was not used yet.")]
    second_factor: Annotated[Time | None, Field(description="Since when a login needs a second factor.")]


def list_people(
    connection: Connection, search: str, role: Role | None, after: str, limit: int, machine_s: EpochSeconds
) -> list[Listed]:
    """Return people by name.

    Args:
        search: The beginning of a name, a part of a name for people, or the number of an account; empty: anybody.
        role: Only people with this role; ``None``: any.
        after: Only names after this one, for the next page.
        limit: How many at most.
        machine_s: The machine's epoch seconds.
    """
    statement = select(person.c.name).where(person.c.name > after).order_by(person.c.name).limit(limit)
    if search:
        fits = person.c.name.startswith(search.lower(), autoescape=True)
        fits |= func.lower(person.c.display).contains(search.lower(), autoescape=True)
        if search.isascii() and search.isdecimal() and len(search) < 10:
            fits |= person.c.account == int(search)
        statement = statement.where(fits)
    if role is not None:
        statement = statement.where(
            person.c.name.in_(select(person_role.c.person).where(person_role.c.role == role.value))
        )
    names = list(connection.execute(statement).scalars())
    return _listed(connection, names, machine_s)


def listed(connection: Connection, name: str, machine_s: EpochSeconds) -> Listed | None:
    """Return one person as a list has it; ``None``: there is none of that name."""
    rows = _listed(connection, [name], machine_s)
    return rows[0] if rows else None


def invite_person(by: By, new: NewPerson) -> Link:
    """Add a person, and return the link with which the person chooses a password.

    Raises:
        AccessFaultError: What is said of the person is wrong, or the name is taken.
    """
    check_person(new)
    take(by.connection, Lock.PEOPLE)
    _check_account(by.connection, new.account)
    if access.find_person(by.connection, new.name) is not None:
        raise AccessFaultError(f"name: there is a person called {new.name} already; open that person, or take another")
    row = access.Person(
        name=new.name,
        display=new.display.strip() or new.name,
        state="invited",
        roles=new.roles,
        account=new.account,
        created=by.machine_s,
    )
    access.add_person(by.connection, row, by.actor.name)
    access.changed_by(by.connection, new.name, "roles", by.actor.name, by.now)
    by.record(
        "person.invite", new.name, after={"display": row.display, "roles": sorted(row.roles), "account": row.account}
    )
    return _link(by, new.name)


def invite_people(by: By, new: Sequence[NewPerson]) -> list[Link]:
    """Add people; return their links, in order."""
    links, faults = [], []
    for place, entry in enumerate(new, start=1):
        try:
            links.append(invite_person(by, entry))
        except AccessFaultError as error:
            faults.append(f"person {place}: {error}")
    if faults:
        raise AccessFaultError(f"nobody was invited: {'; '.join(faults[:SHOWN_FAULTS])}")
    return links


def demonstration_links(by: By) -> list[tuple[Role, Link]]:
    """Return a new link for each person of a demonstration who did not log in yet; the administrator has one already.

    A role that nobody has gets its person first; the resident, the town's first account.
    """
    first_account = by.connection.execute(select(func.min(account.c.number))).scalar()
    links = []
    for role, name in DEMONSTRATION.items():
        holders = list_people(by.connection, "", role, "", 1, by.machine_s)
        own = first_account if role is Role.RESIDENT else None
        if holders and holders[0].state == "invited":
            links.append((role, _link(by, holders[0].name)))
        elif not holders and access.find_person(by.connection, name) is None and (role is not Role.RESIDENT or own):
            new = NewPerson(name=name, display=name.capitalize(), roles=frozenset({role}), account=own)
            links.append((role, invite_person(by, new)))
    return links


def new_link(by: By, name: str) -> Link:
    """Return a link with which a person chooses a new password; the old one, all sessions and tokens end at once.

    The second factor stays: the link does not replace it.
    """
    old = _person(by.connection, name)
    _refuse_own(by, name, "change your password on the page of your account")
    if old.state == "disabled":
        raise AccessFaultError(f"{name} is disabled; enable first")
    _keep_an_admin(by.connection, old, frozenset())
    access.set_state(by.connection, name, "invited")
    by.connection.execute(person.update().where(person.c.name == name).values(password=None))
    by.record("person.link", name, old.state, _without_tokens(by, name, "invited"))
    return _link(by, name)


def change_roles(by: By, name: str, roles: frozenset[Role], account_: AccountNumber | None) -> None:
    """Replace a person's roles and account."""
    check_roles(roles, account_)
    old = _person(by.connection, name)
    _check_account(by.connection, account_)
    _keep_an_admin(by.connection, old, roles)
    access.set_roles(by.connection, name, roles)
    access.changed_by(by.connection, name, "roles", by.actor.name, by.now)
    by.connection.execute(person.update().where(person.c.name == name).values(account=account_))
    after = {"roles": sorted(roles), "account": account_}
    by.record("person.roles", name, {"roles": sorted(old.roles), "account": old.account}, after)


def disable(by: By, name: str) -> None:
    """Disable a person: no login works until ``enable``; sessions, tokens and links end.

    Raises:
        AccessFaultError: There is no such person, it is the actor, or no administrator would be left.
    """
    old = _person(by.connection, name)
    _refuse_own(by, name, "another administrator has to do that")
    _keep_an_admin(by.connection, old, frozenset())
    access.set_state(by.connection, name, "disabled")
    by.record("person.disable", name, old.state, _without_tokens(by, name, "disabled"))


def enable(by: By, name: str) -> None:
    """Enable a disabled person, who then needs a new link: the maker of an earlier one may know the password.

    Raises:
        AccessFaultError: There is no such person, or it is not disabled.
    """
    old = _person(by.connection, name)
    if old.state != "disabled":
        raise AccessFaultError(f"{name} is not disabled")
    access.set_state(by.connection, name, "invited")
    by.connection.execute(person.update().where(person.c.name == name).values(password=None))
    by.record("person.enable", name, old.state, "invited")


def end_sessions(by: By, name: str) -> None:
    """End all sessions of another person.

    Raises:
        AccessFaultError: There is no such person, or it is the actor, of whom the password is asked.
    """
    _person(by.connection, name)
    _refuse_own(by, name, "end your sessions on the page of your login, with your password")
    access.end_sessions(by.connection, name)
    by.record("session.end", name, after="all")


def end_other_sessions(by: By) -> None:
    """End the actor's sessions but the one of this request."""
    access.end_sessions(by.connection, by.actor.name, by.actor.session)
    by.record("session.end", by.actor.name, after="all others")


def end_own_session(by: By, public_id: str) -> None:
    """End one session of the actor."""
    own = access.sessions_of(by.connection, by.actor.name, by.machine_s)
    ended = next((s for s in own if s.public_id == public_id), None)
    if ended is None:
        raise AccessFaultError("you have no such session open; it may have ended meanwhile")
    access.end_session(by.connection, ended.digest)
    before = {"opened": ended.opened, "address": ended.address, "browser": ended.agent}
    by.record("session.end", by.actor.name, before)


def _listed(connection: Connection, names: list[str], machine_s: EpochSeconds) -> list[Listed]:
    open_ = (session.c.until > machine_s) & (session.c.used > machine_s - access.IDLE_S)
    counts = select(session.c.person, func.count().label("open"), func.max(session.c.used).label("used"))
    rows = connection.execute(counts.where(session.c.person.in_(names), open_).group_by(session.c.person))
    sessions = {row.person: row for row in rows}
    links = select(invitation.c.person, invitation.c.until).where(invitation.c.person.in_(names))
    ends = {row.person: row.until for row in connection.execute(links.where(invitation.c.until > machine_s))}
    factors = select(second_factor.c.person, second_factor.c.since).where(second_factor.c.person.in_(names))
    since = {row.person: row.since for row in connection.execute(factors)}
    return [
        Listed(
            **vars(p),
            sessions=sessions[p.name].open if p.name in sessions else 0,
            used=sessions[p.name].used if p.name in sessions else None,
            link_until=ends.get(p.name),
            second_factor=since.get(p.name),
        )
        for p in access.people(connection, names)
    ]


def _person(connection: Connection, name: str) -> access.Person:
    take(connection, Lock.PEOPLE)
    row = access.find_person(connection, name)
    if row is None:
        raise AccessFaultError(f"{name:.40}: there is no such person")
    return row


def _keep_an_admin(connection: Connection, row: access.Person, roles: Collection[Role]) -> None:
    """Refuse a change after which no administrator could log in."""
    if Role.ADMIN not in row.roles or Role.ADMIN in roles or row.state != "active":
        return
    joined = person.join(person_role, person.c.name == person_role.c.person)
    others = (person_role.c.role == Role.ADMIN.value) & (person.c.state == "active") & (person.c.name != row.name)
    if connection.execute(select(person.c.name).select_from(joined).where(others).limit(1)).first() is None:
        raise AccessFaultError(f"{row.name} is the last administrator who can log in; make another one first")


def _refuse_own(by: By, name: str, instead: str) -> None:
    if by.actor.name == name:
        raise AccessFaultError(f"{name}: this is you; {instead}")


def _check_account(connection: Connection, number: AccountNumber | None) -> None:
    known = number is None or connection.execute(select(account.c.number).where(account.c.number == number)).first()
    if not known:
        raise AccessFaultError(f"account: {number} is not registered", "see: commonwatt show accounts")


def _without_tokens(by: By, name: str, state: str) -> object:
    """Revoke a person's tokens; return the new state for the audit log, with the tokens' numbers if there were any."""
    revoked = access.revoke_tokens(by.connection, name, by.machine_s)
    return {"state": state, "tokens revoked": revoked} if revoked else state


def _link(by: By, name: str) -> Link:
    secret = access.invite(by.connection, name, by.actor.name, by.machine_s)
    access.changed_by(by.connection, name, "link", by.actor.name, by.now)
    return Link(name=name, secret=secret, until=by.machine_s + access.INVITED_S)
