"""Makes, plans, cancels and puts back changes of gateways; the CLI, the API and the page call these functions (K5)."""

import logging
from collections.abc import Collection, Iterable, Mapping
from secrets import token_hex
from typing import Any

from commonwatt.model.text import counted, moment
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.control import store as control
from utility.control.changes import AllowanceError, AskedChange, ChangeError, ChangeTarget, NewerChangeError
from utility.control.commands import FieldsError, called, checked_command, inverse
from utility.control.store import ChangePreview, preview_of
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.engines import Lock, take
from utility.outbox.changes import settings_of
from utility.supply.buying import Storm
from utility.supply.store import announced_storm, save_storm

NAMED = 5  # most microgrids that a text names
MAX_AHEAD_S = 366 * 86_400  # seconds from now after which no change is planned
LEAST_VALID_S = 3600  # seconds for which gateways get at least that no storm is expected any more

log = logging.getLogger(__name__)


def make_change(database: Database, actor: Actor, asked: AskedChange, now: EpochSeconds) -> int:
    """Make a change, now or at its time, and return its number.

    Raises:
        ChangeError: It can't be made; nothing was changed.
        FieldsError: A field is wrong.
    """
    return database.write(add_change, actor, asked, now)


def add_change(connection: Connection, actor: Actor, asked: AskedChange, now: EpochSeconds) -> int:
    """Make a change within a transaction; see ``make_change``."""
    take(connection, Lock.CHANGES)
    microgrids = chosen_of(control.kinds_of(connection), asked)
    fields = checked_fields(asked, now)
    _refuse_strange(connection, fields, microgrids)
    if asked.seen is not None:
        _refuse_newer(control.newer_change(connection, microgrids, settings_of(fields), asked.seen))
    if refused := preview_of(connection, fields, microgrids, now).refused:
        raise AllowanceError(refused)
    new = control.NewChange(
        person=actor.name,
        action=asked.action,
        targets=dict.fromkeys(microgrids, fields),
        due=now if asked.at is None else asked.at,
        valid_s=asked.valid_s,
    )
    number = control.add_change(connection, new, now)
    is_now = new.due <= now
    _record(connection, actor, now, "command.send" if is_now else "command.plan", number)
    if is_now:
        control.send_change(connection, number, now, new_id)
    return number


def preview_change(database: Database, asked: AskedChange, now: EpochSeconds) -> ChangePreview:
    """Return what a change would do; nothing is changed."""
    with database.reads.begin() as connection:
        microgrids = chosen_of(control.kinds_of(connection), asked)
        fields = checked_fields(asked, now)
        _refuse_strange(connection, fields, microgrids)
        return preview_of(connection, fields, microgrids, now)


def checked_fields(asked: AskedChange, now: EpochSeconds) -> dict[str, Any]:
    """Return the fields of the command that a person asks for, with ``cmd``."""
    if asked.at is not None and asked.at < now - asked.valid_s:
        raise ChangeError(f"{moment(asked.at)} is over: choose a time that is to come, or now")
    if asked.at is not None and asked.at > now + MAX_AHEAD_S:
        raise ChangeError(f"{moment(asked.at)} is more than a year ahead: choose an earlier time")
    message = checked_command(asked.action, asked.fields, now + asked.valid_s, "new")
    given = {"cmd", "at", "mode"} if asked.action in (Action.AGGREGATE, Action.DEAGGREGATE) else {"cmd"}
    return message.model_dump(mode="json", include=given | asked.fields.keys())


def chosen_of(kinds: Mapping[MicrogridId, str], chosen: AskedChange) -> list[MicrogridId]:
    """Return the chosen microgrids, in their order.

    Args:
        kinds: The kind of each registered microgrid.

    Raises:
        ChangeError: Nothing was chosen, or it is not registered.
    """
    if sum((bool(chosen.microgrids), chosen.kind is not None, chosen.everyone)) != 1:
        raise ChangeError("choose microgrids, a kind of microgrids, or all")
    if chosen.everyone:
        found = list(kinds)
    elif chosen.kind is not None:
        found = [name for name, kind in kinds.items() if kind == chosen.kind]
    else:
        if unknown := sorted(set(chosen.microgrids) - kinds.keys()):
            raise ChangeError(f"microgrid {unknown[0]} is not registered; there are {some(kinds)}")
        found = [name for name in kinds if name in chosen.microgrids]
    if not kinds:
        raise ChangeError("no microgrid is registered", "register a town: commonwatt utility register")
    if not found:
        raise ChangeError(f"no microgrid is of the kind {chosen.kind}; there are {some(sorted(set(kinds.values())))}")
    return found


def put_back(database: Database, actor: Actor, number: int, now: EpochSeconds) -> int:
    """Send what was in force before a change to the microgrids that it reached; return the new change's number.

    Raises:
        ChangeError: It was not sent, what was before is not known, or a later change sets the same.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        change = control.find_change(connection, number)
        if change.state != "sent":
            raise ChangeError(f"change {number} was not sent ({change.state}): there is nothing to put back")
        targets = control.targets_of(connection, number, change.microgrids)
        before = _inverses(targets, now)
        if not before:
            raise ChangeError(f"change {number}: no gateway carried it out, or what was in force before is not known")
        settings = frozenset[str]().union(*(settings_of(target.fields) for target in targets))
        _refuse_newer(control.newer_change(connection, list(before), settings, number))
        new = control.NewChange(
            person=actor.name, action=change.action, targets=before, due=now, valid_s=change.valid_s, undoes=number
        )
        made = control.add_change(connection, new, now)
        _record(connection, actor, now, "command.put_back", made)
        control.send_change(connection, made, now, new_id)
    return made


def _inverses(targets: Iterable[ChangeTarget], now: EpochSeconds) -> dict[MicrogridId, dict[str, Any]]:
    reached = (t for t in targets if t.before is not None and t.state in ("open", "done"))
    found = ((target.microgrid, inverse(target.before or {}, now)) for target in reached)
    return {microgrid: fields for microgrid, fields in found if fields is not None}


def cancel_change(database: Database, actor: Actor, number: int, now: EpochSeconds) -> None:
    """Cancel a planned change, so that it is never sent.

    Raises:
        ChangeError: It is not planned any more.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        change = control.find_change(connection, number)
        if not control.end_change(connection, number, "cancelled", now, actor.name):
            raise ChangeError(f"change {number} is not planned any more: it is {change.state}")
        record(connection, actor, now, "command.cancel", f"change {number}", "planned", "cancelled")


def send_due(database: Database, now: EpochSeconds) -> None:
    """Send the planned changes that are due, each once; those late by more than their ``valid_s`` are missed."""
    if not database.read(control.due_changes, now):
        return
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        for change in control.due_changes(connection, now):
            if now < change.due + change.valid_s:
                control.send_change(connection, change.no, now, new_id)
            else:
                control.end_change(connection, change.no, "missed", now)
                log.warning("change %d was due at %s and is not sent any more", change.no, moment(change.due))


def announce_storm(database: Database, actor: Actor, storm: Storm | None, now: EpochSeconds) -> int | None:
    """Announce a storm in place of an earlier one.

    Args:
        actor: The person who announces it.
        storm: The storm; ``None``: none is expected any more.

    Returns:
        The number of the change that tells all gateways; ``None``: no microgrid is registered yet.
    """
    with database.writes.begin() as connection:
        before = announced_storm(connection, now)
        save_storm(connection, storm)
        if not control.kinds_of(connection):
            return None
        fields: dict[str, Any] = {"state": "off"} if storm is None else {"state": "on", "for_s": storm.end - now}
        # A gateway that received the storm and is away hears of its cancellation as long as it would hold.
        valid_s = LEAST_VALID_S if before is None else max(LEAST_VALID_S, before.end - now)
        asked = AskedChange(action=Action.HOLD, fields=fields, everyone=True, valid_s=valid_s)
        return add_change(connection, actor, asked, now)


def _record(connection: Connection, actor: Actor, now: EpochSeconds, action: str, number: int) -> None:
    """Add the new change to the audit log; what was in force before stands with its targets."""
    change = control.find_change(connection, number)
    microgrids = [target.microgrid for target in control.targets_of(connection, number, NAMED)]
    more = {"microgrids": change.microgrids, "first": microgrids, "due": moment(change.due)}
    record(connection, actor, now, action, f"change {number}", None, {"what": change.what, **more})


def new_id() -> str:
    """Return an id for a command; a gateway takes an id that it has seen as the same command."""
    return f"op-{token_hex(8)}"


def some(names: Iterable[str]) -> str:
    """Return a few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more if listed else "none"


def _refuse_strange(connection: Connection, fields: Mapping[str, Any], microgrids: Collection[MicrogridId]) -> None:
    if "meter" in fields and (owner := control.microgrid_of(connection, fields["meter"])) not in microgrids:
        of = "is not registered" if owner is None else f"is a meter of {owner}, not of {some(microgrids)}"
        raise FieldsError(("meter",), f"{{}}: {fields['meter']} {of}; nothing was changed")


def _refuse_newer(newer: control.Newer | None) -> None:
    if newer is None:
        return
    change = newer.change
    planned = f", planned for {moment(change.due)}" if change.state == "planned" else ""
    raise NewerChangeError(
        f"{newer.microgrid}: {change.person} changed {called(newer.setting)} at {moment(change.made)} "
        f"(change {change.no}: {change.what}{planned}, {counted(change.microgrids, 'microgrid')}). "
        "Nothing was changed: look at it, then apply yours again"
    )
