"""People, their sessions, invitations and API tokens. Times are the machine's epoch seconds."""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.access.people import HOUR_S, MACHINE, AccessFaultError, Actor, Role, Via, check_token
from utility.access.secrets import digest, new_secret, new_token
from utility.access.store.audit_log import By
from utility.access.tables import api_token, invitation, person, person_role, session, started_login
from utility.database.base import read
from utility.database.database import Database, count_rows

# Seconds after which a session ends: without a request, and in any case. A page left open over night goes on.
IDLE_S, ABSOLUTE_S = 24 * 3_600, 14 * 86_400
INVITED_S = 7 * 86_400  # seconds for which an invitation's link is valid
MAX_SESSIONS = 20  # most sessions of a person; a further login ends the one that was used longest ago
USED_EVERY_S = 300  # seconds between two writes of the last use of a session or a token

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person who may log in."""

    name: str  # the name at login
    display: str  # the name for people
    state: str  # ``invited``, ``active`` or ``disabled``
    roles: frozenset[Role]  # the roles
    account: int | None = None  # a resident's account; ``None``: none
    created: EpochSeconds  # when the person was invited first


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A new session."""

    cookie: str  # the secret that the browser keeps
    until: EpochSeconds  # when the session ends in any case


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """A session that is open."""

    digest: str  # the digest of its secret
    opened: EpochSeconds  # when it was opened
    used: EpochSeconds  # when it was used last, to five minutes
    until: EpochSeconds  # when it ends in any case
    address: str  # the network address of its login
    agent: str  # what the browser says of itself

    @property
    def public_id(self) -> str:
        """What names the session in a page; neither the secret nor its digest can be computed from it."""
        return digest(self.digest)[:32]


def find_person(connection: Connection, name: str) -> Person | None:
    """Return a person; ``None``: there is none of that name."""
    found = people(connection, [name])
    return found[0] if found else None


def people(connection: Connection, names: Collection[str] | None = None) -> list[Person]:
    """Return all people, or those of some names, by name."""
    columns = person.c["name", "display", "state", "account", "created"]
    statement = select(*columns).order_by(person.c.name)
    which = select(person_role.c.person, person_role.c.role)
    if names is not None:
        statement, which = statement.where(person.c.name.in_(names)), which.where(person_role.c.person.in_(names))
    roles: dict[str, set[Role]] = {}
    for name, role in connection.execute(which):
        roles.setdefault(name, set()).add(Role(role))
    rows = connection.execute(statement).mappings()
    return [Person(roles=frozenset(roles.get(row["name"], ())), **row) for row in rows]


def has_admin(connection: Connection) -> bool:
    """Return whether a person with the role admin can log in."""
    joined = person.join(person_role, person.c.name == person_role.c.person)
    condition = (person_role.c.role == Role.ADMIN) & (person.c.state == "active")
    return connection.execute(select(func.count()).select_from(joined).where(condition)).scalar_one() > 0


FIRST = "admin"  # the name of the first administrator


def first_invitation(database: Database, now: EpochSeconds) -> str | None:
    """Return the secret of a link for the first administrator; ``None``: an administrator can log in already."""
    with database.writes.begin() as connection:
        if has_admin(connection):
            return None
        found = find_person(connection, FIRST)
        if found is None:
            admin = frozenset({Role.ADMIN})
            first = Person(name=FIRST, display="Administrator", state="invited", roles=admin, created=now)
            add_person(connection, first, MACHINE)
            changed_by(connection, FIRST, "roles", MACHINE, now)
        changed_by(connection, FIRST, "link", MACHINE, now)
        return invite(connection, FIRST, MACHINE, now)


def add_person(connection: Connection, new: Person, by: str) -> None:
    """Add a person, who can log in after accepting an invitation.

    Raises:
        ConfigError: There is a person of that name.
    """
    if find_person(connection, new.name) is not None:
        raise ConfigError(f"{new.name}: there is a person of that name")
    row = {name: value for name, value in vars(new).items() if name != "roles"}
    connection.execute(person.insert(), row | {"password": None, "state": "invited", "created_by": by})
    set_roles(connection, new.name, new.roles)


def changed_by(connection: Connection, name: str, what: str, by: str, now: EpochSeconds) -> None:
    """Note that another person made a person's link or enabled the login, gave the roles, or removed the second factor.

    Args:
        what: ``link``, ``roles`` or ``factor``.
        by: The person who did it; a change of one's own does not count.
    """
    if by != name:
        values = {f"{what}_by": by, f"{what}_at": now}
        connection.execute(person.update().where(person.c.name == name).values(values))


def set_roles(connection: Connection, name: str, roles: Collection[Role]) -> None:
    """Replace a person's roles."""
    connection.execute(person_role.delete().where(person_role.c.person == name))
    if roles:
        connection.execute(person_role.insert(), [{"person": name, "role": role.value} for role in sorted(roles)])


def set_state(connection: Connection, name: str, state: str) -> None:
    """Set a person's state; only an active person keeps sessions, and a disabled one no invitation."""
    connection.execute(person.update().where(person.c.name == name).values(state=state))
    if state != "active":
        end_sessions(connection, name)
    if state == "disabled":
        connection.execute(invitation.delete().where(invitation.c.person == name))


def set_password(connection: Connection, name: str, hashed: str) -> None:
    """Set a person's password, which ends all sessions and invitations."""
    connection.execute(person.update().where(person.c.name == name).values(password=hashed, state="active"))
    connection.execute(invitation.delete().where(invitation.c.person == name))
    end_sessions(connection, name)


def set_display(connection: Connection, name: str, display: str) -> None:
    """Set a person's name for people."""
    connection.execute(person.update().where(person.c.name == name).values(display=display))


def password_of(connection: Connection, name: str, *, lock: bool = False) -> str | None:
    """Return the hash of an active person's password; ``None``: nobody of that name can log in.

    Args:
        lock: Whether the person must not be changed before the transaction's end.
    """
    statement = select(person.c.password).where(person.c.name == name, person.c.state == "active")
    return connection.execute(statement.with_for_update() if lock else statement).scalar()


def invite(connection: Connection, name: str, by: str, now: EpochSeconds) -> str:
    """Return the secret of a link that sets a person's password once; earlier links become invalid."""
    secret = new_secret()
    connection.execute(invitation.delete().where(invitation.c.person == name))
    row = {"digest": digest(secret), "person": name, "made": now, "made_by": by, "until": now + INVITED_S}
    connection.execute(invitation.insert(), row)
    return secret


def invited(connection: Connection, secret: str, now: EpochSeconds) -> Person | None:
    """Return the person whom a link invites; ``None``: it is not valid, or no longer."""
    condition = (invitation.c.digest == digest(secret)) & (invitation.c.until > now)
    name = connection.execute(select(invitation.c.person).where(condition)).scalar()
    found = None if name is None else find_person(connection, name)
    return found if found is not None and found.state != "disabled" else None


def take_invitation(connection: Connection, secret: str, now: EpochSeconds) -> bool:
    """Use a link up; return whether this transaction is the one that did."""
    condition = (invitation.c.digest == digest(secret)) & (invitation.c.until > now)
    return connection.execute(invitation.delete().where(condition)).rowcount == 1


def open_session(connection: Connection, name: str, address: str, agent: str, now: EpochSeconds) -> Opened:
    """Open a session with a new secret."""
    cookie, until = new_secret(), now + ABSOLUTE_S
    connection.execute(session.delete().where((session.c.until <= now) | (session.c.used <= now - IDLE_S)))
    mine = select(session.c.digest).where(session.c.person == name).order_by(session.c.used.desc())
    surplus = connection.execute(mine.offset(MAX_SESSIONS - 1)).scalars().all()
    connection.execute(session.delete().where(session.c.digest.in_(surplus)))
    connection.execute(
        session.insert(),
        {
            "digest": digest(cookie),
            "person": name,
            "csrf": new_secret(),
            "opened": now,
            "used": now,
            "until": until,
            "address": address[:64],
            "agent": agent[:128],
        },
    )
    return Opened(cookie=cookie, until=until)


# Made once: making a statement takes longer than executing it, and each request asks for its session.
_SESSION = (
    select(session, person.c.account, person_role.c.role)
    .join(person, person.c.name == session.c.person)
    .outerjoin(person_role, person_role.c.person == person.c.name)
    .where(
        session.c.digest == bindparam("secret"),
        session.c.until > bindparam("now"),
        session.c.used > bindparam("idle_since"),
        person.c.state == "active",
    )
)


def session_actor(connection: Connection, secret: str, address: str, now: EpochSeconds) -> tuple[Actor, bool] | None:
    """Return the actor of a session, and whether its last use is to be stored; ``None``: no cookie has the secret."""
    rows = connection.execute(_SESSION, {"secret": digest(secret), "now": now, "idle_since": now - IDLE_S}).all()
    if not rows:
        return None
    found = rows[0]
    actor = Actor(
        name=found.person,
        roles=frozenset(Role(row.role) for row in rows if row.role is not None),
        account=found.account,
        via=Via.SESSION,
        address=address,
        csrf=found.csrf,
        session=found.digest,
    )
    return actor, now - found.used >= USED_EVERY_S


def end_session(connection: Connection, digest_: str) -> None:
    """End a session; its cookie is worthless from now on."""
    connection.execute(session.delete().where(session.c.digest == digest_))


def end_session_of(connection: Connection, cookie: str) -> None:
    """End the session of a cookie, if there is one."""
    end_session(connection, digest(cookie))


def end_sessions(connection: Connection, name: str, but: str = "") -> None:
    """End a person's sessions, but for one, and the logins that wait for the second factor."""
    connection.execute(session.delete().where(session.c.person == name, session.c.digest != but))
    connection.execute(started_login.delete().where(started_login.c.person == name))


def end_logins(connection: Connection) -> None:
    """End all sessions, logins that wait for the second factor, and open invitations."""
    for table in (session, started_login, invitation):
        connection.execute(table.delete())


def revoke_tokens(connection: Connection, name: str, now: EpochSeconds) -> list[int]:
    """Revoke all valid tokens of a person; return their numbers."""
    valid = (api_token.c.person == name) & api_token.c.revoked.is_(None) & (api_token.c.until > now)
    revoked = api_token.update().where(valid).values(revoked=now).returning(api_token.c.no)
    return sorted(connection.execute(revoked).scalars())


def token_actor(connection: Connection, secret: str, address: str, now: EpochSeconds) -> tuple[Actor, bool] | None:
    """Return the actor of an API token, and whether its last use is to be stored; ``None``: it is not valid.

    The actor has those of the token's roles that its person still has.
    """
    condition = (api_token.c.digest == digest(secret)) & (api_token.c.until > now) & api_token.c.revoked.is_(None)
    row = connection.execute(select(api_token).where(condition)).first()
    found = None if row is None else find_person(connection, row.person)
    if row is None or found is None or found.state != "active":
        return None
    roles = found.roles & {Role(name) for name in row.roles.split(",")}
    actor = Actor(name=found.name, roles=roles, account=found.account, via=Via.TOKEN, address=address, token=row.no)
    return actor, now - (row.used or 0) >= USED_EVERY_S


def store_use(database: Database, actor: Actor, now: EpochSeconds) -> None:
    """Store the last use of an actor's session or token, if the database takes it."""
    is_it = session.c.digest == actor.session if actor.token is None else api_token.c.no == actor.token
    try:
        with database.writes.begin() as connection:
            if not database.has_one_writer:
                # A page must not wait for a synchronous standby.
                connection.execute(text("SET LOCAL synchronous_commit = local"))
            connection.execute((session if actor.token is None else api_token).update().where(is_it).values(used=now))
    except SQLAlchemyError as error:  # People can read when the disk is full, too.
        log.warning("the last use of a session or token could not be stored: %s", error)


def sessions_of(connection: Connection, name: str, now: EpochSeconds) -> list[OpenSession]:
    """Return a person's open sessions, the one used last first."""
    condition = (session.c.person == name) & (session.c.until > now) & (session.c.used > now - IDLE_S)
    columns = session.c["digest", "opened", "used", "until", "address", "agent"]
    return read(OpenSession, connection.execute(select(*columns).where(condition).order_by(session.c.used.desc())))


MAX_TOKENS = 50  # most valid tokens of a person


@dataclass(frozen=True, kw_only=True)
class Token:
    """An API token."""

    no: int  # its number
    person: str  # the person who made it
    label: str  # what it is for
    roles: tuple[Role, ...]  # its scope; a role that the person has lost does not count
    made: EpochSeconds  # when it was made, machine's epoch seconds
    until: EpochSeconds  # when it ends
    used: EpochSeconds | None  # when it was used last; ``None``: never
    revoked: EpochSeconds | None  # when it was revoked; ``None``: it was not

    def is_valid(self, machine_s: EpochSeconds) -> bool:
        """Return whether it can be used."""
        return self.revoked is None and machine_s < self.until


def make_token(by: By, label: str, scope: Collection[Role], hours: int) -> tuple[str, Token]:
    """Make a token of the actor; return its text, which is never shown again, and the token.

    Raises:
        AccessFaultError: The actor is not logged in with a session, what is said is wrong, or there are too many.
    """
    if by.actor.via is not Via.SESSION:
        raise AccessFaultError("a token is made by a person who is logged in; open the console")
    check_token(label, scope, by.actor.roles, hours)
    valid = (api_token.c.person == by.actor.name) & api_token.c.revoked.is_(None) & (api_token.c.until > by.machine_s)
    if count_rows(by.connection, api_token, valid) >= MAX_TOKENS:
        raise AccessFaultError(f"you have {MAX_TOKENS} valid tokens; revoke one first")
    text, until = new_token(), by.machine_s + hours * HOUR_S
    names = ",".join(sorted(scope))
    row: dict[str, object] = {"digest": digest(text), "person": by.actor.name, "label": label.strip(), "roles": names}
    row |= {"made": by.machine_s, "until": until}
    number = by.connection.execute(api_token.insert().returning(api_token.c.no), [row]).scalar_one()
    by.record("token.make", f"token {number}", after={"label": label, "roles": names, "until": until})
    (made,) = tokens(by.connection, None, 1, number)
    return text, made


def revoke_token(by: By, number: int, *, again: bool = False) -> None:
    """Revoke a token of the actor; an administrator may revoke any, and a token none that has a role it lacks.

    Args:
        again: Whether one that was revoked before is no fault; nothing is changed then.

    Raises:
        AccessFaultError: There is no such token for this actor, it is revoked already, or it has more scope.
    """
    found = tokens(by.connection, None, 1, number)
    if not found or (found[0].person != by.actor.name and not by.actor.has(Role.ADMIN)):
        raise AccessFaultError(f"token {number}: you have none of this number")
    if by.actor.via is Via.TOKEN and not by.actor.has_all(found[0].roles):
        raise AccessFaultError(f"token {number}: has a role that yours lacks; revoke it in the console")
    if found[0].revoked is not None and again:
        return
    if found[0].revoked is not None:
        raise AccessFaultError(f"token {number} is revoked already")
    by.connection.execute(api_token.update().where(api_token.c.no == number).values(revoked=by.machine_s))
    by.record("token.revoke", f"token {number}", {"person": found[0].person, "label": found[0].label})


def tokens(connection: Connection, person: str | None, limit: int, number: int | None = None) -> list[Token]:
    """Return the newest tokens of a person, newest first; ``None``: of everybody; ``number``: only that one."""
    columns = api_token.c["no", "person", "label", "roles", "made", "until", "used", "revoked"]
    statement = select(*columns).order_by(api_token.c.no.desc()).limit(limit)
    if person is not None:
        statement = statement.where(api_token.c.person == person)
    if number is not None:
        statement = statement.where(api_token.c.no == number)
    rows = connection.execute(statement).mappings()
    return [Token(**{**row, "roles": tuple(Role(role) for role in row["roles"].split(","))}) for row in rows]
