"""Rollouts of a release to the controllers: begin, approve, stop, and what the job does every minute."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from secrets import token_hex

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action
from utility.access.actor import Actor
from utility.access.decisions import Second, require_second, second_person
from utility.access.store.audit_log import record
from utility.control.store.control_changes import kinds_of
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.locks import Lock, take
from utility.fleet.steps import Member, planned, to_send
from utility.fleet.store import rollouts as store
from utility.fleet.store.rollouts import Answer, Rollout
from utility.outbox.changes import OpenCommand
from utility.outbox.store.commands import add_command

VALID_S = 7 * 86_400  # seconds that a controller has for a release, fetched within its line's budget
ASKS_AGAIN_S = 3_600  # seconds between two questions what became of a command whose outcome may be lost
LOOK_S = 60  # seconds between two runs of the job

Cliques = Sequence[Collection[ControllerId]]


def begin(
    database: Database, actor: Actor, release: str, sha256: str, first: ControllerId | None, now: EpochSeconds
) -> Rollout:
    """Begin a rollout: its first controller is sent the release; the others wait for a second person.

    Args:
        release: Its version.
        sha256: The checksum of its package.
        first: The first controller; ``None``: any.

    Raises:
        ConfigError: Another one runs, or the first controller is not registered.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        running = store.newest(connection)
        if running is not None and running.state == "running":
            raise ConfigError(f"the rollout of {running.release} runs", "first: commonwatt fleet upgrade --stop")
        controllers = list(kinds_of(connection))
        if first is not None and first not in controllers:
            raise ConfigError(f"{first}: is no registered controller")
        if not controllers:
            raise ConfigError("no controller is registered")
        number = store.next_number(connection)
        new = Rollout(
            no=number,
            release=release,
            sha256=sha256,
            state="running",
            begun=now,
            begun_by=actor.name,
        )
        members = planned(controllers, first)
        store.add(connection, new, members)
        record(connection, actor, now, "rollout.begin", f"rollout {number}", None, {"release": new.release})
        _send(connection, new, members[:1], now)
    return new


def approve(database: Database, second: Second) -> Rollout:
    """Approve a rollout beyond its first controller; a second person has to.

    Raises:
        ConfigError: None waits for it, or the person may not be the second one.
    """
    with second_person(database, second, "rollout") as connection:
        take(connection, Lock.CHANGES)
        running = _running(connection)
        if running.approved_by is not None:
            raise ConfigError(f"the rollout of {running.release} is approved by {running.approved_by}")
        require_second(connection, second, {running.begun_by: "began it"})
        approved = replace(running, approved_by=second.actor.name)
        store.save(connection, approved)
        record(connection, second.actor, second.now, "rollout.approve", f"rollout {running.no}", None, None)
    return approved


def stop(database: Database, actor: Actor, now: EpochSeconds) -> Rollout:
    """Stop a rollout: controllers under way go on to their verdict, no further one begins.

    Raises:
        ConfigError: None runs.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        running = _running(connection)
        stopped = replace(running, state="stopped", ended=now, why=f"stopped by {actor.name}")
        store.save(connection, stopped)
        record(connection, actor, now, "rollout.stop", f"rollout {running.no}", "running", "stopped")
    return stopped


def _running(connection: Connection) -> Rollout:
    found = store.newest(connection)
    if found is None or found.state != "running":
        raise ConfigError("no rollout runs")
    return found


def advance(database: Database, cliques: Cliques, now: EpochSeconds) -> None:
    """Take in verdicts, stop at the first bad one, and send the release to the controllers whose turn it is."""
    with database.reads.begin() as connection:
        found = store.newest(connection)
        if found is None or not _lasts(found, store.members_of(connection, found.no)):
            return
    with database.writes.begin() as connection:
        take(connection, Lock.CHANGES)
        found = store.newest(connection)
        assert found is not None
        members = [_judged(connection, found, each, now) for each in _with_answers(connection, found.no)]
        if found.state != "running":
            return
        failed = next((each for each in members if each.verdict == "failed"), None)
        if failed is not None:
            why = f"{failed.controller}: {failed.why}"[:256]
            store.save(connection, replace(found, state="stopped", ended=now, why=why))
        elif all(each.verdict == "done" for each in members):
            store.save(connection, replace(found, state="done", ended=now))
        else:
            due = to_send(members, cliques, is_approved=found.approved_by is not None)
            _send(connection, found, [each for each in members if each.controller in due], now)


def _lasts(found: Rollout, members: Sequence[Member]) -> bool:
    return found.state == "running" or any(each.is_under_way for each in members)


def _with_answers(connection: Connection, number: int) -> list[tuple[Member, Answer | None]]:
    members = store.members_of(connection, number)
    answers = store.answers(connection, members)
    return [(each, answers.get(each.controller)) for each in members]


def _judged(connection: Connection, rollout: Rollout, told: tuple[Member, Answer | None], now: EpochSeconds) -> Member:
    """Return a member with its verdict, if its command has one, and save it."""
    member, answer = told
    if answer is None or member.command is None or member.sent is None:
        return member
    age_s = now - member.sent
    if age_s < VALID_S and (answer.state == "open" or answer.result == "partial"):
        # The answer that followed may be lost; the job runs once a minute.
        if answer.state == "done" and age_s >= ASKS_AGAIN_S and age_s % ASKS_AGAIN_S < LOOK_S:
            store.ask_again(connection, member.command)
        return member
    is_done = answer.result in ("done", "repeated")
    why = "" if is_done else answer.reason or answer.result or "it did not answer in time"
    judged = replace(member, ended=now, verdict="done" if is_done else "failed", why=why[:256])
    store.save_member(connection, rollout.no, judged)
    return judged


def _send(connection: Connection, rollout: Rollout, members: Sequence[Member], now: EpochSeconds) -> None:
    for member in members:
        name, until = f"upgrade-{token_hex(8)}", now + VALID_S
        message = {
            "id": name,
            "cmd": Action.UPGRADE.value,
            "until": until,
            "release": rollout.release,
            "sha256": rollout.sha256,
        }
        new = OpenCommand(id=name, controller=member.controller, message=json.dumps(message), until=until)
        add_command(connection, new, now)
        store.save_member(connection, rollout.no, replace(member, command=name, sent=now))
