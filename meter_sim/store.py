"""The one SQLite file of a fleet: its meters' logs and states, the batteries' levels, and the truth (M1, M6, M9).

The truth is every record ever made, which only the audit reads. It is committed in the same transaction as the logs,
so that no crash can put the two at odds.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from operator import attrgetter
from pathlib import Path

from pydantic import TypeAdapter

from commonwatt.device.changes import Change, Delete, LogRow, Made, MeterState, Orders, Replace, Slot, Stored
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, unpack_event, unpack_history
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import Held, Kind
from commonwatt.sqlite.damage import LOG_BYTES, check_pages, fails_check, open_read_only, set_aside
from commonwatt.sqlite.resync import write_log_again
from commonwatt.sqlite.wal import read_log

SCHEMA = 1
"""Version of the tables; a file of a newer one is refused."""

_TABLES = """
CREATE TABLE meter (
    meter INTEGER PRIMARY KEY, generation INTEGER NOT NULL, next_history INTEGER NOT NULL, next_event INTEGER NOT NULL,
    frozen_history INTEGER NOT NULL, frozen_event INTEGER NOT NULL, bits INTEGER NOT NULL, stopped INTEGER NOT NULL,
    changed_at INTEGER NOT NULL, last_slot INTEGER NOT NULL, level INTEGER, made INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL, gaps INTEGER NOT NULL, offset_s INTEGER NOT NULL, trust INTEGER NOT NULL,
    remainders TEXT NOT NULL
);
CREATE TABLE orders (meter INTEGER PRIMARY KEY, counter INTEGER NOT NULL, rank INTEGER NOT NULL, held TEXT NOT NULL);
CREATE TABLE record (
    meter INTEGER NOT NULL, log INTEGER NOT NULL, first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (meter, log, first_id)
) WITHOUT ROWID;
CREATE TABLE slot (one INTEGER PRIMARY KEY CHECK (one = 1), slot_end INTEGER NOT NULL, levels TEXT NOT NULL);
CREATE TABLE truth (slot_end INTEGER PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE truth_event (
    meter INTEGER NOT NULL, generation INTEGER NOT NULL, id INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (meter, generation, id)
) WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)

_HELD = TypeAdapter(dict[Kind, Held])
_METER_COLUMNS = tuple(MeterState.__slots__)
_COLUMNS_OF = attrgetter(*_METER_COLUMNS)
_SAVE_METER = (
    f"INSERT OR REPLACE INTO meter ({', '.join(_METER_COLUMNS)}) VALUES ({', '.join('?' * len(_METER_COLUMNS))})"  # noqa: S608
)


_GOES_ON = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
"""After these errors a connection is as it was; after others what it believes of the file may be wrong."""


class FleetStore:
    """A fleet's store, used by one thread at a time.

    Args:
        connection: To its file.
        path: Of its file, which is opened again after a failure.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._failed = False
        self._insert = "INSERT"

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes durable, in their order, or none.

        Raises:
            sqlite3.OperationalError: They are not durable, but some day they may be there: commit the same again.
        """
        if self._failed:
            self._connection.close()
            self._connection = _connect(self._path)
        # What a failed commit wrote may be there after all once the file is opened again; the same again is no fault.
        self._insert = "INSERT OR REPLACE" if self._failed else "INSERT"
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._write(changes)
            self._failed = False
        except sqlite3.OperationalError as error:
            self._failed = self._failed or error.sqlite_errorcode & 0xFF not in _GOES_ON
            raise

    def load(self, meter: MeterId) -> Stored | None:
        """Return what is kept of one meter; ``None`` for a meter new to this store."""
        row = self._connection.execute(f"SELECT {', '.join(_METER_COLUMNS)} FROM meter WHERE meter = ?", (meter,))  # noqa: S608
        found = row.fetchone()
        if found is None:
            return None
        columns = dict(zip(_METER_COLUMNS, found, strict=True))
        columns["stopped"] = bool(columns["stopped"])
        columns["remainders"] = {RecordType(int(k)): v for k, v in json.loads(columns["remainders"]).items()}
        return Stored(
            state=MeterState(**columns),
            orders=self._orders(meter),
            history=self._rows(meter, Log.HISTORY),
            events=self._rows(meter, Log.EVENT),
        )

    def slot(self) -> Slot | None:
        """Return the physics after the last slot; ``None`` in a new store."""
        found = self._connection.execute("SELECT slot_end, levels FROM slot").fetchone()
        if found is None:
            return None
        return Slot(found[0], {int(meter): level for meter, level in json.loads(found[1]).items()})

    def has_slot(self, slot_end: EpochSeconds) -> bool:
        """Say whether a slot was recorded."""
        found = self._connection.execute("SELECT 1 FROM truth WHERE slot_end = ?", (slot_end,)).fetchone()
        return found is not None

    def held_records(self) -> Iterator[list[HistoryRecord]]:
        """Yield the history records the meters still hold, a meter at a time."""
        for meter in self._meters():
            yield [unpack_history(row.data) for row in self._rows(meter, Log.HISTORY)]

    def held_events(self) -> Iterator[tuple[int, EventRecord]]:
        """Yield (generation, event) of the events the meters still hold."""
        for generation, data in self._connection.execute(
            "SELECT generation, data FROM record JOIN meter USING (meter) WHERE log = ? ORDER BY meter, first_id",
            (Log.EVENT,),
        ):
            yield generation, unpack_event(data)

    def true_records(self) -> Iterator[tuple[int, bytes]]:
        """Yield (slot end, all records made of that slot, one after the other) in the order of time."""
        yield from self._connection.execute("SELECT slot_end, records FROM truth ORDER BY slot_end")

    def true_events(self) -> Iterator[tuple[int, EventRecord]]:
        """Yield (generation, event) of every event ever made."""
        for generation, data in self._connection.execute(
            "SELECT generation, data FROM truth_event ORDER BY meter, generation, id"
        ):
            yield generation, unpack_event(data)

    def _meters(self) -> list[MeterId]:
        return [meter for (meter,) in self._connection.execute("SELECT meter FROM meter ORDER BY meter")]

    def _rows(self, meter: MeterId, log: Log) -> list[LogRow]:
        rows = self._connection.execute(
            "SELECT first_id, last_id, data FROM record WHERE meter = ? AND log = ? ORDER BY first_id", (meter, log)
        )
        return [LogRow(*row) for row in rows]

    def _orders(self, meter: MeterId) -> Orders:
        found = self._connection.execute("SELECT counter, rank, held FROM orders WHERE meter = ?", (meter,)).fetchone()
        if found is None:
            return Orders(meter, (0, 0), {})
        return Orders(meter, (found[0], found[1]), _HELD.validate_json(found[2]))

    def _write(self, changes: Sequence[Change]) -> None:
        # Records are added many at a time. A delete may concern rows added before it, so these go first.
        added: list[tuple[int, int, int, int, bytes]] = []
        states: dict[MeterId, MeterState] = {}
        truth: list[bytes] = []
        events: list[tuple[int, int, int, bytes]] = []
        slot: Slot | None = None
        for change in changes:
            if isinstance(change, Made):
                added += [(change.meter, change.log, *row) for row in change.rows]
                if change.log is Log.HISTORY:
                    truth += [row.data for row in change.rows]
                else:
                    events += [(change.meter, change.generation, row.first_id, row.data) for row in change.rows]
            elif isinstance(change, MeterState):
                states[change.meter] = change
            elif isinstance(change, Orders):
                self._write_orders(change)
            elif isinstance(change, Slot):
                slot = change
            else:
                self._add(added)
                added = self._remove(change)
        self._add(added)
        self._connection.executemany(_SAVE_METER, (_row_of(state) for state in states.values()))
        self._connection.executemany(f"{self._insert} INTO truth_event VALUES (?, ?, ?, ?)", events)
        if slot is not None:
            self._write_slot(slot, truth)

    def _add(self, rows: Iterable[tuple[int, int, int, int, bytes]]) -> None:
        self._connection.executemany(
            f"{self._insert} INTO record (meter, log, first_id, last_id, data) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _remove(self, change: Replace | Delete) -> list[tuple[int, int, int, int, bytes]]:
        """Delete a range of a log; return the rows that take its place."""
        if isinstance(change, Delete):
            self._connection.execute(
                "DELETE FROM record WHERE meter = ? AND log = ? AND first_id <= ?",
                (change.meter, change.log, change.last_id),
            )
            return []
        self._connection.execute(
            "DELETE FROM record WHERE meter = ? AND log = ? AND first_id BETWEEN ? AND ?",
            (change.meter, Log.HISTORY, change.first_id, change.last_id),
        )
        return [(change.meter, Log.HISTORY, *row) for row in change.rows]

    def _write_orders(self, change: Orders) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?)",
            (change.meter, *change.epoch, _HELD.dump_json(change.held).decode()),
        )

    def _write_slot(self, change: Slot, truth: list[bytes]) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO slot VALUES (1, ?, ?)", (change.slot_end, json.dumps(change.levels))
        )
        if truth:
            self._connection.execute(f"{self._insert} INTO truth VALUES (?, ?)", (change.slot_end, b"".join(truth)))


def _row_of(state: MeterState) -> tuple[object, ...]:
    *columns, remainders = _COLUMNS_OF(state)
    return (*columns, json.dumps(remainders))


def open_checked(path: Path, now: EpochSeconds) -> FleetStore:
    """Open a fleet's store; one that is damaged is set aside, and its meters begin anew, each with a new generation.

    Raises:
        StoreError: As ``open_store``.
    """
    why = _damage(path) if path.exists() else None
    if why is not None:
        _log.error("store %s is damaged (%s): kept as %s, the meters begin anew", path, why, set_aside(path, now))
    return open_store(path)


def _damage(path: Path) -> str | None:
    """Say what is damaged.

    Raises:
        StoreError: It is no such store, or is of a newer version.
    """
    found = read_log(path)
    lost = 0 if found is None else found.lost_commits
    try:
        with closing(open_read_only(path)) as connection:
            # Before its log is judged: what is of a later release is refused as it is.
            if _version(path, connection) == SCHEMA and not lost:
                check_pages(connection, path.stat().st_size, ("meter", "orders", "record", "slot"))
    except sqlite3.Error as error:
        if not lost:
            return str(error) if fails_check(error) else None
    return f"its log, before its last {lost} transactions" if lost else None


def open_store(path: Path) -> FleetStore:
    """Open a fleet's store, making it when it is missing.

    Raises:
        StoreError: It can't be opened, is no such store, or is of a newer version.
    """
    with _told(path):
        connection = _connect(path)
        if _version(path, connection) == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
        return FleetStore(connection, path)


def _connect(path: Path) -> sqlite3.Connection:
    write_log_again(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    return connection


@contextmanager
def reading_store(path: Path) -> Iterator[FleetStore]:
    """Open a fleet's store for reading alone, all of it as of one moment, whether the fleet runs or not.

    Raises:
        StoreError: It is missing, can't be opened, is no such store, or is of a newer version.
    """
    with _told(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
        try:
            if _version(path, connection) == 0:
                raise StoreError(f"{path}: holds no meters yet; start them with: commonwatt meters run")
            connection.execute("BEGIN")
            yield FleetStore(connection, path)
        finally:
            connection.close()


def _version(path: Path, connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA:
        connection.close()
        raise StoreError(f"{path}: of version {version}; this release knows {SCHEMA}. Install the newer release again.")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if version == 0 and tables:
        connection.close()
        raise StoreError(f"{path}: is a database, but not of meters; name another file as store")
    return version


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
