"""API tokens of people: made, listed, revoked; the text of a token is stored nowhere."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds
from utility.access.actor import Via
from utility.access.roles import Role
from utility.access.rules import HOUR_S, AccessFaultError, check_token
from utility.access.secrets import digest, new_token
from utility.access.store.acting import By
from utility.access.tables import api_token
from utility.database.database import count_rows

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
