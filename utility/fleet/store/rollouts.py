"""Rollouts in the database, and what their commands led to."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from commonwatt.model.units import ControllerId, EpochSeconds
from utility.fleet.steps import Member
from utility.fleet.tables import rollout, rollout_member
from utility.outbox.tables import command


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A release on its way to all controllers; columns as in ``rollout``."""

    no: int
    release: str
    sha256: str
    state: str
    begun: EpochSeconds
    begun_by: str
    approved_by: str | None = None
    ended: EpochSeconds | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a command."""

    state: str  # ``open``, ``done``, ``expired`` or ``superseded``
    result: str | None  # the result in the answer; ``None``: there is no answer
    reason: str  # why, if it was not done


def newest(connection: Connection) -> Rollout | None:
    """Return the newest rollout; ``None``: there was none."""
    row = connection.execute(select(rollout).order_by(rollout.c.no.desc()).limit(1)).mappings().first()
    return None if row is None else Rollout(**row)


def add(connection: Connection, new: Rollout, members: Iterable[Member]) -> None:
    """Add a rollout with its members."""
    connection.execute(rollout.insert().values(**vars(new)))
    connection.execute(rollout_member.insert(), [vars(each) | {"rollout_no": new.no} for each in members])


def next_number(connection: Connection) -> int:
    """Return the number of the next rollout."""
    return int(connection.execute(select(func.coalesce(func.max(rollout.c.no), 0))).scalar_one()) + 1


def save(connection: Connection, changed: Rollout) -> None:
    """Save a rollout's row."""
    connection.execute(rollout.update().where(rollout.c.no == changed.no).values(**vars(changed)))


def members_of(connection: Connection, number: int) -> list[Member]:
    """Return a rollout's members by step and name."""
    wanted = select(rollout_member).where(rollout_member.c.rollout_no == number)
    rows = connection.execute(wanted.order_by(rollout_member.c.step, rollout_member.c.controller)).mappings()
    return [Member(**{key: value for key, value in row.items() if key != "rollout_no"}) for row in rows]


def save_member(connection: Connection, number: int, member: Member) -> None:
    """Save a member's row."""
    ours = (rollout_member.c.rollout_no == number) & (rollout_member.c.controller == member.controller)
    connection.execute(rollout_member.update().where(ours).values(**vars(member)))


def answers(connection: Connection, members: Sequence[Member]) -> dict[ControllerId, Answer]:
    """Return what became of the commands of the members under way."""
    ids = {each.command: each.controller for each in members if each.is_under_way}
    rows = connection.execute(select(command).where(command.c.id.in_([*ids])))
    return {
        ids[row.id]: Answer(
            state=row.state, result=row.result, reason=str(json.loads(row.outcome or "{}").get("reason") or "")
        )
        for row in rows
    }


def ask_again(connection: Connection, name: str) -> None:
    """Send a command again, to hear what became of it; a gateway does none of them twice."""
    connection.execute(command.update().where(command.c.id == name).values(state="open"))
