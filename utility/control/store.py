"""SQL of the control: changes and their effects on lines, schedules in force, weights of sharing."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, func, select

from commonwatt.model.calendar import month_of, month_quarters
from commonwatt.model.control import RelayedDays
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import Function
from utility.control.changes import ChangeTarget, ControlChange, NoSuchChangeError, State, state_of, title
from utility.control.commands import Fields, Weighting, in_force, to_tell, weightings
from utility.control.preview import PreviewedEffect, effect_on, in_words
from utility.control.tables import control_change, control_target, control_version
from utility.database.database import upsert
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.outbox.changes import settings_of
from utility.outbox.store import SENT_S, Wanted, send, told_of
from utility.outbox.tables import command
from utility.readings.store.gateways import last_heartbeats, relayed_by
from utility.readings.store.parts import chunks
from utility.readings.tables import gateway_seen
from utility.registry.accounts import Account, Installed, check_weight, with_weight
from utility.registry.store.accounts import load_batteries, load_registry_around, save_dated_registry
from utility.registry.tables import account_term, controller, holding, meter


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
    change: ControlChange


def kinds_of(connection: Connection) -> dict[MicrogridId, str]:
    """Return the kind of each microgrid, such as ``residential``, in order."""
    statement = select(controller.c.id, controller.c.kind).order_by(controller.c.number)
    return {row.id: row.kind for row in connection.execute(statement)}


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
    every = list(new.targets.values())
    same = every[0] if all(fields == every[0] for fields in every) else {}
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
    statement = select(c.no, c.due, c.valid_s).where(c.state == "planned", c.due <= now).order_by(c.due, c.no)
    return list(connection.execute(statement))


def find_change(connection: Connection, number: int) -> ControlChange:
    """Return a change.

    Raises:
        NoSuchChangeError: There is none of that number.
    """
    for change in _changes(connection, control_change.c.no == number):
        return change
    raise NoSuchChangeError(f"there is no change {number}")


def newest_changes(connection: Connection, limit: int, before: int | None = None) -> list[ControlChange]:
    """Return the newest changes, newest first, below a number."""
    c = control_change.c
    numbers = select(c.no).order_by(c.no.desc()).limit(limit)
    wanted = list(connection.execute(numbers if before is None else numbers.where(c.no < before)).scalars())
    return _changes(connection, c.no.in_(wanted))


def targets_of(connection: Connection, number: int, limit: int, offset: int = 0) -> list[ChangeTarget]:
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


def _target(row: Row[Any]) -> ChangeTarget:
    outcome = json.loads(row.outcome) if row.outcome else None
    return ChangeTarget(
        microgrid=row.controller,
        fields=json.loads(row.fields),
        before=json.loads(row.before) if row.before else None,
        command=row.command,
        state=state_of(row.change, row.state, row.result),
        outcome=outcome,
    )


def _changes(connection: Connection, wanted: Any) -> list[ControlChange]:
    rows = connection.execute(select(control_change).where(wanted).order_by(control_change.c.no.desc()))
    changes = rows.mappings().all()
    counts = _counts(connection, {row["no"]: row["state"] for row in changes})
    return [_change(row, counts.get(row["no"], Counter())) for row in changes]


def _change(row: RowMapping, counts: Mapping[State, int]) -> ControlChange:
    fields, waits = json.loads(row["fields"]) or None, row["state"] == "planned" or bool(counts.get("open"))
    more = {"action": Action(row["action"]), "fields": fields, "what": title(fields, row["undoes"])}
    return ControlChange(**{**row, **more, "microgrids": sum(counts.values()), "counts": counts, "waits": waits})


def _counts(connection: Connection, states: Mapping[int, str]) -> dict[int, Counter[State]]:
    """Return how many microgrids of each change are in which state."""
    counts: dict[int, Counter[State]] = {}
    for some in chunks(sorted(states)):
        statement = (
            select(control_target.c.change_no, command.c.state, command.c.result, func.count().label("number"))
            .outerjoin(command, command.c.id == control_target.c.command)
            .where(control_target.c.change_no.in_(some))
            .group_by(control_target.c.change_no, command.c.state, command.c.result)
        )
        for row in connection.execute(statement):
            state = state_of(states[row.change_no], row.state, row.result)
            counts.setdefault(row.change_no, Counter())[state] += row.number
    return counts


@dataclass(frozen=True, kw_only=True)
class ChangePreview:
    """What a change would do."""

    microgrids: Sequence[MicrogridId]  # its microgrids
    words: Sequence[str]  # what it does, a sentence each
    # Its effect on each line, those with the fullest line first; empty: it changes nothing there.
    effects: Sequence[PreviewedEffect]
    refused: str  # why it would be refused; empty: it would be made

    @property
    def mean(self) -> tuple[float, float] | None:
        """Mean bytes a month of the lines before and after, in the fuller direction; ``None``: of none it is known."""
        known = [
            (max(effect.before_bytes), max(effect.after_bytes))
            for effect in self.effects
            if effect.before_bytes and effect.after_bytes
        ]
        return (fmean(old for old, _ in known), fmean(new for _, new in known)) if known else None


def has_figures(fields: Fields) -> bool:
    """Return whether a command changes the period of the relay."""
    return fields["cmd"] == Action.SCHEDULE and "relay_s" in (fields.get("periods") or {})


def preview_of(
    connection: Connection, fields: Fields, microgrids: Sequence[MicrogridId], now: EpochSeconds
) -> ChangePreview:
    """Return what a command does to microgrids."""
    effects = _effects(connection, fields, microgrids, now) if has_figures(fields) else []
    effects.sort(key=lambda effect: (not effect.breaks, -max(effect.after_bytes or (-1,))))
    return ChangePreview(microgrids=microgrids, words=in_words(fields), effects=effects, refused=_refusal(effects))


def _effects(
    connection: Connection, fields: Fields, microgrids: Sequence[MicrogridId], now: EpochSeconds
) -> list[PreviewedEffect]:
    heartbeats, relayed = last_heartbeats(connection, microgrids), relayed_by(connection, microgrids)
    zone, putting = zone_of(connection), _putting(connection)
    month_end = month_quarters(month_of(now // QUARTER_S, zone), zone)[1] * QUARTER_S
    effects = []
    for microgrid in microgrids:
        _, beat = heartbeats.get(microgrid, (0, None))
        file_relay_s = None if beat is None or "relay_s" in beat.tuned else beat.periods.get("relay_s")
        left_s = 0 if beat is None else max(0, month_end - beat.time)
        counted = RelayedDays(**relayed[microgrid], meters=putting.get(microgrid, 0)) if microgrid in relayed else None
        effects.append(effect_on(microgrid, fields, beat, counted, left_s, file_relay_s))
    return effects


def _putting(connection: Connection) -> dict[MicrogridId, int]:
    """Return how many meters of each microgrid put by themselves over the line."""
    puts = meter.c.push & (meter.c.function != Function.BOUNDARY)
    counted = select(meter.c.microgrid, func.count()).where(puts).group_by(meter.c.microgrid)
    return {row.microgrid: row[1] for row in connection.execute(counted)}


def _refusal(effects: Sequence[PreviewedEffect]) -> str:
    breaking = [effect for effect in effects if effect.breaks]
    if not breaking:
        return ""
    worst = breaking[0]
    assert worst.after_bytes is not None
    assert worst.allowance_bytes is not None
    most = max(*worst.after_bytes, worst.expected_bytes or 0)
    others = f", and {len(breaking) - 1} other lines would break theirs" if len(breaking) > 1 else ""
    return (
        f"{worst.microgrid}: its LTE line would carry {most / 1e9:.3f} GB a month, and its plan allows "
        f"{worst.allowance_bytes / 1e9:.3f} GB{others}. Nothing was changed: choose a longer period, or others"
    )


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What is in force at one gateway."""

    microgrid: MicrogridId  # the microgrid
    kind: str  # its kind
    time: EpochSeconds | None  # when its gateway said it; ``None``: never
    heartbeat: Heartbeat | None  # what it said


def schedules_page(
    connection: Connection, limit: int, skip: int, *, name: str, kind: str, tuned: bool
) -> Sequence[InForce]:
    """Return the microgrids of a page, in the order of their numbers.

    Args:
        name: The start of their names; empty: any.
        kind: Their kind; empty: any.
        tuned: Only those with a setting that the utility has set.
    """
    c = controller.c
    statement = select(c.id, c.kind).order_by(c.number).limit(limit).offset(skip)
    if name:
        statement = statement.where(c.id.startswith(name, autoescape=True))
    if kind:
        statement = statement.where(c.kind == kind)
    if tuned:
        statement = statement.join(gateway_seen, gateway_seen.c.controller == c.id)
        statement = statement.where(gateway_seen.c.tuned)
    rows = connection.execute(statement).all()
    beats = last_heartbeats(connection, [row.id for row in rows])
    reported = ((row, *beats.get(row.id, (None, None))) for row in rows)
    return [InForce(microgrid=row.id, kind=row.kind, time=time, heartbeat=beat) for row, time, beat in reported]


def set_weight(
    connection: Connection, number: AccountNumber, weight: int, start: Quarter, person: str, now: EpochSeconds
) -> tuple[Account, Account]:
    """Set an account's weight from a quarter on, with the registry's own audit; return the account before and after.

    Args:
        connection: A transaction that writes.
        weight: The weight, 1 to 1000; weights that were to begin later are dropped.
        start: The first quarter.
        person: The person who sets it.

    Raises:
        ConfigError: There is no such account, or weight or date are wrong; nothing was changed.
    """
    check_weight(weight, start, now)
    take(connection, Lock.REGISTRY)
    before = load_registry_around(connection, number)
    if number not in before.accounts:
        raise ConfigError(f"account {number}: there is none")
    was = before.accounts[number]
    new = with_weight(was, weight, start)
    after = replace(before, accounts=dict(before.accounts) | {number: new})
    save_dated_registry(connection, before, after, person, now, zone_of(connection))
    return was, new


def microgrids_with_weights(connection: Connection) -> set[MicrogridId]:
    """Return the microgrids with a battery whose account has a weight in the registry, now or at another time."""
    statement = (
        select(meter.c.microgrid)
        .distinct()
        .join(holding, holding.c.meter == meter.c.id)
        .join(account_term, account_term.c.account == holding.c.account)
        .where(account_term.c.what == "weight", meter.c.battery_capacity.is_not(None))
    )
    return set(connection.execute(statement).scalars())


def microgrid_of(connection: Connection, label: str) -> MicrogridId | None:
    """Return the microgrid of a meter, by its id as text; ``None``: it is not registered."""
    statement = select(meter.c.microgrid).where(meter.c.label == label)
    microgrid: MicrogridId | None = connection.execute(statement).scalar()
    return microgrid


def wanted_weights(connection: Connection, now: EpochSeconds) -> list[Wanted]:
    """Return the weights to tell controllers next: those in force, or the next ones; one that has all is left out.

    The content is what a controller then has: [quarter, weights] in force and to come. A controller gets one command at
    a time: weights in force that came after the next ones would drop these.
    """
    quarter = now // QUARTER_S
    sent = {last.controller: last for last in told_of(connection, "weights")}
    microgrids = microgrids_with_weights(connection) | sent.keys()
    registry = load_batteries(connection, microgrids)
    members: dict[MicrogridId, list[Installed]] = {}
    for installed in registry.meters.values():
        members.setdefault(installed.microgrid, []).append(installed)
    to_send = []
    for name in sorted(microgrids):
        if (last := sent.get(name)) is not None and last.state == "open":
            continue
        known = [Weighting(since=since, weights=weights) for since, weights in last.content] if last else []
        wanted = weightings(members.get(name, []), registry.accounts, quarter)
        if (new := to_tell(None if last and last.is_to_repeat(now) else known, wanted, quarter)) is None:
            continue
        begin, earlier = new.since * QUARTER_S, [w for w in known if w.since < new.since]
        to_send.append(
            Wanted(
                controller=name,
                topic="weights",
                fields={"cmd": Action.SHARING, "weights": new.weights, "from_time": begin if begin > now else None},
                content=[[w.since, w.weights] for w in (*earlier[-1:], new)],
                until=max(begin, now) + SENT_S,
            )
        )
    return to_send
