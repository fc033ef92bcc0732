"""The changes that people make at gateways: kept with what was before, sent when due, and found again (K5)."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.control.changes import Change, NoSuchChangeError, State, Target, state_of
from utility.control.fields import Fields
from utility.control.in_force import in_force
from utility.control.tables import control_change, control_target, control_version
from utility.database.database import upsert
from utility.outbox.settings import settings_of
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.readings.store.heartbeats import last_heartbeats
from utility.readings.store.parts import chunks
from utility.registry.tables import controller


@dataclass(frozen=True, kw_only=True)
class NewChange:
    """A change to store."""

    person: str  # the person who makes it
    action: Action  # the command
    targets: Mapping[MicrogridId, Fields]  # the command's fields, with ``cmd``, by microgrid
    due: EpochSeconds  # when it is to be sent
    valid_s: int  # seconds for which it is sent until answered
    undoes: int | None = None  # the change that it puts back


@dataclass(frozen=True, kw_only=True)
class Newer:
    """A change of a setting that came after a form was made."""

    microgrid: MicrogridId
    setting: str
    change: Change


def kinds_of(connection: Connection) -> dict[MicrogridId, str]:
    """Return the kind of each microgrid, such as ``residential``, in order."""
    found = select(controller.c.id, controller.c.kind).order_by(controller.c.number)
    return {row.id: row.kind for row in connection.execute(found)}


def newest_change(connection: Connection) -> int:
    """Return the number of the newest change; 0: there is none."""
    return int(connection.execute(select(func.coalesce(func.max(control_change.c.no), 0))).scalar_one())


def newer_change(
    connection: Connection, microgrids: Collection[MicrogridId], settings: Collection[str], seen: int
) -> Newer | None:
    """Return the newest change after ``seen`` of one of the settings of one of the microgrids."""
    c = control_version.c
    wanted = select(control_version).where(c.change_no > seen, c.setting.in_(settings)).order_by(c.change_no.desc())
    row = next((row for row in connection.execute(wanted) if row.controller in microgrids), None)
    if row is None:
        return None
    (change,) = _changes(connection, control_change.c.no == row.change_no)
    return Newer(microgrid=row.controller, setting=row.setting, change=change)


def add_change(connection: Connection, new: NewChange, now: EpochSeconds) -> int:
    """Store a change as planned, and return its number; the versions of its settings are it from now on."""
    each = list(new.targets.values())
    same = each[0] if all(fields == each[0] for fields in each) else {}
    values = {"made": now, "person": new.person, "action": new.action, "fields": json.dumps(same), "due": new.due}
    values |= {"valid_s": new.valid_s, "state": "planned", "undoes": new.undoes}
    statement = control_change.insert().values(values).returning(control_change.c.no)
    number = int(connection.execute(statement).scalar_one())
    rows = [{"change_no": number, "controller": to, "fields": json.dumps(fields)} for to, fields in new.targets.items()]
    connection.execute(control_target.insert(), rows)
    versions = [
        {"controller": to, "setting": name, "change_no": number}
        for to, fields in new.targets.items()
        for name in settings_of(fields)
    ]
    if versions:
        connection.execute(upsert(connection, control_version, "change_no"), versions)
    return number


def send_change(connection: Connection, number: int, now: EpochSeconds, new_id: Callable[[], str]) -> None:
    """Keep what is in force before a change, and add its commands, which the service sends until they are answered."""
    change = connection.execute(select(control_change).where(control_change.c.no == number)).one()
    rows = connection.execute(select(control_target).where(control_target.c.change_no == number)).all()
    names = [row.controller for row in rows]
    heartbeats = last_heartbeats(connection, names)
    sent = []
    for row in rows:
        fields = json.loads(row.fields)
        to = row.controller
        before = in_force(settings_of(fields), heartbeats.get(to, (0, None))[1])
        # A gateway that is away hears of a storm as long as it lasts; the hold ends with it, however late it is sent.
        valid_s = fields.get("for_s", change.valid_s) if fields["cmd"] == Action.HOLD else change.valid_s
        message = ControllerCommand.model_validate({**fields, "id": new_id(), "until": now + valid_s})
        send(connection, to, message, now)
        sent.append({"change_no": number, "controller": to, "fields": row.fields})
        sent[-1] |= {"before": json.dumps(before), "command": message.id}
    connection.execute(upsert(connection, control_target, "before", "command"), sent)
    end_change(connection, number, "sent", now)


def end_change(connection: Connection, number: int, state: str, now: EpochSeconds, person: str | None = None) -> bool:
    """End the wait of a planned change, as ``sent``, ``cancelled`` or ``missed``; return whether it was planned."""
    planned = (control_change.c.no == number) & (control_change.c.state == "planned")
    ended = control_change.update().where(planned).values(state=state, ended=now, ended_by=person)
    was_planned = bool(connection.execute(ended).rowcount)
    if was_planned and state != "sent":
        _put_versions_back(connection, number)
    return was_planned


def _put_versions_back(connection: Connection, number: int) -> None:
    """Give the settings of a change that is never sent the version they had without it."""
    v, t, c = control_version.c, control_target.c, control_change.c
    of_it = v.change_no == number
    settings = [(row.controller, row.setting) for row in connection.execute(select(control_version).where(of_it))]
    newest = func.max(t.change_no).label("change_no")
    others = select(t.controller, t.fields, newest).join(control_change, c.no == t.change_no)
    others = others.where(c.state.in_(("planned", "sent")), t.controller.in_(select(v.controller).where(of_it)))
    versions = {
        (row.controller, name): row.change_no
        for row in connection.execute(others.group_by(t.controller, t.fields).order_by(newest))
        for name in settings_of(json.loads(row.fields))
    }
    connection.execute(control_version.delete().where(of_it))
    rows = [
        {"controller": to, "setting": name, "change_no": versions[to, name]}
        for to, name in settings
        if (to, name) in versions
    ]
    if rows:
        connection.execute(control_version.insert(), rows)


def due_changes(connection: Connection, now: EpochSeconds) -> list[Row[Any]]:
    """Return the planned changes that are due, in order, with ``no``, ``due`` and ``valid_s``."""
    c = control_change.c
    found = select(c.no, c.due, c.valid_s).where(c.state == "planned", c.due <= now).order_by(c.due, c.no)
    return list(connection.execute(found))


def find_change(connection: Connection, number: int) -> Change:
    """Return a change.

    Raises:
        NoSuchChangeError: There is none of that number.
    """
    for change in _changes(connection, control_change.c.no == number):
        return change
    raise NoSuchChangeError(f"there is no change {number}")


def newest_changes(connection: Connection, limit: int, before: int | None = None) -> list[Change]:
    """Return the newest changes, newest first, below a number."""
    c = control_change.c
    numbers = select(c.no).order_by(c.no.desc()).limit(limit)
    wanted = list(connection.execute(numbers if before is None else numbers.where(c.no < before)).scalars())
    return _changes(connection, c.no.in_(wanted))


def targets_of(connection: Connection, number: int, limit: int, offset: int = 0) -> list[Target]:
    """Return what a change asked of its microgrids and what became of it, a page in the order of their numbers."""
    c = control_target.c
    statement = (
        select(
            control_target, control_change.c.state.label("change"), command.c.state, command.c.outcome, command.c.result
        )
        .join(control_change, control_change.c.no == c.change_no)
        .join(controller, controller.c.id == c.controller)
        .outerjoin(command, command.c.id == c.command)
        .where(c.change_no == number)
        .order_by(controller.c.number)
    )
    return [_target(row) for row in connection.execute(statement.limit(limit).offset(offset))]


def _target(row: Row[Any]) -> Target:
    outcome = json.loads(row.outcome) if row.outcome else None
    return Target(
        microgrid=row.controller,
        fields=json.loads(row.fields),
        before=json.loads(row.before) if row.before else None,
        command=row.command,
        state=state_of(row.change, row.state, row.result),
        outcome=outcome,
    )


def _changes(connection: Connection, wanted: Any) -> list[Change]:
    rows = connection.execute(select(control_change).where(wanted).order_by(control_change.c.no.desc())).all()
    counts = _counts(connection, {row.no: row.state for row in rows})
    return [_change(row, counts.get(row.no, Counter())) for row in rows]


def _change(row: Row[Any], counts: Mapping[State, int]) -> Change:
    return Change(
        no=row.no,
        made=row.made,
        person=row.person,
        action=Action(row.action),
        fields=json.loads(row.fields) or None,
        due=row.due,
        valid_s=row.valid_s,
        state=row.state,
        undoes=row.undoes,
        ended=row.ended,
        ended_by=row.ended_by,
        microgrids=sum(counts.values()),
        counts=counts,
    )


def _counts(connection: Connection, states: Mapping[int, str]) -> dict[int, Counter[State]]:
    """Return how many microgrids of each change are in which state."""
    found: dict[int, Counter[State]] = {}
    for some in chunks(sorted(states)):
        statement = (
            select(control_target.c.change_no, command.c.state, command.c.result, func.count().label("number"))
            .outerjoin(command, command.c.id == control_target.c.command)
            .where(control_target.c.change_no.in_(some))
            .group_by(control_target.c.change_no, command.c.state, command.c.result)
        )
        for row in connection.execute(statement):
            state = state_of(states[row.change_no], row.state, row.result)
            found.setdefault(row.change_no, Counter())[state] += row.number
    return found
