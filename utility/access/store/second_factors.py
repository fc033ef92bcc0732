"""Second factors: offered, confirmed, asked for at login, removed; and logins that wait for them.

Every function of second factors locks the person, so that parallel requests can't use a code twice or exceed the
allowance of guesses.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from commonwatt.model.units import EpochSeconds
from utility.access.people import AccessFaultError
from utility.access.secrets import (
    DIGITS,
    MISREAD,
    after_wrong_code,
    digest,
    is_code,
    new_recovery_code,
    new_secret,
    new_seed,
    read,
    step_of,
    step_of_pair,
)
from utility.access.store import access
from utility.access.store.audit_log import By
from utility.access.tables import recovery_code, second_factor, started_login
from utility.database.database import count_rows, upsert

RECOVERY_CODES = 10  # recovery codes that a person gets, each for one login
OFFERED_S = 900  # seconds in which a new secret has to be confirmed


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A second factor in force."""

    since: EpochSeconds  # when it was confirmed, machine's epoch seconds
    recovery_codes: int  # recovery codes that were not used yet


@dataclass(frozen=True)
class Proof:
    """Whether a person proved to have the second factor."""

    is_right: bool  # whether the code was right
    wait_s: int = 0  # seconds to wait before the next single code of the app is checked; this one was not


def in_force(connection: Connection, name: str) -> Factor | None:
    """Return a person's second factor; ``None``: a password is enough."""
    since = connection.execute(
        select(second_factor.c.since).where(second_factor.c.person == name, second_factor.c.secret.is_not(None))
    ).scalar()
    if since is None:
        return None
    return Factor(since=since, recovery_codes=count_rows(connection, recovery_code, recovery_code.c.person == name))


def offer(by: By) -> str:
    """Return a new secret for the actor's app; what was in force stays until the secret is confirmed."""
    seed, name = new_seed(), by.actor.name
    row = {"offered": digest(seed), "offered_until": by.machine_s + OFFERED_S}
    statement = upsert(by.connection, second_factor, *row)
    by.connection.execute(statement, {"person": name, "last_step": 0, "guesses_until": 0} | row)
    return seed


def confirm(by: By, seed: str, code: str) -> list[str] | None:
    """Put an offered secret in force; return the new recovery codes, which are never shown again.

    All sessions of the actor end, and the recovery codes from before. ``None``: the code is wrong.

    Raises:
        AccessFaultError: The secret was not offered, or too long ago.
    """
    name = by.actor.name
    row = _locked(by.connection, name)
    if row is None or row.offered != digest(seed) or row.offered_until <= by.machine_s:
        raise AccessFaultError("this secret was offered too long ago, or a newer one was; begin again")
    step = step_of(read(code), seed, by.machine_s, 0)
    if step is None:
        return None
    new = {"secret": seed, "since": by.machine_s, "last_step": step, "offered": None, "offered_until": None}
    by.connection.execute(second_factor.update().where(second_factor.c.person == name).values(new))
    by.connection.execute(recovery_code.delete().where(recovery_code.c.person == name))
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    by.connection.execute(recovery_code.insert(), [{"digest": digest(one), "person": name} for one in codes])
    access.end_sessions(by.connection, name)
    by.record("person.second-factor", name, "on" if row.secret else "off", "renewed" if row.secret else "on")
    return codes


def prove(by: By, name: str, text: str) -> Proof:
    """Check a code of the app, or a recovery code, and use it up. The transaction must be committed in any case.

    Two codes in a row are checked however many wrong ones there were: a person who knows the password and guesses codes
    can't lock out the owner of the app.
    """
    row, said = _locked(by.connection, name), read(text)
    if row is None or row.secret is None:
        return Proof(False)
    if len(said) == 2 * DIGITS and said.isdecimal():
        step = step_of_pair(said, row.secret, by.machine_s, row.last_step)
        return _used(by, name, step)
    if not is_code(said):
        wanted = (recovery_code.c.digest == digest(said.translate(MISREAD))) & (recovery_code.c.person == name)
        is_right = by.connection.execute(recovery_code.delete().where(wanted)).rowcount == 1
        if is_right:
            by.record("person.recovery-code", name, after="used")
        return Proof(is_right)
    wait_s, after = after_wrong_code(row.guesses_until, by.machine_s)
    if wait_s > 0:
        return Proof(False, wait_s)
    step = step_of(said, row.secret, by.machine_s, row.last_step)
    return _used(by, name, step, guesses_until=after)


def _used(by: By, name: str, step: int | None, **if_wrong: int) -> Proof:
    """Store the step of a right code, or what a wrong one leaves; return whether it was right."""
    if values := if_wrong if step is None else {"last_step": step}:
        by.connection.execute(second_factor.update().where(second_factor.c.person == name).values(values))
    return Proof(step is not None)


def remove(by: By, name: str) -> None:
    """Remove a person's second factor and recovery codes; all sessions end.

    Raises:
        AccessFaultError: There is no such person, or no second factor.
    """
    row = _locked(by.connection, name)
    if row is None or row.secret is None:
        raise AccessFaultError(f"{name:.40}: has no second factor")
    by.connection.execute(recovery_code.delete().where(recovery_code.c.person == name))
    by.connection.execute(second_factor.delete().where(second_factor.c.person == name))
    access.end_sessions(by.connection, name)
    by.record("person.second-factor", name, "on", "off")


def remove_of_another(by: By, name: str) -> None:
    """Remove the second factor of another person, who lost it.

    Raises:
        AccessFaultError: It is the actor, there is no such person, or no second factor.
    """
    if by.actor.name == name:
        raise AccessFaultError(f"{name}: this is you; remove it on the page of your account, with a code")
    remove(by, name)
    access.changed_by(by.connection, name, "factor", by.actor.name, by.now)


def _locked(connection: Connection, name: str) -> Row[Any] | None:
    access.password_of(connection, name, lock=True)
    return connection.execute(select(second_factor).where(second_factor.c.person == name)).first()


LASTS_S = 300  # seconds in which the second factor has to follow the password
MAX_WRONG = 5  # wrong codes after which the password is asked for again


def start(connection: Connection, name: str, now: EpochSeconds) -> str:
    """Return the secret of a started login, which only its browser keeps."""
    secret = new_secret()
    connection.execute(started_login.delete().where(started_login.c.until <= now))
    row = {"digest": digest(secret), "person": name, "until": now + LASTS_S, "wrong": 0}
    connection.execute(started_login.insert(), row)
    return secret


def person_of(connection: Connection, secret: str, now: EpochSeconds) -> str | None:
    """Return whose login a secret continues; ``None``: none's, or no longer."""
    wanted = (started_login.c.digest == digest(secret)) & (started_login.c.until > now)
    return connection.execute(select(started_login.c.person).where(wanted)).scalar()


def take(connection: Connection, secret: str) -> bool:
    """End a started login; return whether this transaction is the one that did."""
    return connection.execute(started_login.delete().where(started_login.c.digest == digest(secret))).rowcount == 1


def count_wrong(connection: Connection, secret: str) -> None:
    """Count a wrong code; the last one allowed ends the started login."""
    this = started_login.c.digest == digest(secret)
    connection.execute(started_login.update().where(this).values(wrong=started_login.c.wrong + 1))
    connection.execute(started_login.delete().where(this, started_login.c.wrong >= MAX_WRONG))
