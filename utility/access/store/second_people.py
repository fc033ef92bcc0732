"""What the rule of two people asks of people, and attempts that it refused."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.access.roles import Role
from utility.access.store.audit_log import record
from utility.access.tables import audit, person, person_role
from utility.database.database import read_setting, save_setting

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
