"""Recovers a damaged SQLite database: moved aside, replaced by one with all of its sound rows; and examines one.

A person starts it, since the town's bills depend on the data. The new database has a new store id, so every gateway
sends its backup again; and the gap finder searches all quarters again. Lost readings come back if a gateway still has
them. Afterwards what must be is computed again, and logins that lost a factor are closed.
"""

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import Error as SqliteError
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, MetaData, Table, case, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

from commonwatt.codec.packing import unpack_sound
from commonwatt.config.database_url import sqlite_url
from commonwatt.model.blocks import Blocks
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import QUARTER_S, EpochSeconds, unsigned64
from commonwatt.runtime.service import only_one, uninterrupted
from commonwatt.sqlite import made_beside, make_ready, open_read_only, put_in_place, readable, readable_rows, ready_of
from utility.access.people import MACHINE, Actor, Via
from utility.access.store.audit_log import record
from utility.access.tables import audit, invitation, person, recovery_code, second_factor, session, started_login
from utility.assembly import tables  # noqa: F401 - the check is of all rooms' tables
from utility.assembly.tables import metadata
from utility.corrections.tables import correction
from utility.database.base import setting
from utility.database.checks import check_file, check_rows, check_schema, row_crc
from utility.database.database import insert_or, open_database, sqlite_path
from utility.database.migrate import empty_database, revisions
from utility.database.town_zone import TOWN
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import Why
from utility.jobs.store import mark
from utility.jobs.tables import period, settlement_due
from utility.outbox.tables import command, plant_seen
from utility.readings.flows import summaries
from utility.readings.store import reads
from utility.readings.store.batches import parts_of
from utility.readings.store.parts import as_rows
from utility.readings.store.retention import KEPT_FROM, kept_from
from utility.readings.tables import batch, compacted, dead_letter, event, gap, gateway_seen, part, series
from utility.registry.layout import Day
from utility.registry.store.registry import REVISION, registry_changed
from utility.registry.tables import account_term, controller, holding, installed, meter
from utility.settlement.packed import content_of
from utility.settlement.tables import settled
from utility.statistics.months import Month, columns_of, month_number
from utility.statistics.packed import unpacked
from utility.statistics.store.usage import mark_settled
from utility.statistics.tables import usage_batteries, usage_day, usage_month
from utility.supply.store import STORM

DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
"""Settings of a PostgreSQL server, and the values under which a committed transaction survives a power cut."""


def _check_durability(connection: Connection) -> None:
    """Check that what a server commits is on its disk."""
    if connection.dialect.name != "postgresql":
        return
    found = {name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in DURABLE}
    unsafe = [f"{name}={value}" for name, value in found.items() if value not in DURABLE[name]]
    if unsafe:
        raise StoreError(
            f"the server runs with {', '.join(unsafe)}: a power cut loses acknowledged readings, or damages the "
            "database; set each to on in postgresql.conf, for the database and for its user, and restart the server"
        )


def examined(url: str, *, runs: bool) -> dict[str, dict[str, object]]:
    """Return the counts of each microgrid (``reads.status``) from a database that passes its check.

    Args:
        url: SQLAlchemy URL.
        runs: Whether the service runs: then an SQLite file's structure, which its start checks, is not checked.
    """
    database = open_database(url, create=False)
    try:
        path = sqlite_path(url)
        if path is not None and not runs:
            check_file(path, empty_database())
        with database.reads.begin() as connection:
            check_rows(connection)
            _check_durability(connection)
            return reads.status(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(f"{database.reads.url.render_as_string()}: {error}") from error
    finally:
        database.close()


_UTC = ZoneInfo("UTC")
_MONTHS = range(month_number("1971-01"), month_number("2099-01"))
"""Months that there may be usage of; a damaged one may be any number."""


@dataclass
class Lost:
    """Damaged rows that the utility computes from others."""

    settled: set[tuple[int, Day]] = field(default_factory=set)  # meters' numbers and days of settled days
    days: set[Day] = field(default_factory=set)  # days of the usage of classes
    months: set[Month] = field(default_factory=set)  # months of usage, and of batteries


def compute_again(connection: Connection, lost: Lost, now: EpochSeconds) -> None:
    """Mark the days of damaged rows: to be settled if their readings are kept, and to be taken into the usage."""
    kept = kept_from(connection)
    of_meters = select(meter.c.no, controller.c.number).join(controller, controller.c.id == meter.c.microgrid)
    owner_of = {row.no: row.number for row in connection.execute(of_meters)}
    pairs = {
        (day, owner_of[number])
        for number, day in lost.settled
        if number in owner_of and kept <= day * QUARTERS_A_DAY < now // QUARTER_S
    }
    mark(connection, settlement_due, pairs, Why.PERSON)
    # A local month is at most a day longer than one of UTC on either side.
    spans = [columns_of(month, _UTC).days for month in lost.months.intersection(_MONTHS)]
    spans = [range(span.start - 1, span.stop + 1) for span in spans] + [range(day, day + 1) for day in lost.days]
    # Usage can't be computed from days that stay damaged; the job would stop at them.
    stay = {day for _, day in lost.settled if day * QUARTERS_A_DAY < kept}
    for span in spans:
        if stay.isdisjoint(span):
            mark_settled(connection, span.start, span[-1])


def close_logins(connection: Connection, now: EpochSeconds) -> list[str]:
    """Delete the passwords of people whose second factor is lost, since the password alone would do; return them."""
    c = second_factor.c
    have = set(connection.execute(select(c.person).where(c.secret.is_not(None), c.since.is_not(None))).scalars())
    had = set(connection.execute(select(recovery_code.c.person)).scalars())
    changes = select(audit.c.subject, audit.c.after).where(audit.c.action == "person.second-factor")
    newest = {row.subject: row.after for row in connection.execute(changes.order_by(audit.c.no))}
    had |= {name for name, after in newest.items() if after != '"off"'}
    machine = Actor(name=MACHINE, roles=frozenset(), account=None, via=Via.MACHINE, address="")
    state = case((person.c.state == "active", "invited"), else_=person.c.state)
    closed = []
    for name in sorted(had - have):
        ours = (person.c.name == name) & person.c.password.is_not(None)
        if connection.execute(person.update().where(ours).values(password=None, state=state)).rowcount:
            # As after a removal, so that a later recovery asks for no factor that was not set up again.
            connection.execute(recovery_code.delete().where(recovery_code.c.person == name))
            record(connection, machine, now, "person.second-factor", name, "on", "off")
            record(connection, machine, now, "person.close", name, after="second factor lost")
            closed.append(name)
    return closed


ROWS_AT_A_TIME = 1_000

# Settings that are copied, all JSON; the others concern only the old database.
_SETTINGS = (TOWN, REVISION, KEPT_FROM, STORM)
# Tables that are not copied: gaps are found again, reports come again, people log in again, invitations end.
_LEFT = {gap, gateway_seen, plant_seen, invitation, session, started_login}

_FIRST = (controller, meter)

_TAKEN = (*_FIRST, *(table for table in metadata.sorted_tables if table not in _LEFT.union(_FIRST)))
"""Tables that are copied, each after the tables that it refers to; blocks have their meters' numbers."""

_Row = dict[str, Any]
_Judge = Callable[[list[_Row]], list[_Row]]


@dataclass
class Recovery:
    """The result of a recovery."""

    quarantined: Path | None = None  # the damaged database's new path
    taken: Counter[str] = field(default_factory=Counter)  # rows copied, by table
    damaged: Counter[str] = field(default_factory=Counter)  # rows that could be read but failed their check, by table
    # Parts of the database that could not be read at all, for people.
    unreadable: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # people who need a new link, since their second factor is lost

    @property
    def found_damage(self) -> bool:
        """Whether a row could not be read or failed its check."""
        return bool(self.unreadable or self.damaged.total())

    def table(self) -> list[dict[str, object]]:
        """Return a row for each table, for people."""
        return [{"table": t.name, "taken over": self.taken[t.name], "damaged": self.damaged[t.name]} for t in _TAKEN]


def recover(path: Path, now: EpochSeconds) -> Recovery:
    """Replace a damaged database by a new one with its sound rows; the damaged one is kept beside it.

    If an interrupted recovery or restore has left a finished database, that one is put in place instead.
    """
    if not path.is_file() and not ready_of(path).exists():
        raise ConfigError(f"{path}: there is no database")
    with only_one(path, "a running utility, or one of its commands,"), made_beside(path) as fresh:
        result = Recovery()
        if ready_of(path).exists():
            result.quarantined = put_in_place(path, now)
            return result
        try:
            empty = empty_database()
            with readable(path, partial(check_schema, empty=empty), lambda _: empty) as source:
                _require_layout(path, source, empty)
                fresh.write_bytes(empty)
                _fill(fresh, source, result, now)
        except (DatabaseError, OSError) as error:
            raise StoreError(f"{fresh}: can't be made: {error}; {path} is unchanged") from error
        with uninterrupted():
            make_ready(fresh, path)
            result.quarantined = put_in_place(path, now)
    return result


def _require_layout(path: Path, source: SqliteConnection, empty: bytes) -> None:
    """Refuse a damaged schema that an empty database's can't stand for, as a migration puts tables on other pages."""
    with closing(open_read_only(path)) as damaged:
        with suppress(SqliteError, UnicodeDecodeError):
            check_schema(damaged, empty)
            return
        named, read = _schema_named_by(damaged), _schema_named_by(source)
    newest = revisions()[0]
    if named is not None and named.isdecimal() and named != newest:
        raise StoreError(
            f"{path}: another release of Commonwatt made it (schema {named}, this one's is {newest}); recover it with "
            "that release"
        )
    if read != newest:
        raise StoreError(
            f"{path}: its schema is damaged, and its tables are not where a new database has them, since an earlier "
            "release made it; put a backup back with: commonwatt utility restore"
        )


def _schema_named_by(source: SqliteConnection) -> str | None:
    with suppress(SqliteError, UnicodeDecodeError):
        for (named,) in source.execute("SELECT version_num FROM alembic_version"):
            return str(named)
    return None


def _fill(fresh: Path, source: SqliteConnection, result: Recovery, now: EpochSeconds) -> None:
    """Fill the new database."""
    take = _Take(source, result, now)
    with closing(open_database(sqlite_url(fresh), create=True)) as database:
        made = MetaData()
        made.reflect(database.reads)  # Rows are copied as they are stored.
        for table in (made.tables[taken.name] for taken in _TAKEN):
            for group in take.rows(table):
                database.write(_insert, table, group, result)
        with database.writes.begin() as connection:
            registry_changed(connection)
            compute_again(connection, take.lost, now)
            result.closed = close_logins(connection, now)


def _insert(connection: Connection, table: Table, rows: list[_Row], result: Recovery) -> None:
    """Insert rows; count rows that refer to lost rows or contradict existing ones as damaged."""
    statement = insert_or(connection, table).on_conflict_do_nothing()
    try:
        with connection.begin_nested():
            connection.execute(statement, rows)
        result.taken[table.name] += len(rows)
    except IntegrityError:
        if len(rows) == 1:
            result.damaged[table.name] += 1
            return
        for row in rows:
            _insert(connection, table, [row], result)


class _Take:
    """Reads the sound rows, table by table."""

    def __init__(self, source: SqliteConnection, result: Recovery, now: EpochSeconds) -> None:
        self._source = source
        self._result = result
        self._meters: dict[int, int] = {}
        self.lost = Lost()  # the damaged rows so far of what the utility computes itself
        self._judges: dict[str, _Judge] = {
            meter.name: self._registered,
            compacted.name: self._whole_blocks,
            part.name: lambda rows: self._whole(rows)[0],
            batch.name: self._whole_batches,
            **{table.name: partial(_whole_rows, table) for table in (event, installed, holding, account_term)},
            **{table.name: self._whole_usage for table in (usage_day, usage_month, usage_batteries)},
            settled.name: self._settled,
            correction.name: lambda rows: self._whole(rows)[0],
            dead_letter.name: partial(_where, lambda row: zlib.crc32(row["content"]) == row["crc"]),
            series.name: partial(_changed, scanned_from=None, scanned_until=None),
            period.name: partial(_where, lambda row: 0 <= row["start"] <= now and row["start"] < row["until"]),
            command.name: partial(_where, lambda row: _is_json(row["message"]) and _is_json(row["outcome"] or "0")),
            setting.name: partial(_where, lambda row: _is_setting(row["key"], row["value"], now)),
        }

    def rows(self, table: Table) -> Iterator[list[_Row]]:
        """Yield the sound rows of a table, in groups."""
        names = tuple(column.name for column in table.c)
        found = readable_rows(self._source, table.name, tuple(f'"{name}"' for name in names), self._result.unreadable)
        while group := list(islice(found, ROWS_AT_A_TIME)):
            rows = [dict(zip(names, values, strict=True)) for _, *values in group]
            typed = [row for row in rows if _fits(table, row)]
            judge = self._judges.get(table.name)
            sound = judge(typed) if judge is not None else typed
            copied = [row for row in rows if table.name != setting.name or row["key"] in _SETTINGS]
            self._result.damaged[table.name] += len(copied) - len(sound)
            if sound:
                yield sound

    def _registered(self, rows: list[_Row]) -> list[_Row]:
        sound = [row for row in rows if row_crc(meter, row) == row["crc"]]
        self._meters |= {row["no"]: unsigned64(row["id"]) for row in sound}
        return sound

    def _whole_blocks(self, rows: list[_Row]) -> list[_Row]:
        """Check blocks, and compute the columns for people's queries again."""
        sound, blocks = self._whole(rows)
        return [row | summary for row, summary in zip(sound, as_rows(summaries(blocks)), strict=True)]

    def _whole_batches(self, rows: list[_Row]) -> list[_Row]:
        """Check batches; one with damaged parts is taken without these."""
        found = [(row, parts.sound(self._meters)) for row in rows if (parts := parts_of(row["payload"])) is not None]
        sound = [(row, parts.row()) for row, parts in found if len(parts.payloads)]
        self._result.damaged[batch.name] += sum(row["blocks"] > kept["blocks"] for row, kept in sound)
        return [row | kept for row, kept in sound]

    def _settled(self, rows: list[_Row]) -> list[_Row]:
        """Check settled days; damaged ones stay, so that a bill names the day instead of leaving it out."""
        for row in rows:
            meter_id = self._meters.get(row["meter_no"])
            if meter_id is not None and not _is_settled(meter_id, row):
                self._result.damaged[settled.name] += 1
                self.lost.settled.add((row["meter_no"], row["day"]))
        return rows

    def _whole_usage(self, rows: list[_Row]) -> list[_Row]:
        """Check usage; what is damaged is computed again."""
        sound = []
        for row in rows:
            try:
                unpacked(row["payload"], "usage")
            except StoreError:
                if "month" in row:
                    self.lost.months.add(row["month"])
                else:
                    self.lost.days.add(row["day"])
            else:
                sound.append(row)
        return sound

    def _whole(self, rows: list[_Row]) -> tuple[list[_Row], Blocks]:
        """Check blocks or parts; return the sound rows, and their contents."""
        rows = [row for row in rows if row["meter_no"] in self._meters and _is_key(row)]
        keys = [(self._meters[row["meter_no"]], row["record_type"], row["quarter"]) for row in rows]
        blocks, damaged = unpack_sound(keys, [row["payload"] for row in rows])
        sound = [row for i, row in enumerate(rows) if i not in set(damaged)]
        return sound, blocks


def _is_key(row: _Row) -> bool:
    """Return whether a block can have the row's type and quarter."""
    kind, quarter = int(row["record_type"]), int(row["quarter"])
    return 0 <= kind < 2**8 and 0 <= quarter < 2**32


def _is_settled(meter_id: int, row: _Row) -> bool:
    """Return whether a settled day is the meter's, and undamaged."""
    return 0 <= row["day"] < 2**32 and content_of((meter_id, row["day"]), row["payload"]) is not None


def _whole_rows(table: Table, rows: list[_Row]) -> list[_Row]:
    return _where(lambda row: row_crc(table, row) == row["crc"], rows)


def _where(is_sound: Callable[[_Row], bool], rows: list[_Row]) -> list[_Row]:
    return [row for row in rows if is_sound(row)]


def _changed(rows: list[_Row], **values: object) -> list[_Row]:
    return [row | values for row in rows]


def _is_setting(key: str, value: str, now: EpochSeconds) -> bool:
    """Return whether to copy a setting: its key is one to copy, and its value is possible."""
    if key == KEPT_FROM:
        # With a later value, no gap would be searched for until then.
        return value.isdecimal() and int(value) <= now // QUARTER_S
    return key in _SETTINGS and _is_json(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _fits(table: Table, row: Mapping[str, Any]) -> bool:
    """Return whether each value has its column's type, since SQLite stores any."""
    return all(
        column.nullable if row[column.name] is None else _is_of(column.type, row[column.name]) for column in table.c
    )


def _is_of(kind: TypeEngine[Any], value: object) -> bool:
    if kind.python_type is bool:
        return value in (0, 1)
    if not isinstance(value, kind.python_type):
        return False
    return not isinstance(value, str) or _is_text(value, getattr(kind, "length", None))


def _is_text(value: str, length: int | None) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return length is None or len(value) <= length
