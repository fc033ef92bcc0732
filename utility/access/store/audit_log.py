"""The audit log: every change by a person, in its transaction; and what the rule of two people asks of it."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from commonwatt.model.units import EpochSeconds
from utility.access.people import Actor, Role
from utility.access.tables import audit, person, person_role
from utility.database.database import Database, read_setting, save_setting

AT_ONCE = 1_000  # entries that are read in one transaction, of a long list
MAX_TEXT = 20_000  # most characters of a stored value before or after a change; a longer one is cut


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
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


def entries(connection: Connection, wanted: AuditFilter, limit: int) -> list[dict[str, Any]]:
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


def all_entries(database: Database, wanted: AuditFilter) -> Iterator[dict[str, Any]]:
    """Yield entries, newest first, however many."""
    while True:
        found = database.read(entries, wanted, AT_ONCE)
        yield from found
        if len(found) < AT_ONCE:
            return
        wanted = replace(wanted, before_no=found[-1]["no"])


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False)[:MAX_TEXT]


@dataclass(frozen=True, kw_only=True)
class By:
    """The person who makes a change, and the time."""

    connection: Connection  # the transaction of the change
    actor: Actor  # the person or program
    now: EpochSeconds  # the time of the service's clock, for the audit log
    machine_s: EpochSeconds  # the machine's epoch seconds, by which links and tokens end

    def record(self, action: str, subject: str, before: object = None, after: object = None) -> None:
        """Add an entry to the audit log."""
        record(self.connection, self.actor, self.now, action, subject, before, after)


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link with which a person chooses a password, once."""

    name: str  # the person
    secret: str  # the end of the link; it is stored nowhere
    until: EpochSeconds  # when it ends, machine's epoch seconds

    @property
    def path(self) -> str:
        """The path of the link."""
        return f"/console/invitation/{self.secret}"


REFUSED = "second.refuse"  # the action of the audit log: the rule of two people refused an attempt
BROKEN = "machine.break-glass"  # the action of the audit log: a command decided without the service and without a login
_SEEN = "audit_seen"  # setting with the last number of the audit log up to which an administrator has seen both

_DECIDE = (Role.CLERK.value, Role.APPROVER.value)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the rule of two people asks of a person."""

    name: str  # the person's name
    # Those of the roles clerk and approver that the person has; none while nobody can log in by the name.
    roles: frozenset[Role]
    # The others who made the present link, gave the roles, or removed the second factor.
    makers: frozenset[str] = frozenset()
    changed: EpochSeconds | None = None  # when one of them last did so, clock seconds; ``None``: nobody did


def standings(connection: Connection, also: Collection[str] = ()) -> dict[str, Standing]:
    """Return, by name, all who can log in as clerk or approver, and of some names those that are a person's."""
    c = person.c
    decide = select(person_role.c.person, person_role.c.role).where(person_role.c.role.in_(_DECIDE))
    roles: dict[str, set[Role]] = {}
    for name, role in connection.execute(decide):
        roles.setdefault(name, set()).add(Role(role))
    found = {}
    for row in connection.execute(select(person).where(c.name.in_({*roles, *also})).order_by(c.name)):
        changes = [(row.link_by, row.link_at), (row.roles_by, row.roles_at), (row.factor_by, row.factor_at)]
        found[row.name] = Standing(
            name=row.name,
            roles=frozenset(roles.get(row.name, ())) if row.state == "active" else frozenset(),
            makers=frozenset(by for by, _ in changes if by is not None),
            changed=max((at for _, at in changes if at is not None), default=None),
        )
    return found


def record_refusal(connection: Connection, actor: Actor, now: EpochSeconds, subject: str, why: str) -> None:
    """Record that the rule refused an attempt; the same again only after an administrator has seen it."""
    mine = (audit.c.person == actor.name) & (audit.c.subject == subject)
    if connection.execute(select(audit.c.no).where(_unseen(connection), mine).limit(1)).first() is None:
        record(connection, actor, now, REFUSED, subject, after=why)


def unseen(connection: Connection, *actions: str) -> dict[int, str]:
    """Return person and subject of the unseen entries of some actions (none: of both), by number of the audit log."""
    c = audit.c
    which = _unseen(connection) & c.action.in_(actions or (REFUSED, BROKEN))
    rows = connection.execute(select(c.no, c.person, c.subject).where(which).order_by(c.no))
    return {row.no: f"{row.person}: {row.subject}" for row in rows}


def mark_seen(connection: Connection, actor: Actor, now: EpochSeconds, last: int) -> None:
    """Note that an administrator has seen refused attempts and broken glass up to a number of the audit log."""
    if seen := [no for no in unseen(connection) if no <= last]:
        record(connection, actor, now, "second.seen", f"entry {seen[-1]}")
        save_setting(connection, _SEEN, str(seen[-1]))


def _unseen(connection: Connection) -> ColumnElement[bool]:
    return (audit.c.no > int(read_setting(connection, _SEEN) or 0)) & audit.c.action.in_((REFUSED, BROKEN))
