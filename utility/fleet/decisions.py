"""Rollouts of a release to the controllers: begin, approve, stop, and what the job does every minute."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.alarms.store import ROLLOUT_STOPPED
from utility.control.store import kinds_of
from utility.database.base import Connection
from utility.database.database import Database, save_setting
from utility.database.engines import Lock, take
from utility.fleet import store
from utility.fleet.fleet import RolloutMember, planned, to_send
from utility.fleet.store import Rollout
from utility.outbox.store import send

VALID_S = 7 * 86_400  # seconds that a controller has for a release, fetched within its line's budget
ASKS_AGAIN_S = 3_600  # seconds between two questions what became of a command whose outcome may be lost
FIRST_S = 90 * 86_400  # within which a release has one first controller; for another one a second person is needed
LOOK_S = 60  # seconds between two runs of the job

_GONE = {"state": "open", "result": None, "outcome": None}  # in place of a row that was deleted

CliqueList = Sequence[Collection[ControllerId]]


def begin(
    database: Database, actor: Actor, release: str, sha256: str, first: ControllerId | None, now: EpochSeconds
) -> None:
    """Begin a rollout: its first controller is sent the release; the others wait for a second person.

    Args:
        release: Its version.
        sha256: The checksums of its packages.
        first: The first controller; ``None``: any.

    Raises:
        ConfigError: Another one runs, or the first controller is not registered.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        last = store.newest(connection)
        if last is not None and last.state == "running":
            raise ConfigError(f"the rollout of {last.release} runs", "first: commonwatt do fleet/rollouts/stop")
        controllers = list(kinds_of(connection))
        if first not in (None, *controllers):
            raise ConfigError(f"{first}: is no registered controller")
        if not controllers:
            raise ConfigError("no controller is registered")
        number = 1 if last is None else last.no + 1
        new = Rollout(no=number, release=release, sha256=sha256, state="running", begun=now, begun_by=actor.name)
        members = planned(controllers, first)
        store.add(connection, new, members)
        save_setting(connection, ROLLOUT_STOPPED, "")
        record(connection, actor, now, "rollout.begin", f"rollout {number}", None, {"release": release})
        # Otherwise the job finds out whether it may begin.
        if not store.under_way(connection) and not _is_held(connection, new, members):
            _send(connection, new, members[:1], now)


def approve(database: Database, second: Second, number: int, sha256: str | None) -> None:
    """Approve a rollout beyond its first controller; a second person has to.

    Args:
        number: The number of the rollout that the person saw.
        sha256: The checksums of its packages; ``None``: they are not compared.

    Raises:
        ConfigError: None waits for it, it is another one than the person saw, or the person may not be the second one.
    """
    with second_person(database, second, "rollout") as connection:
        take(connection, Lock.CHANGES)
        running = _running(connection)
        if running.no != number or sha256 not in (None, running.sha256):
            raise ConfigError(f"rollout {running.no} of {running.release} runs, not the one that you saw; look again")
        if running.approved_by is not None:
            raise ConfigError(f"the rollout of {running.release} is approved by {running.approved_by}")
        require_second(connection, second, {running.begun_by: "began it"})
        store.save(connection, replace(running, approved_by=second.actor.name))
        record(connection, second.actor, second.now, "rollout.approve", f"rollout {running.no}", None, None)


def stop(database: Database, actor: Actor, now: EpochSeconds) -> None:
    """Stop a rollout: controllers under way go on to their verdict; of one that stopped by itself, end the alarm.

    Raises:
        ConfigError: None runs.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        found = _running(connection, "running", "failed")
        why = f"stopped by {actor.name}" + (f"; {found.why}" if found.why else "")
        store.save(connection, replace(found, state="stopped", ended=now, why=why[:256]))
        save_setting(connection, ROLLOUT_STOPPED, "")
        record(connection, actor, now, "rollout.stop", f"rollout {found.no}", found.state, "stopped")


def _is_held(connection: Connection, rollout: Rollout, members: Sequence[RolloutMember]) -> bool:
    """Return whether a rollout's first controller, too, waits for a second person: the release had another one."""
    first = {each.controller for each in members if each.step == 1}
    return rollout.approved_by is None and bool(store.firsts(connection, rollout, rollout.begun - FIRST_S) - first)


def _running(connection: Connection, *states: str) -> Rollout:
    found = store.newest(connection)
    if found is None or found.state not in (states or ("running",)):
        raise ConfigError("no rollout runs")
    return found


def advance(database: Database, cliques: CliqueList, now: EpochSeconds) -> None:
    """Take in verdicts, stop at the first bad one, and send the release to the controllers whose turn it is."""
    with database.reads.begin() as connection:
        found = store.newest(connection)
        if found is None or (found.state != "running" and not store.under_way(connection)):
            return
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        answers = store.answers(connection)
        for number, member in store.under_way(connection):
            _judge(connection, number, member, answers.get(member.command, _GONE), now)
        found = store.newest(connection)
        assert found is not None
        members = store.members_of(connection, found.no)
        failed = next((each for each in members if each.verdict == "failed"), None)
        if found.state != "running":
            return
        if failed is not None:
            why = f"{failed.controller}: {failed.why}"[:256]
            store.save(connection, replace(found, state="failed", ended=now, why=why))
            save_setting(connection, ROLLOUT_STOPPED, f"{found.release}: {why}")
        elif all(each.verdict == "done" for each in members):
            store.save(connection, replace(found, state="done", ended=now))
        else:
            busy = {each.controller for _, each in store.under_way(connection)}
            due = to_send(members, cliques, busy, is_approved=found.approved_by is not None)
            if not _is_held(connection, found, members):
                _send(connection, found, [each for each in members if each.controller in due], now)


def _judge(connection: Connection, number: int, member: RolloutMember, row: dict[str, Any], now: EpochSeconds) -> None:
    """Save a controller's verdict, if the row of its command has one, or its time is over."""
    if member.command is None or member.sent is None:
        return
    age_s = now - member.sent
    if age_s < VALID_S and (row["state"] == "open" or row["result"] == "partial"):
        # The answer that followed may be lost; the job runs once a minute.
        if row["state"] == "done" and age_s >= ASKS_AGAIN_S and age_s % ASKS_AGAIN_S < LOOK_S:
            store.ask_again(connection, member.command)
        return
    is_done = row["result"] in ("done", "repeated")
    reason = json.loads(row["outcome"] or "{}").get("reason") or row["result"] or "it did not answer in time"
    why = "" if is_done else str(reason)[:256]
    store.save_member(connection, number, replace(member, ended=now, verdict="done" if is_done else "failed", why=why))


def _send(connection: Connection, rollout: Rollout, members: Sequence[RolloutMember], now: EpochSeconds) -> None:
    for member in members:
        message = ControllerCommand(
            id=f"upgrade-{token_hex(8)}",
            cmd=Action.UPGRADE,
            until=now + VALID_S,
            release=rollout.release,
            sha256=rollout.sha256,
        )
        send(connection, member.controller, message, now)
        store.save_member(connection, rollout.no, replace(member, command=message.id, sent=now))
