"""The gateway's SQLite store: parts, events, dead letters, coverage, desired states (docs/stores.md).

All of its SQL is here, in ``gateway.store.reads`` and in ``gateway.store.tables``. WAL with ``synchronous=FULL``:
after ``commit`` has returned, its changes survive a power cut. Parts are appended and never updated in place, except
for ``relayed``.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import singledispatchmethod
from pathlib import Path
from typing import Self

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import from_records
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import HistoryRecord, Rejection
from commonwatt.model.units import SLOT_S, signed64
from commonwatt.protocol.dead_letters import event_dead_letter
from commonwatt.sqlite import LOG_BYTES, DamagedError, SqliteError, fails_check, lenient_text, write_log_again
from gateway.store.changes import (
    ACKNOWLEDGED,
    AVERAGED,
    DONE,
    MARK,
    OFFERED,
    RELAYED_SLOTS,
    UNSENT,
    AckStretch,
    AddDeadLetters,
    AppendEvents,
    AppendParts,
    AppendRecords,
    Change,
    Cover,
    Desired,
    DropBackup,
    DropDamaged,
    ForgetDesired,
    ForgetMore,
    ForgetRelayed,
    MeterInfo,
    Offered,
    Part,
    PeriodDone,
    Relayed,
    Setting,
    grown,
    stretches,
)
from gateway.store.reads import FORGET_FROM, FORGETTING, StoreReads
from gateway.store.tables import (
    CHECKPOINT_BYTES,
    COLUMNS,
    FORGOTTEN,
    KEY_COLUMNS,
    NOT_ACKNOWLEDGED,
    PAGE_BYTES,
    PART_COLUMNS,
    SCHEMA_VERSION,
    TO_JOIN,
    row_sum,
    schema,
)


class GoneError(sqlite3.OperationalError):
    """The store's file was deleted, moved or replaced; the open file still has all committed data."""


class OpenedFile:
    """A store's file, recognised by its inode; a store in memory (``:memory:``) has none.

    Raises:
        OSError: There is no file at ``path``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._found()

    def check(self) -> None:
        """Check that the file is still at its path.

        Raises:
            GoneError: The file was deleted, moved or replaced.
        """
        try:
            same = self._found() == self._inode
        except OSError:
            same = False
        if not same:
            raise GoneError(f"{self._path} was deleted, moved or replaced")

    def _found(self) -> int:
        return 0 if str(self._path) == ":memory:" else self._path.stat().st_ino


# Most ranges of ids kept of a meter's log, the last extended; correct meters have one for each generation.
MAX_RANGES = 1000
LOCKED_MS = 5000  # real milliseconds for which an opening or a commit waits for another program's lock
RESERVED_PARTS = 1000  # numbers of parts reserved at a time
NO_PART = 2**63 - 1  # above every number of a part
PORTION_SLOTS = 100_000  # slots of records made into parts at a time


class Store(StoreReads):
    """One open store."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.closed = False  # whether it was closed
        self._numbers = range(0)  # reserved numbers of parts
        self._path = path

    @property
    def version(self) -> int:
        """The version of its tables; 0: it has none."""
        return self._pragma("user_version")

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open ``path``, making it when it is missing.

        Raises:
            ConfigError: It is opened with ``read_only``, and is missing.
            DamagedError: It is damaged.
            StoreError: It can't be opened, or is of another program or a newer release.
        """
        if read_only and not path.exists():
            raise ConfigError(f"{path}: no store there; it is made by: commonwatt gateway run --config FILE")
        try:
            if not read_only:
                write_log_again(path)
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro" if read_only else path,
                uri=read_only,
                isolation_level=None,
                timeout=LOCKED_MS / 1000,
                check_same_thread=False,  # Opened and used on different threads, one at a time.
            )
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error
        store = cls(path, connection)
        try:
            store._begin(read_only=read_only)
        except BaseException as error:
            store.close()
            if isinstance(error, UnicodeDecodeError) or (isinstance(error, sqlite3.Error) and fails_check(error)):
                raise DamagedError(str(error)) from error
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{path}: {error}") from error
            raise
        return store

    def _begin(self, *, read_only: bool) -> None:
        self._db.text_factory = lenient_text
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if self.version not in PAGE_BYTES and tables:
            self._refuse(self.version, tables)
        self._file = OpenedFile(self._path)
        if not read_only:
            self._prepare(is_new=not tables)
        self.store_id = int(self.setting("store_id") or "0")
        if not read_only:
            self._db.execute("PRAGMA busy_timeout=0")

    def _prepare(self, *, is_new: bool) -> None:
        """Set the connection up; make the tables if there are none."""
        if is_new:
            self._db.execute(f"PRAGMA page_size={PAGE_BYTES[SCHEMA_VERSION]}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // self._pragma('page_size')}")
        # Otherwise some builds of SQLite write zeros into freed pages, through the log.
        self._db.execute("PRAGMA secure_delete=FAST")
        self._db.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        if is_new:
            self._db.executescript(f"BEGIN; {schema(SCHEMA_VERSION)} COMMIT;")
            self.commit([Setting("schema", str(SCHEMA_VERSION)), Setting("store_id", str(secrets.randbits(63)))])

    def _refuse(self, version: int, tables: set[str]) -> None:
        """Raise the error for a file whose header has another version."""
        if not tables & {"coverage", "setting", "part"}:
            raise StoreError(f"{self._path}: is a database, but not a gateway's; name another file as store")
        named = self.setting("schema") if "setting" in tables else None
        if named in [str(known) for known in PAGE_BYTES]:
            raise DamagedError(f"its header says schema {version}, its table {named}")
        raise StoreError(
            f"{self._path}: schema {version}, but this release knows {SCHEMA_VERSION}; install the newer release"
        )

    def become(self, version: int) -> None:
        """Make a store of version 3 one of version 4, or the other way, in one transaction.

        The statement of an index is replaced, and the index keeps its first page: 0.3 compares both at its start.
        """
        self.write([Setting("schema", str(version))])
        try:
            self._db.execute("PRAGMA writable_schema = ON")
            self._db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'part_to_join'", (TO_JOIN[version],))
            self._db.execute(f"PRAGMA schema_version = {self._pragma('schema_version') + 1}")
            for sql in ("PRAGMA writable_schema = RESET", "REINDEX part_to_join", f"PRAGMA user_version = {version}"):
                self._db.execute(sql)
        except BaseException:
            self._roll_back()
            raise
        self.sync()

    def close(self) -> None:
        """Close the store."""
        self.closed = True
        self._db.close()

    # Writing

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes durable in one transaction, or none of them; wait if another program writes.

        Raises:
            sqlite3.Error: Nothing was changed; close the store and open it again.
        """
        self._db.execute(f"PRAGMA busy_timeout={LOCKED_MS}")
        try:
            self.write(changes)
            self.sync()
        finally:
            self._db.execute("PRAGMA busy_timeout=0")

    def write(self, changes: Sequence[Change]) -> None:
        """Make all changes in a transaction, or none of them; they are durable after ``sync``. It waits for no lock.

        Raises:
            sqlite3.Error: As ``commit``.
        """
        self._file.check()
        apply = self._apply  # A look-up for each of thousands of changes would cost more than most changes.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                if not isinstance(change, AppendRecords):
                    apply(change)
            for records in _portions(changes):
                blocks = from_records(records)
                parts = zip(blocks.keys(), pack(blocks), strict=True)
                apply(AppendParts(tuple(Part(0, key, payload) for key, payload in parts)))
        except BaseException:
            self._roll_back()
            raise

    def sync(self) -> None:
        """Make the changes of ``write`` durable; another thread may call this, and nobody uses the store meanwhile.

        Raises:
            sqlite3.Error: As ``commit``.
        """
        try:
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        self._forgetting, self._numbers = None, range(0)
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @singledispatchmethod
    def _apply(self, change: object) -> None:
        raise TypeError(f"the store can't apply {type(change).__name__}")

    def add_recovered(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add rows of a damaged store unchanged, in one transaction."""
        marks = ", ".join("?" * len(columns))
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def complete(self) -> None:
        """Write the log into the file and delete the log, so that the file can be renamed.

        Raises:
            sqlite3.Error: The log can't be written into the file.
        """
        if self._db.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
            raise sqlite3.OperationalError(f"{self._path}: its log can't be put into the file")

    @_apply.register
    def _append_parts(self, change: AppendParts) -> None:
        self._db.executemany("DELETE FROM part WHERE id = ?", ((i,) for i in change.instead_of))
        if len(self._numbers) < len(change.parts):
            self._reserve(RESERVED_PARTS + len(change.parts))
        rows = [
            (number, signed64(p.key[0]), p.key[1], p.key[2], p.payload, p.relayed, p.joined)
            for number, p in zip(self._numbers, change.parts, strict=False)
        ]
        self._numbers = self._numbers[len(rows) :]
        self._db.executemany(f"INSERT INTO part (id, {', '.join(PART_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _reserve(self, count: int) -> None:
        """Reserve numbers of parts above the used ones: else SQLite writes the last one, a page, in each commit."""
        sequence = "SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'part'"
        last = self._db.execute(f"{sequence} UNION SELECT max(id) FROM part ORDER BY 1 DESC").fetchone()[0] or 0
        self._numbers = range(last + 1, last + 1 + count)
        self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'part'")
        self._db.execute("INSERT INTO sqlite_sequence VALUES ('part', ?)", (self._numbers[-1],))

    @_apply.register
    def _drop_backup(self, change: DropBackup) -> None:
        up_to = self.forgetting()
        for table, rows in (("part", change.parts), ("event", change.events), ("letter", change.dead_letters)):
            which = f"rowid = ? AND relayed = {DONE} AND rowid > {up_to[table]}"
            self._db.executemany(f"DELETE FROM {table} WHERE {which}", ((row,) for row in rows))

    @_apply.register
    def _drop_damaged(self, change: DropDamaged) -> None:
        which, number = "WHERE rowid = ?", (change.row,)
        sound = self._parts(which, number) if change.table == "part" else self._sound(change.table, which, number)
        if not list(sound):  # A sound row may have replaced it since it was found.
            self._db.execute(f"DELETE FROM {change.table} {which}", number)
        self.damaged.pop((change.table, change.row), None)

    @_apply.register
    def _append_events(self, change: AppendEvents) -> None:
        for generation, e in change.events:
            row = (signed64(e.meter_id), generation, signed64(e.record_id), e.previous_state, e.new_state, e.time)
            if self._insert("IGNORE", "event", row):
                continue
            known = self.event(e.meter_id, generation, e.record_id)
            if known is None:
                self._insert("REPLACE", "event", row)  # The row that is there is damaged.
            elif known != e:
                # Another event with this id is in the transaction: as it was accepted, it is kept as a dead letter.
                apart = event_dead_letter(generation, e, Rejection.CONTRADICTS, e.time)
                self._apply(AddDeadLetters((apart,)))

    @_apply.register
    def _add_dead_letters(self, change: AddDeadLetters) -> None:
        for x in change.dead_letters:
            who = (signed64(x.meter), x.log, x.reason, x.generation, signed64(x.record_id))
            self._insert("IGNORE", "letter", (*who, x.time, x.content))

    @_apply.register
    def _cover(self, change: Cover) -> None:
        """Merge the range with those it overlaps or touches."""
        who = (signed64(change.meter), change.log, change.generation)
        first, last = change.first, change.last
        where = "meter = ? AND log = ? AND generation = ? AND first <= ? AND last >= ?"
        found = self._sound("coverage", f"WHERE {where}", (*who, last + 1, first - 1))
        touching = [(row, columns[-2:]) for row, columns in found]
        if any(a <= first and last <= b for _, (a, b) in touching):
            return
        row, grown = touching[0] if len(touching) == 1 else (0, (first + 1, 0))
        newest = "SELECT max(rowid) FROM coverage WHERE meter = ? AND log = ?"
        if grown[0] <= first and row == (self._db.execute(newest, who[:2]).fetchone()[0] or 0):
            # The usual case changes one page: neither the row's number nor its key.
            crc = row_sum("coverage", (*who, grown[0], last))
            self._db.execute("UPDATE coverage SET last = ?, crc = ? WHERE rowid = ?", (last, crc, row))
            return
        self._db.execute(f"DELETE FROM coverage WHERE {where}", (*who, last + 1, first - 1))
        first = min([first, *(a for _, (a, _) in touching)])
        last = max([last, *(b for _, (_, b) in touching)])
        self._insert("REPLACE", "coverage", (*who, first, last))
        if not touching:
            # Merged ranges are new rows: the range of an active log is never the oldest.
            of_log = "SELECT rowid FROM coverage WHERE meter = ? AND log = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            self._db.execute(f"DELETE FROM coverage WHERE rowid IN ({of_log})", (*who[:2], MAX_RANGES))

    @_apply.register
    def _keep_meter_info(self, change: MeterInfo) -> None:
        row = (signed64(change.meter), change.push, change.minimum_percent, change.capacity, change.time)
        self._insert("REPLACE", "meter", row)

    @_apply.register
    def _keep_desired(self, change: Desired) -> None:
        pair = (*change.epoch, change.seq)
        end = (change.until, change.weight, change.confirmed)
        self._insert("REPLACE", "desired", (signed64(change.meter), change.kind, change.value, *pair, *end))

    @_apply.register
    def _forget_desired(self, change: ForgetDesired) -> None:
        which = "" if change.kind is None else " WHERE kind = ?"
        self._db.execute(f"DELETE FROM desired{which}", () if change.kind is None else (change.kind,))

    @_apply.register
    def _offered(self, change: Offered) -> None:
        self._db.executemany(
            f"UPDATE part SET relayed = {OFFERED} WHERE id = ? AND relayed = {UNSENT}", ((i,) for i in change.parts)
        )
        if change.since is not None:
            which = f"{NOT_ACKNOWLEDGED} AND quarter >= ? AND relayed = {UNSENT}"
            self._db.execute(f"UPDATE part SET relayed = {OFFERED} WHERE {which}", (change.since,))

    @_apply.register
    def _relayed(self, change: Relayed) -> None:
        some = "WHERE id IN (SELECT value FROM json_each(?))"  # One statement for all takes half the time.
        self._db.execute(f"UPDATE part SET relayed = {DONE} {some}", (json.dumps(change.done),))
        averaged = f"UPDATE part SET relayed = {AVERAGED} {some} AND {NOT_ACKNOWLEDGED}"
        self._db.execute(averaged, (json.dumps(change.averaged),))
        self._db.executemany(
            f"UPDATE event SET relayed = {DONE} WHERE meter = ? AND generation = ? AND id = ?",
            ((signed64(m), g, signed64(i)) for m, g, i in change.events),
        )
        self._db.executemany(
            f"UPDATE letter SET relayed = {DONE} WHERE number = ?", ((i,) for i in change.dead_letters)
        )
        self._apply(Setting(RELAYED_SLOTS, str(int(self.setting(RELAYED_SLOTS) or "0") + change.slots)))
        if change.mark is not None:
            before = stretches(self)
            now = grown(before, change.mark, change.period, min((*change.done, *change.averaged), default=NO_PART))
            # Its last mark is kept apart: the list is long, and written seldom.
            if not before or now[-1]._replace(last=0) != before[-1]._replace(last=0):
                self._keep_stretches(now)
            self._apply(Setting(MARK, f"{change.mark[0]},{now[-1].last}"))

    def _keep_stretches(self, kept: Sequence[AckStretch]) -> None:
        self._apply(Setting(ACKNOWLEDGED, json.dumps(kept, separators=(",", ":"))))

    @_apply.register
    def _forget_relayed(self, change: ForgetRelayed) -> None:
        going_on = int(self.setting(FORGET_FROM) or "0") if any(self.forgetting().values()) else change.part
        self._apply(Setting(FORGET_FROM, str(min(going_on, change.part))))
        kept = stretches(self)[: change.kept]
        self._keep_stretches(kept)
        self._apply(Setting(MARK, f"{kept[-1].run},{kept[-1].last}" if kept else "0,0"))
        newest = {table: f"SELECT coalesce(max(rowid), 0) FROM {table}" for table in FORGOTTEN}
        self._forget_up_to({table: self._db.execute(sql).fetchone()[0] for table, sql in newest.items()})

    @_apply.register
    def _forget_more(self, change: ForgetMore) -> None:
        up_to, from_part = self.forgetting(), int(self.setting(FORGET_FROM) or "0")
        for table, last in up_to.items():
            lowest = from_part if table == "part" else 0
            rows = f"SELECT rowid FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?"
            step = f"SELECT coalesce(min(rowid), 0), count(*) FROM ({rows})"
            first, count = self._db.execute(step, (lowest, last, change.rows)).fetchone()
            mark = f"UPDATE {table} SET relayed = {FORGOTTEN[table]} WHERE rowid BETWEEN ? AND ?"
            self._db.execute(f"{mark} AND relayed IS NOT {UNSENT}", (first, last))
            up_to[table] = first - 1 if count == change.rows else 0
        self._forget_up_to(up_to)

    def _forget_up_to(self, rows: dict[str, int]) -> None:
        self._apply(Setting(FORGETTING, json.dumps(rows)))
        self._forgetting = None

    @_apply.register
    def _period_done(self, change: PeriodDone) -> None:
        self._insert("REPLACE", "period", (change.job, change.period))

    @_apply.register
    def _keep_setting(self, change: Setting) -> None:
        self._insert("REPLACE", "setting", (change.key, change.value))

    def _insert(self, clash: str, table: str, row: tuple[object, ...]) -> bool:
        """Insert a row with its checksum; return whether it was new."""
        columns, values = [*COLUMNS[table], "crc"], [*row, row_sum(table, row)]
        if table in ("event", "letter"):
            columns, values = [*columns, "relayed"], [*values, UNSENT]
        marks = ", ".join("?" * len(columns))
        into = f"INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        if clash == "REPLACE" and table in KEY_COLUMNS:
            # Unlike a replaced row, an updated one keeps its number: the page of its key's index stays as it is.
            changed = ", ".join(f"{column} = excluded.{column}" for column in columns[KEY_COLUMNS[table] :])
            sql = f"INSERT {into} ON CONFLICT DO UPDATE SET {changed}"
        else:
            sql = f"INSERT OR {clash} {into}"
        return bool(self._db.execute(sql, values).rowcount)


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """Open a store to read it, while its gateway may be running.

    Raises:
        ConfigError: The store is missing.
        StoreError: It can't be read, or is of another program or a newer release.
    """
    try:
        with closing(Store.open(path, read_only=True)) as store:
            yield store
    except SqliteError as error:
        raise StoreError(f"{path}: can't be read: {error}") from error


def _portions(changes: Sequence[Change]) -> Iterator[list[HistoryRecord]]:
    """Yield the records of a transaction in portions that cover about ``PORTION_SLOTS`` slots."""
    portion: list[HistoryRecord] = []
    slots = 0
    for change in changes:
        if isinstance(change, AppendRecords):
            portion += change.records
            slots += sum(record.end - record.start for record in change.records) // SLOT_S
        if slots > PORTION_SLOTS:
            yield portion
            portion, slots = [], 0
    if portion:
        yield portion
