"""SQL of the fleet: reports of controllers, rollouts, and what their commands led to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, select

from commonwatt.model.units import ControllerId, EpochSeconds
from utility.fleet.fleet import RolloutMember
from utility.fleet.tables import rollout, rollout_member
from utility.outbox.tables import DISCOVERY, command, controller_report
from utility.webkit.columns import Time

KEPT_S = 90 * 86_400  # seconds for which a report is kept


def reports_of(connection: Connection, controller: ControllerId, limit: int) -> Sequence[Row[str, int, str]]:
    """Return the newest reports of a controller: command, time, text."""
    table = controller_report
    ours = select(table.c.command, table.c.time, table.c.text)
    ours = ours.where(table.c.controller == controller, ~table.c.command.startswith(DISCOVERY))
    return connection.execute(ours.order_by(table.c.time.desc(), table.c.command).limit(limit)).all()


def drop_reports(connection: Connection, now: EpochSeconds) -> None:
    """Delete the reports that are no longer kept."""
    connection.execute(delete(controller_report).where(controller_report.c.time < now - KEPT_S))


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A release on its way to all controllers; columns as in ``rollout``."""

    no: int
    release: str
    sha256: str
    state: str
    begun: Time
    begun_by: str
    approved_by: str | None = None
    ended: Time | None = None
    why: str = ""


def newest(connection: Connection) -> Rollout | None:
    """Return the newest rollout; ``None``: there was none."""
    row = connection.execute(select(rollout).order_by(rollout.c.no.desc()).limit(1)).mappings().first()
    return None if row is None else Rollout(**row)


def add(connection: Connection, new: Rollout, members: Iterable[RolloutMember]) -> None:
    """Add a rollout with its members."""
    connection.execute(rollout.insert().values(**vars(new)))
    connection.execute(rollout_member.insert(), [vars(each) | {"rollout_no": new.no} for each in members])


def save(connection: Connection, changed: Rollout) -> None:
    """Save a rollout's row."""
    connection.execute(rollout.update().where(rollout.c.no == changed.no).values(**vars(changed)))


def members_of(connection: Connection, number: int) -> list[RolloutMember]:
    """Return a rollout's members by step and name."""
    return [member for _, member in _members(connection, rollout_member.c.rollout_no == number)]


def firsts(connection: Connection, release: Rollout, since: EpochSeconds) -> set[ControllerId]:
    """Return the controllers that earlier rollouts of a release were sent to first, without a second person."""
    which = (rollout.c.no < release.no, rollout.c.release == release.release, rollout.c.begun >= since)
    numbers = select(rollout.c.no).where(*which)
    sent = (rollout_member.c.step == 1, rollout_member.c.command.is_not(None))
    named = select(rollout_member.c.controller).where(*sent, rollout_member.c.rollout_no.in_(numbers))
    return set(connection.execute(named).scalars())


def under_way(connection: Connection) -> list[tuple[int, RolloutMember]]:
    """Return the controllers that fetch, install or judge, with the number of their rollout: also of earlier ones."""
    waits = rollout_member.c.command.is_not(None) & rollout_member.c.verdict.is_(None)
    return _members(connection, waits)


def _members(connection: Connection, wanted: ColumnElement[bool]) -> list[tuple[int, RolloutMember]]:
    order = (rollout_member.c.step, rollout_member.c.controller)
    rows = [dict(row) for row in connection.execute(select(rollout_member).where(wanted).order_by(*order)).mappings()]
    return [(row.pop("rollout_no"), RolloutMember(**row)) for row in rows]


def save_member(connection: Connection, number: int, member: RolloutMember) -> None:
    """Save a member's row."""
    ours = (rollout_member.c.rollout_no == number) & (rollout_member.c.controller == member.controller)
    connection.execute(rollout_member.update().where(ours).values(**vars(member)))


def answers(connection: Connection) -> dict[str | None, dict[str, Any]]:
    """Return the rows of the commands of the members under way, by id."""
    ids = [member.command for _, member in under_way(connection)]
    rows = connection.execute(select(command).where(command.c.id.in_(ids))).mappings()
    return {row["id"]: dict(row) for row in rows}


def ask_again(connection: Connection, name: str) -> None:
    """Send a command again, to hear what became of it; a gateway does none of them twice."""
    connection.execute(command.update().where(command.c.id == name).values(state="open"))
