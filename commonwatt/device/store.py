"""The SQLite file of one or many meters: their logs, states and desired states (M1, M6, M9).

A program that stores more than its meters passes an ``Extension``, which is committed in the same transaction
as the logs, so that both stay consistent after a crash.
"""

import json
import logging
import sqlite3
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from pydantic import BeforeValidator, TypeAdapter

from commonwatt.device.changes import (
    BrokerOrder,
    Delete,
    DesiredStates,
    KeptRevoked,
    LogRow,
    MeterState,
    NewRecords,
    Replace,
    StoredMeter,
)
from commonwatt.device.tables import ADDED, SCHEMA, TABLES
from commonwatt.model.exceptions import ProtocolError, StoreError
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, unpack_event, unpack_history
from commonwatt.model.units import EpochSeconds, MeterId, signed64, unsigned64
from commonwatt.protocol.commands import HeldState, Kind, known_kinds
from commonwatt.protocol.meter_messages import RevokedList
from commonwatt.sqlite import (
    LOG_BYTES,
    check_pages,
    fails_check,
    is_damage,
    open_read_only,
    quarantine,
    read_log,
    write_log_again,
)

_log = logging.getLogger(__name__)

_HELD: TypeAdapter[dict[Kind, HeldState]] = TypeAdapter(Annotated[dict[Kind, HeldState], BeforeValidator(known_kinds)])
_RAISES: TypeAdapter[dict[int, list[float]]] = TypeAdapter(dict[int, list[float]])
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_METER_COLUMNS = tuple(MeterState.__slots__)
_COLUMNS_OF = attrgetter(*_METER_COLUMNS)
_SAVE_METER = (
    f"INSERT OR REPLACE INTO meter ({', '.join(_METER_COLUMNS)}) VALUES ({', '.join('?' * len(_METER_COLUMNS))})"  # noqa: S608
)


_GOES_ON = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
"""Errors after which a connection is still valid; after other errors the file is opened again."""


_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, struct.error, ProtocolError)
"""Errors of malformed content in a sound table."""


class Extension(Protocol):
    """A program's own tables beside its meters."""

    tables: str  # the SQL that makes its tables
    checked: tuple[str, ...]  # its small tables, which are checked when the file is opened
    added: Mapping[str, str]  # tables that files of earlier releases do not have, by name, with the SQL that makes each

    def write(self, connection: sqlite3.Connection, changes: Sequence[object], insert: str) -> None:
        """Write the extension's rows of ``changes``, in the transaction of the meters.

        Args:
            connection: In a transaction.
            changes: All changes, the meters' too.
            insert: ``INSERT``, or ``INSERT OR REPLACE`` where the same rows may exist already.
        """

    def read(self, store: "DeviceStore", tables: Collection[str]) -> None:
        """Read the content of its small tables, those of ``tables``; damaged content raises an error."""


class DeviceStore:
    """A store of meters, for one thread at a time.

    Args:
        path: The file's path; the file is opened again after a failure.
        extension: The program's own tables; ``None``: no extension.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, extension: Extension | None) -> None:
        self.connection = connection  # the open file, for an extension to read; a new connection after a failure
        self._path = path
        self._extension = extension
        self._failed = False
        self._insert = "INSERT"

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def commit(self, changes: Sequence[object]) -> None:
        """Make all changes durable, in their order, or none.

        Args:
            changes: ``Change`` values; others are the extension's.

        Raises:
            sqlite3.OperationalError: The changes may or may not be in the file: commit the same changes again.
        """
        if self._failed:
            self.connection.close()
            self.connection = _connect(self._path)
        # The rows of a failed commit may be in the file after it is opened again; the same rows are then replaced.
        self._insert = "INSERT OR REPLACE" if self._failed else "INSERT"
        try:
            with self.connection:
                self.connection.execute("BEGIN IMMEDIATE")
                self._write(changes)
                if self._extension is not None:
                    self._extension.write(self.connection, changes, self._insert)
            self._failed = False
        except sqlite3.OperationalError as error:
            self._failed = self._failed or error.sqlite_errorcode & 0xFF not in _GOES_ON
            raise
        except sqlite3.DatabaseError as error:
            self._suspect(error)
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise a failed read as ``StoreError``."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            self._suspect(error)
            raise StoreError(f"{self._path}: can't be read: {error}") from error

    def _suspect(self, error: sqlite3.DatabaseError) -> None:
        """Note an error that shows damage: the next opening checks the whole store."""
        if is_damage(error):
            with suppress(OSError):
                _suspected(self._path).touch()

    def load(self, meter: MeterId) -> StoredMeter | None:
        """Return the stored state of one meter; ``None`` for a meter new to this store."""
        state = self._state(meter)
        if state is None:
            return None
        return StoredMeter(
            state=state,
            desired_states=self._desired_states(meter),
            history=self._rows(meter, Log.HISTORY),
            events=self._rows(meter, Log.EVENT),
            order=self._order(meter),
            revoked=self._revoked(meter),
        )

    def read_small(self) -> None:
        """Read all but the records and large tables; damaged content raises any of ``_UNREADABLE``."""
        for meter in self._meters():
            self._state(meter)
            self._desired_states(meter)
            self._order(meter)
            self._revoked(meter)
        if self._extension is not None:
            self._extension.read(self, _tables(self.connection))

    def _state(self, meter: MeterId) -> MeterState | None:
        select = f"SELECT {', '.join(_METER_COLUMNS)} FROM meter WHERE meter = ?"  # noqa: S608
        row = self.connection.execute(select, (signed64(meter),))
        found = row.fetchone()
        if found is None:
            return None
        columns = dict(zip(_METER_COLUMNS, found, strict=True))
        columns["meter"] = meter
        columns["stopped"] = bool(columns["stopped"])
        columns["remainders"] = {RecordType(int(k)): v for k, v in json.loads(columns["remainders"]).items()}
        return MeterState(**columns)

    def held_records(self) -> Iterator[list[HistoryRecord]]:
        """Yield the unacknowledged history records, a meter at a time."""
        for meter in self._meters():
            yield [unpack_history(row.data) for row in self._rows(meter, Log.HISTORY)]

    def held_events(self) -> Iterator[tuple[int, EventRecord]]:
        """Yield (generation, event) of the unacknowledged events."""
        for generation, data in self.connection.execute(
            "SELECT generation, data FROM record JOIN meter USING (meter) WHERE log = ? ORDER BY meter, first_id",
            (Log.EVENT,),
        ):
            yield generation, unpack_event(data)

    def _meters(self) -> list[MeterId]:
        rows = self.connection.execute("SELECT meter FROM meter ORDER BY meter")
        return [unsigned64(meter) for (meter,) in rows]

    def _rows(self, meter: MeterId, log: Log) -> list[LogRow]:
        rows = self.connection.execute(
            "SELECT first_id, last_id, data FROM record WHERE meter = ? AND log = ? ORDER BY first_id",
            (signed64(meter), log),
        )
        return [LogRow(*row) for row in rows]

    def _desired_states(self, meter: MeterId) -> DesiredStates:
        rows = self.connection.execute("SELECT counter, rank, held FROM orders WHERE meter = ?", (signed64(meter),))
        found = rows.fetchone()
        if found is None:
            return DesiredStates(meter, (0, 0), {})
        epoch, held = (found[0], found[1]), _HELD.validate_json(found[2])
        row = self._added("epoch_raise", meter) or (meter, 0.0, "{}", "")
        return DesiredStates(meter, epoch, held, _RAISES.validate_json(row[2]), row[1], row[3])

    def _order(self, meter: MeterId) -> tuple[str, ...]:
        row = self._added("broker_order", meter)
        return () if row is None else _NAMES.validate_json(row[1])

    def _revoked(self, meter: MeterId) -> RevokedList:
        row = self._added("revoked_list", meter)
        return RevokedList() if row is None else RevokedList.read(row[1])

    def _added(self, table: str, meter: MeterId) -> tuple[Any, ...] | None:
        """Return a meter's row of a table that files of earlier releases do not have."""
        if table not in _tables(self.connection):
            return None
        select = f"SELECT * FROM {table} WHERE meter = ?"  # noqa: S608
        return cast("tuple[Any, ...] | None", self.connection.execute(select, (signed64(meter),)).fetchone())

    def _write(self, changes: Sequence[object]) -> None:
        # Records are added in bulk. A delete may affect rows added before it, so the added rows are written first.
        added: list[tuple[int, int, int, int, bytes]] = []
        states: dict[MeterId, MeterState] = {}
        for change in changes:
            if isinstance(change, NewRecords):
                added += [(signed64(change.meter), change.log, *row) for row in change.rows]
            elif isinstance(change, MeterState):
                states[change.meter] = change
            elif isinstance(change, DesiredStates):
                self._write_desired_states(change)
            elif isinstance(change, BrokerOrder):
                self._replace("broker_order", change.meter, json.dumps(change.names))
            elif isinstance(change, KeptRevoked):
                self._replace("revoked_list", change.meter, change.listed.text)
            elif isinstance(change, Replace | Delete):
                self._add(added)
                added = self._remove(change)
        self._add(added)
        self.connection.executemany(_SAVE_METER, (_row_of(state) for state in states.values()))

    def _add(self, rows: Iterable[tuple[int, int, int, int, bytes]]) -> None:
        self.connection.executemany(
            f"{self._insert} INTO record (meter, log, first_id, last_id, data) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _remove(self, change: Replace | Delete) -> list[tuple[int, int, int, int, bytes]]:
        """Delete a range of a log; return the rows that replace it."""
        if isinstance(change, Delete):
            self.connection.execute(
                "DELETE FROM record WHERE meter = ? AND log = ? AND first_id <= ?",
                (signed64(change.meter), change.log, change.last_id),
            )
            return []
        self.connection.execute(
            "DELETE FROM record WHERE meter = ? AND log = ? AND first_id BETWEEN ? AND ?",
            (signed64(change.meter), Log.HISTORY, change.first_id, change.last_id),
        )
        return [(signed64(change.meter), Log.HISTORY, *row) for row in change.rows]

    def _write_desired_states(self, change: DesiredStates) -> None:
        self._replace("orders", change.meter, *change.epoch, _HELD.dump_json(change.held).decode())
        raises = _RAISES.dump_json(change.raises).decode()
        self._replace("epoch_raise", change.meter, change.own_s, raises, change.digest)

    def _replace(self, table: str, meter: MeterId, *values: object) -> None:
        """Replace a meter's row in a table with one row for each meter."""
        insert = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * (len(values) + 1))})"  # noqa: S608
        self.connection.execute(insert, (signed64(meter), *values))


def _row_of(state: MeterState) -> tuple[object, ...]:
    meter, *columns, remainders = _COLUMNS_OF(state)
    return (signed64(meter), *columns, json.dumps(remainders))


def open_checked(path: Path, now: EpochSeconds, extension: Extension | None = None) -> DeviceStore:
    """Open a store; quarantine a damaged one, after which each meter starts with a new generation.

    Raises:
        StoreError: As ``open_store``.
    """
    suspected = _suspected(path)
    why = damage_of(path, extension, whole=suspected.exists()) if path.exists() else None
    if why is not None:
        _log.error("store %s is damaged (%s): kept as %s, the meters begin anew", path, why, quarantine(path, now))
    suspected.unlink(missing_ok=True)
    return open_store(path, extension)


def _suspected(path: Path) -> Path:
    """Return the file that notes damage beside a store, until its next opening."""
    # Otherwise a large store with damage in a large table would fail after each start.
    return path.with_name(f"{path.name}.suspected")


def damage_of(path: Path, extension: Extension | None, *, whole: bool = False) -> str | None:
    """Return what is damaged in a store that no program uses; ``None``: nothing.

    Args:
        whole: Whether a large file is checked whole, too.

    Raises:
        StoreError: The file is no meters' store, or of a newer version.
    """
    found = read_log(path)
    lost = None if found is None else found.damage
    try:
        with closing(open_read_only(path)) as connection:
            # Before the check of the log: a file of a later release is refused unchanged.
            if _version(path, connection) == SCHEMA and not lost:
                small = ("meter", "orders", "record", *_checked(connection, extension))
                check_pages(connection, 0 if whole else path.stat().st_size, small)
                # SQLite's check finds no flipped bit in a row's content.
                connection.text_factory = str
                DeviceStore(connection, path, extension).read_small()
    except sqlite3.Error as error:
        if not lost:
            return str(error) if fails_check(error) else None
    except _UNREADABLE as error:
        if not lost:
            return f"a row can't be read: {str(error).partition(chr(10))[0]}"
    return lost


def _checked(connection: sqlite3.Connection, extension: Extension | None) -> tuple[str, ...]:
    """Return further small tables; a table added by a later release may be missing, any other not."""
    checked, added = ((), {}) if extension is None else (extension.checked, extension.added)
    there = _tables(connection)
    return tuple(name for name in (*ADDED, *checked) if name in there or name not in {*ADDED, *added})


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def open_store(path: Path, extension: Extension | None = None) -> DeviceStore:
    """Open a store, making it when it is missing.

    Raises:
        StoreError: It can't be opened, is no such store, or is of a newer version.
    """
    with _told(path), ExitStack() as on_error:
        connection = _connect(path)
        on_error.callback(connection.close)
        if _version(path, connection) == 0:
            tables = TABLES if extension is None else TABLES + extension.tables
            connection.executescript(f"BEGIN; {tables} PRAGMA user_version = {SCHEMA}; COMMIT;")
        for table in ADDED.values():
            connection.execute(table)
        if extension is not None:
            for name in extension.added.keys() - _tables(connection):
                connection.execute(extension.added[name])
        on_error.pop_all()
        return DeviceStore(connection, path, extension)


def _connect(path: Path) -> sqlite3.Connection:
    write_log_again(path)
    with ExitStack() as on_error:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        on_error.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        on_error.pop_all()
    return connection


@contextmanager
def reading_store(path: Path) -> Iterator[DeviceStore]:
    """Open a store read-only, as a snapshot of one moment, whether its program runs or not.

    Raises:
        StoreError: It is missing, can't be opened, is no such store, or is of a newer version.
    """
    with _told(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
        try:
            if _version(path, connection) == 0:
                raise StoreError(f"{path}: holds no meters yet; start them with: commonwatt meters run")
            connection.execute("BEGIN")
            yield DeviceStore(connection, path, None)
        finally:
            connection.close()


def _version(path: Path, connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA:
        raise StoreError(f"{path}: of version {version}; this release knows {SCHEMA}. Install the newer release again.")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if version == 0 and tables:
        raise StoreError(f"{path}: is a database, but not of meters; name another file as store")
    return version


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
