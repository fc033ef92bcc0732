"""The gateway's SQLite store: parts, events, letters, coverage, desired states (design 1, 4). All of its SQL is here.

WAL with ``synchronous=FULL``: what ``commit`` returned from survives a power cut. Parts are appended and never
updated in place, except for the note that the utility has them.
"""

import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import singledispatchmethod
from pathlib import Path

from commonwatt.batches import Letter
from commonwatt.commands import Kind
from commonwatt.exceptions import StoreError
from commonwatt.letters import Kept, Wanted
from commonwatt.records import EventRecord, Log, Rejection
from commonwatt.resync import write_log_again
from commonwatt.units import MeterId, Quarter, signed64, unsigned64
from gateway.changes import (
    DONE,
    UNSENT,
    AddLetters,
    AppendEvents,
    AppendParts,
    Change,
    Cover,
    Desired,
    ForgetRelayed,
    MeterInfo,
    Offered,
    Part,
    PeriodDone,
    Relayed,
    ReplaceParts,
    Setting,
)

SCHEMA_VERSION = 1

RELAYED_SLOTS = "relayed_slots"
"""Setting that counts the slots the utility acknowledged."""

_SCHEMA = """
CREATE TABLE part (
    id INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, type INTEGER NOT NULL, quarter INTEGER NOT NULL,
    payload BLOB NOT NULL, relayed INTEGER NOT NULL, joined INTEGER NOT NULL);
CREATE INDEX part_to_join ON part (quarter) WHERE joined = 0;
CREATE INDEX part_block ON part (quarter, meter, type);
CREATE INDEX part_unsent ON part (quarter, id) WHERE relayed < 2;
CREATE INDEX part_coarse ON part (quarter, meter, type) WHERE relayed IN (1, 2);
CREATE TABLE event (
    meter INTEGER NOT NULL, generation INTEGER NOT NULL, id INTEGER NOT NULL, previous INTEGER NOT NULL,
    new INTEGER NOT NULL, time INTEGER NOT NULL, relayed INTEGER NOT NULL, PRIMARY KEY (meter, generation, id)
) WITHOUT ROWID;
CREATE INDEX event_unsent ON event (time) WHERE relayed = 0;
CREATE TABLE letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, log INTEGER NOT NULL, reason INTEGER NOT NULL,
    generation INTEGER NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL, content BLOB NOT NULL,
    relayed INTEGER NOT NULL, UNIQUE (meter, log, reason, generation, id, content));
CREATE TABLE coverage (
    meter INTEGER NOT NULL, log INTEGER NOT NULL, generation INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (meter, log, generation, first)) WITHOUT ROWID;
CREATE TABLE meter (
    meter INTEGER PRIMARY KEY, push INTEGER NOT NULL, minimum_percent INTEGER, capacity INTEGER, time INTEGER NOT NULL);
CREATE TABLE desired (
    meter INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, epoch_counter INTEGER NOT NULL,
    epoch_rank INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER, weight INTEGER, confirmed INTEGER NOT NULL,
    PRIMARY KEY (meter, kind)) WITHOUT ROWID;
CREATE TABLE period (job TEXT PRIMARY KEY, period INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    """One open store.

    Attributes:
        store_id: Random number of this store; a new one means a new store.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open ``path``, making it when it is missing.

        Raises:
            StoreError: It can't be opened, or a newer version made it.
        """
        try:
            if not read_only:
                write_log_again(path)
            self._db = sqlite3.connect(
                f"file:{path}?mode=ro" if read_only else path, uri=read_only, isolation_level=None, timeout=5.0
            )
            if not read_only:
                self._prepare()
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            self._db.close()
            raise StoreError(
                f"{path}: schema {version}, but this release knows {SCHEMA_VERSION}; install the newer release"
            )
        self.store_id = int(self.setting("store_id") or "0")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self.commit([Setting("store_id", str(secrets.randbits(63)))])

    def close(self) -> None:
        """Close the store."""
        self._db.close()

    # Writing

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes durable in one transaction, or none of them.

        Raises:
            sqlite3.Error: Nothing was changed; close the store and open it again.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                self._apply(change)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @singledispatchmethod
    def _apply(self, change: object) -> None:
        raise TypeError(f"the store knows no {type(change).__name__}")

    @_apply.register
    def _(self, change: AppendParts) -> None:
        self._db.executemany(
            "INSERT INTO part (meter, type, quarter, payload, relayed, joined) VALUES (?, ?, ?, ?, ?, ?)",
            [(signed64(p.key[0]), p.key[1], p.key[2], p.payload, p.relayed, p.joined) for p in change.parts],
        )

    @_apply.register
    def _(self, change: ReplaceParts) -> None:
        self._each("DELETE FROM part WHERE id = ?", ((i,) for i in change.ids))
        if change.by is not None:
            self._apply(AppendParts((change.by,)))

    @_apply.register
    def _(self, change: AppendEvents) -> None:
        for generation, e in change.events:
            row = (signed64(e.meter_id), generation, signed64(e.record_id), e.previous_state, e.new_state, e.time)
            inserted = self._db.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, 0)", row).rowcount
            if not inserted and self.event(e.meter_id, generation, e.record_id) != e:
                # Another event of this id came in the same transaction: it was accepted, so it is not lost either.
                self._apply(AddLetters((_contradicting(generation, e),)))

    @_apply.register
    def _(self, change: AddLetters) -> None:
        self._each(
            "INSERT OR IGNORE INTO letter (meter, log, reason, generation, id, time, content, relayed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (
                (signed64(x.meter), x.log, x.reason, x.generation, signed64(x.record_id), x.time, x.content)
                for x in change.letters
            ),
        )

    @_apply.register
    def _(self, change: Cover) -> None:
        """Merge the range with those it overlaps or touches."""
        who = (signed64(change.meter), change.log, change.generation)
        first, last = change.first, change.last
        where = "meter = ? AND log = ? AND generation = ? AND first <= ? AND last >= ?"
        touching = self._db.execute(
            f"SELECT first, last FROM coverage WHERE {where}", (*who, last + 1, first - 1)
        ).fetchall()
        if any(a <= first and last <= b for a, b in touching):
            return
        self._db.execute(f"DELETE FROM coverage WHERE {where}", (*who, last + 1, first - 1))
        first = min([first, *(a for a, _ in touching)])
        last = max([last, *(b for _, b in touching)])
        self._db.execute("INSERT INTO coverage VALUES (?, ?, ?, ?, ?)", (*who, first, last))

    @_apply.register
    def _(self, change: MeterInfo) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO meter VALUES (?, ?, ?, ?, ?)",
            (signed64(change.meter), change.push, change.minimum_percent, change.capacity, change.time),
        )

    @_apply.register
    def _(self, change: Desired) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO desired VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                signed64(change.meter),
                change.kind,
                change.value,
                *change.epoch,
                change.seq,
                change.until,
                change.weight,
                change.confirmed,
            ),
        )

    @_apply.register
    def _(self, change: Offered) -> None:
        self._each("UPDATE part SET relayed = 1 WHERE id = ? AND relayed = 0", ((i,) for i in change.parts))

    @_apply.register
    def _(self, change: Relayed) -> None:
        self._each("UPDATE part SET relayed = 3 WHERE id = ?", ((i,) for i in change.done))
        self._each("UPDATE part SET relayed = 2 WHERE id = ? AND relayed < 2", ((i,) for i in change.averaged))
        self._each(
            "UPDATE event SET relayed = 3 WHERE meter = ? AND generation = ? AND id = ?",
            ((signed64(m), g, signed64(i)) for m, g, i in change.events),
        )
        self._each("UPDATE letter SET relayed = 3 WHERE number = ?", ((i,) for i in change.letters))
        self._apply(Setting(RELAYED_SLOTS, str(int(self.setting(RELAYED_SLOTS) or "0") + change.slots)))

    @_apply.register
    def _(self, change: ForgetRelayed) -> None:
        del change
        self._db.execute("UPDATE part SET relayed = 1 WHERE relayed > 1")
        self._db.execute("UPDATE event SET relayed = 0 WHERE relayed <> 0")
        self._db.execute("UPDATE letter SET relayed = 0 WHERE relayed <> 0")

    @_apply.register
    def _(self, change: PeriodDone) -> None:
        self._db.execute("INSERT OR REPLACE INTO period VALUES (?, ?)", (change.job, change.period))

    @_apply.register
    def _(self, change: Setting) -> None:
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (change.key, change.value))

    def _each(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._db.executemany(sql, rows)

    # Reading

    def setting(self, key: str) -> str | None:
        """Return a value kept by ``Setting``."""
        row = self._db.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def period(self, job: str) -> int | None:
        """Return the last period of ``job`` that is done."""
        row = self._db.execute("SELECT period FROM period WHERE job = ?", (job,)).fetchone()
        return None if row is None else int(row[0])

    def meters(self) -> list[MeterInfo]:
        """Return what each meter said of itself."""
        rows = self._db.execute("SELECT meter, push, minimum_percent, capacity, time FROM meter")
        return [MeterInfo(unsigned64(m), bool(p), percent, capacity, time) for m, p, percent, capacity, time in rows]

    def desired(self) -> list[Desired]:
        """Return the desired states."""
        return [
            Desired(unsigned64(m), Kind(kind), value, (counter, rank), seq, until, weight, bool(confirmed))
            for m, kind, value, counter, rank, seq, until, weight, confirmed in self._db.execute(
                "SELECT * FROM desired"
            )
        ]

    def coverage(self, meter: MeterId, log: Log, generation: int) -> list[tuple[int, int]]:
        """Return the ranges (first, last) of ids of a log that are in the store, ascending."""
        rows = self._db.execute(
            "SELECT first, last FROM coverage WHERE meter = ? AND log = ? AND generation = ? ORDER BY first",
            (signed64(meter), log, generation),
        )
        return [(int(first), int(last)) for first, last in rows]

    def event(self, meter: MeterId, generation: int, record_id: int) -> EventRecord | None:
        """Return one event."""
        rows = self._events(
            "meter = ? AND generation = ? AND id = ?", (signed64(meter), generation, signed64(record_id))
        )
        return next((event for _, event in rows), None)

    def unsent_parts(self, before_quarter: Quarter, limit: int, without: Collection[MeterId] = ()) -> list[Part]:
        """Return the newest parts the utility has nothing of, of quarters before ``before_quarter``."""
        others, meters = _other_than(without)
        return self._parts(
            f"relayed < 2 AND quarter < ? AND {others} ORDER BY quarter DESC, id DESC LIMIT ?",
            (before_quarter, *meters, limit),
        )

    def unsent_events(self, limit: int, without: Collection[MeterId] = ()) -> list[tuple[int, EventRecord]]:
        """Return the newest events the utility has not acknowledged."""
        others, meters = _other_than(without)
        return list(self._events(f"relayed = 0 AND {others} ORDER BY time DESC LIMIT ?", (*meters, limit)))

    def unsent_letters(self, limit: int) -> list[tuple[int, Letter]]:
        """Return (number, letter) the utility has not acknowledged."""
        return list(self._letters("WHERE relayed = 0 ORDER BY number LIMIT ?", (limit,)))

    def block_parts(self, keys: Iterable[tuple[int, int, int]]) -> list[Part]:
        """Return all parts of the blocks named by (meter, type, quarter)."""
        return [
            part
            for meter, record_type, quarter in keys
            for part in self._parts("quarter = ? AND meter = ? AND type = ?", (quarter, signed64(meter), record_type))
        ]

    def newest_quarter(self) -> Quarter:
        """Return the newest quarter of which there is anything; 0 if there is nothing."""
        return int(self._db.execute("SELECT coalesce(max(quarter), 0) FROM part").fetchone()[0])

    def keys_between(self, first: Quarter, last: Quarter, limit: int) -> list[tuple[int, int, int]]:
        """Return the keys of the blocks of a range of quarters, the newest first."""
        rows = self._db.execute(
            "SELECT DISTINCT meter, type, quarter FROM part WHERE quarter BETWEEN ? AND ?"
            " ORDER BY quarter DESC LIMIT ?",
            (first, last, limit),
        )
        return [(unsigned64(m), t, q) for m, t, q in rows]

    def coarse_keys(self, keys: Iterable[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """Return those of ``keys`` of whose blocks the utility may have averages, or no one knows what."""
        sql = "SELECT 1 FROM part WHERE quarter = ? AND meter = ? AND type = ? AND relayed IN (1, 2) LIMIT 1"
        return {key for key in keys if self._db.execute(sql, (key[2], signed64(key[0]), key[1])).fetchone()}

    def keys_to_compact(self, before: Quarter, limit: int) -> list[tuple[int, int, int]]:
        """Return blocks of quarters before ``before`` that the utility has and the compactor has not joined."""
        rows = self._db.execute(
            "SELECT meter, type, quarter FROM part AS p WHERE joined = 0 AND quarter < ? AND NOT EXISTS"
            " (SELECT 1 FROM part WHERE quarter = p.quarter AND meter = p.meter AND type = p.type AND relayed < 2)"
            " GROUP BY quarter, meter, type ORDER BY quarter LIMIT ?",
            (before, limit),
        )
        return [(unsigned64(m), t, q) for m, t, q in rows]

    def backlog(self) -> tuple[int, int, int]:
        """Return how many parts, events and letters the utility has not acknowledged."""
        parts, events, letters = (
            int(self._db.execute(f"SELECT count(*) FROM {table} WHERE {unsent}").fetchone()[0])
            for table, unsent in (("part", "relayed < 2"), ("event", "relayed = 0"), ("letter", "relayed = 0"))
        )
        return parts, events, letters

    def all_parts(self, *, unsent_only: bool) -> Iterator[Part]:
        """Yield every part, or those the utility has not (or has only averages of), for a dump."""
        yield from self._iterate("relayed < ?", (DONE if unsent_only else DONE + 1,))

    def all_events(self, *, unsent_only: bool) -> Iterator[tuple[int, EventRecord]]:
        """Yield every (generation, event), or those the utility has not, for a dump."""
        return self._events("relayed <= ?", (UNSENT if unsent_only else DONE,))

    def letters(self) -> list[Letter]:
        """Return every dead letter."""
        return [letter for _, letter in self._letters("ORDER BY number", ())]

    def kept_letters(self, wanted: Wanted, limit: int) -> list[Kept]:
        """Return the newest letters that are wanted, newest first."""
        where, values = _which(wanted)
        return [
            Kept(no=no, letter=x) for no, x in self._letters(f"{where} ORDER BY number DESC LIMIT ?", (*values, limit))
        ]

    def letter_counts(self, wanted: Wanted) -> list[tuple[int, str, int]]:
        """Return (reason, state, how many) of the letters that are wanted; a gateway decides on none of them."""
        where, values = _which(wanted)
        rows = self._db.execute(f"SELECT reason, count(*) FROM letter {where} GROUP BY reason", values)
        return [(reason, "", number) for reason, number in rows]

    def _letters(self, which: str, values: tuple[object, ...]) -> Iterator[tuple[int, Letter]]:
        sql = f"SELECT number, meter, log, reason, generation, id, time, content FROM letter {which}"
        for number, meter, log, reason, generation, i, time, content in self._db.execute(sql, values):
            yield (
                number,
                Letter(
                    meter=unsigned64(meter),
                    log=log,
                    reason=reason,
                    generation=generation,
                    record_id=unsigned64(i),
                    time=time,
                    content=content,
                ),
            )

    def _parts(self, where: str, values: tuple[object, ...]) -> list[Part]:
        return list(self._iterate(where, values))

    def _iterate(self, where: str, values: tuple[object, ...]) -> Iterator[Part]:
        for i, m, t, q, payload, relayed, joined in self._db.execute(
            f"SELECT id, meter, type, quarter, payload, relayed, joined FROM part WHERE {where}", values
        ):
            yield Part(i, (unsigned64(m), t, q), payload, relayed, bool(joined))

    def _events(self, where: str, values: tuple[object, ...]) -> Iterator[tuple[int, EventRecord]]:
        for m, generation, i, previous, new, time in self._db.execute(
            f"SELECT meter, generation, id, previous, new, time FROM event WHERE {where}", values
        ):
            yield (
                generation,
                EventRecord(
                    previous_state=previous, new_state=new, record_id=unsigned64(i), meter_id=unsigned64(m), time=time
                ),
            )


def _other_than(meters: Collection[MeterId]) -> tuple[str, list[int]]:
    """Return a condition that leaves out ``meters``, and its values."""
    return f"meter NOT IN ({', '.join('?' * len(meters))})", [signed64(meter) for meter in meters]


def _which(wanted: Wanted) -> tuple[str, tuple[int, ...]]:
    """Return the condition on letters that are wanted, and its values."""
    where, values = "WHERE time >= ?", [wanted.since]
    if wanted.meter is not None:
        where, values = f"{where} AND meter = ?", [*values, signed64(wanted.meter)]
    if wanted.reasons:
        marks = ", ".join("?" * len(wanted.reasons))
        where, values = f"{where} AND reason IN ({marks})", [*values, *wanted.reasons]
    return where, tuple(values)


def _contradicting(generation: int, event: EventRecord) -> Letter:
    return Letter(
        meter=event.meter_id,
        log=Log.EVENT,
        reason=Rejection.CONTRADICTS,
        generation=generation,
        record_id=event.record_id,
        time=event.time,
        content=event.pack(),
    )
