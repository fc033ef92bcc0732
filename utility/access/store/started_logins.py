"""Logins with the right password that wait for the second factor: no session exists yet, and they open nothing else."""

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds
from utility.access.secrets import digest, new_secret
from utility.access.tables import started_login

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
