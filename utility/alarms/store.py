"""Stored alarms: the utility's own with their past, acknowledgements, silences, and the counts that raise alarms."""

import json
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, RowMapping, Table, delete, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.access.people import Actor
from utility.access.store.audit_log import BROKEN, REFUSED, record, unseen
from utility.alarms.alarm import PREFIX, Alarm, AlarmStage, Life
from utility.alarms.board import Acknowledgement, Silence
from utility.alarms.conditions import DatabaseCounts
from utility.alarms.tables import alarm, alarm_acknowledgement, alarm_silence
from utility.billing.store.witnesses import refused
from utility.corrections.store.checking import count_open
from utility.database.database import count_rows, read_setting, upsert
from utility.readings.store.quarantine import count_quarantined
from utility.settlement.store.settled import RESIDUAL_DAYS, residuals

ROLLOUT_STOPPED = "rollout_stopped"  # the setting with why the newest rollout stopped by itself; empty: it did not
KEPT_S = 90 * 86_400  # clock seconds for which an alarm that is over, and what people did about it, is kept
MAX_STANDING = 1_000  # most silences, and most acknowledgements, that stand at a time

_MAX_TEXT = 400
_SAME = ("name", "places", "part", "person", "note", "start", "until")  # a silence's fields that are columns too


def counted(connection: Connection, now: EpochSeconds) -> DatabaseCounts:
    """Count what raises alarms, but for the jobs."""
    today = now // 86_400
    beyond = [one.microgrid for one in residuals(connection, today - RESIDUAL_DAYS, today) if one.excess > 0]
    return DatabaseCounts(
        quarantined=count_quarantined(connection),
        findings=count_open(connection),
        refused=tuple(unseen(connection, REFUSED).values()),
        broken=tuple(unseen(connection, BROKEN).values()),
        residuals=tuple(beyond),
        witnesses=tuple(refused(connection, now)),
        rollout_stopped=read_setting(connection, ROLLOUT_STOPPED) or "",
    )


def open_lives(connection: Connection) -> dict[str, Life]:
    """Return the utility's own alarms that are not over, by key."""
    rows = connection.execute(select(alarm).where(alarm.c.ended.is_(None)).order_by(alarm.c.since.desc()))
    return {row.key: _life(row) for row in rows}


def past_lives(connection: Connection, limit: int) -> list[Life]:
    """Return the utility's own alarms that are over, the last first."""
    statement = select(alarm).where(alarm.c.ended.is_not(None)).order_by(alarm.c.ended.desc(), alarm.c.key)
    return [_life(row) for row in connection.execute(statement.limit(limit))]


def save_lives(connection: Connection, lives: Iterable[Life], now: EpochSeconds) -> None:
    """Store alarms that stand or are over; forget what was over long ago."""
    rows = [_row(life) for life in lives]
    if rows:
        statement = upsert(connection, alarm, "stage", "ended", "labels", "summary", "description")
        connection.execute(statement, rows)
    connection.execute(delete(alarm).where(alarm.c.ended < now - KEPT_S))
    for table in (alarm_acknowledgement, alarm_silence):
        connection.execute(delete(table).where(table.c.until < now - KEPT_S))


def acknowledgements(connection: Connection, now: EpochSeconds) -> list[Acknowledgement]:
    """Return the acknowledgements that hold."""
    table = alarm_acknowledgement
    rows = connection.execute(select(table).where(table.c.until > now).order_by(table.c.no)).mappings()
    return [Acknowledgement(**row) for row in rows]


def silences(connection: Connection, now: EpochSeconds) -> list[Silence]:
    """Return the silences that hold, or will."""
    table = alarm_silence
    statement = select(table).where(table.c.until > now).order_by(table.c.no)
    return [_silence(row) for row in connection.execute(statement).mappings()]


def acknowledge(connection: Connection, actor: Actor, one: Acknowledgement) -> int:
    """Store an acknowledgement, with its entry in the audit log; return its number.

    Raises:
        ConfigError: Too many stand.
    """
    table = alarm_acknowledgement
    _require_room(connection, table, one.made)
    row = {name: value for name, value in vars(one).items() if name != "no"}
    made = connection.execute(table.insert().returning(table.c.no), row).scalar_one()
    after = {"note": one.note, "until": one.until, "no": made}
    record(connection, actor, one.made, "alarm.acknowledge", one.key, None, after)
    return int(made)


def add_silence(connection: Connection, actor: Actor, one: Silence, now: EpochSeconds) -> int:
    """Store a silence, with its entry in the audit log; return its number."""
    _require_room(connection, alarm_silence, now)
    same = {name: getattr(one, name) for name in _SAME}
    row = same | {"key": one.alarm, "subject": one.subject[:_MAX_TEXT], "made": now}
    made = connection.execute(alarm_silence.insert().returning(alarm_silence.c.no), row).scalar_one()
    after = {"note": one.note, "start": one.start, "until": one.until, "no": made}
    record(connection, actor, now, "alarm.silence", one.subject, None, after)
    return int(made)


Endable: TypeAlias = Literal["acknowledgement", "silence"]  # what a person can end


def end(connection: Connection, actor: Actor, what: Endable, number: int, now: EpochSeconds) -> None:
    """End an acknowledgement or a silence, with its entry in the audit log.

    Raises:
        ConfigError: None of that number holds.
    """
    is_silence = what == "silence"
    table = alarm_silence if is_silence else alarm_acknowledgement
    ended = table.update().where(table.c.no == number, table.c.until > now).values(until=now)
    row = connection.execute(select(table).where(table.c.no == number)).first()
    if row is None or not connection.execute(ended).rowcount:
        raise ConfigError(f"{what} {number} does not hold (any more)")
    before, after = {"by": row.person, "until": row.until}, {"until": now}
    if is_silence:
        record(connection, actor, now, "alarm.unsilence", row.subject, before, after)
    else:
        record(connection, actor, now, "alarm.withdraw", row.key, before, after)


def _require_room(connection: Connection, table: Table, now: EpochSeconds) -> None:
    if count_rows(connection, table, table.c.until > now) >= MAX_STANDING:
        raise ConfigError(f"{MAX_STANDING} stand already; end some, or silence a whole microgrid")


def _silence(row: RowMapping) -> Silence:
    same = {name: row[name] for name in _SAME}
    return Silence(no=row["no"], alarm=row["key"], subject=row["subject"], **same)


def _life(row: Row[Any]) -> Life:
    labels = json.loads(row.labels)
    labels["alarm"] = labels["alertname"].removeprefix(PREFIX)  # 0.3 had another word there, or none
    of = Alarm(labels=labels, summary=row.summary, description=row.description, since=row.since)
    return Life(alarm=of, stage=AlarmStage(row.stage), ended=row.ended)


def _row(life: Life) -> dict[str, object]:
    return {
        "key": life.alarm.key,
        "since": life.alarm.since,
        "stage": life.stage.value,
        "ended": life.ended,
        "labels": json.dumps(dict(life.alarm.labels), sort_keys=True),
        "summary": life.alarm.summary[:_MAX_TEXT],
        "description": life.alarm.description[:_MAX_TEXT],
    }
