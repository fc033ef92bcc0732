"""The audit log: every change that a person makes, in the transaction of the change. The database lets it only grow."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.access.tables import audit
from utility.database.database import Database

AT_ONCE = 1_000  # entries that are read in one transaction, of a long list
MAX_TEXT = 20_000  # most characters of a stored value before or after a change; a longer one is cut


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which entries to return; empty texts select nothing."""

    person: str = ""  # the person's name
    action: str = ""  # the start of the action
    subject: str = ""  # the start of the subject
    since: EpochSeconds | None = None  # only entries from this time on; ``None``: from any
    until: EpochSeconds | None = None  # only entries before this time; ``None``: up to now
    token: int | None = None  # only by the API token of this number; ``None``: by any or none
    before_no: int | None = None  # only entries older than this one; ``None``: from the newest on


def persons_of(connection: Connection, actions: Collection[str], since: EpochSeconds) -> list[tuple[str, str]]:
    """Return who did some actions since a time: subject and person, the oldest first."""
    which = (audit.c.action.in_(actions), audit.c.time >= since)
    rows = connection.execute(select(audit.c.subject, audit.c.person).where(*which).order_by(audit.c.no))
    return [(subject, person) for subject, person in rows]


def record(
    connection: Connection,
    actor: Actor,
    now: EpochSeconds,
    action: str,
    subject: str,
    before: object = None,
    after: object = None,
) -> None:
    """Add an entry; call it in the transaction of the change.

    Args:
        action: What was done, such as ``schedule.set``.
        subject: What was changed, such as ``r001`` or ``run 12``.
        before: The value before, for JSON; ``None``: there was none.
        after: The value after, for JSON; ``None``: there is none.
    """
    connection.execute(
        audit.insert(),
        {
            "time": now,
            "person": actor.name,
            "via": actor.via,
            "address": actor.address[:64],
            "action": action,
            "subject": subject[:128],
            "before": _text(before),
            "after": _text(after),
            "token": actor.token,
        },
    )


def entries(connection: Connection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Return entries, newest first."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.person:
        conditions.append(audit.c.person == wanted.person)
    if wanted.token is not None:
        conditions.append(audit.c.token == wanted.token)
    if wanted.action:
        conditions.append(audit.c.action.startswith(wanted.action, autoescape=True))
    if wanted.subject:
        conditions.append(audit.c.subject.startswith(wanted.subject, autoescape=True))
    if wanted.since is not None:
        conditions.append(audit.c.time >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.time < wanted.until)
    if wanted.before_no is not None:
        conditions.append(audit.c.no < wanted.before_no)
    statement = select(audit).where(*conditions).order_by(audit.c.no.desc()).limit(limit)
    return [dict(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - SQLAlchemy's public name


def all_entries(database: Database, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yield entries, newest first, however many."""
    while True:
        found = database.read(entries, wanted, AT_ONCE)
        yield from found
        if len(found) < AT_ONCE:
            return
        wanted = replace(wanted, before_no=found[-1]["no"])


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False)[:MAX_TEXT]
