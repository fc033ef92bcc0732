"""The reads of a gateway's store. Damaged rows are never returned: they are listed, and the core deletes them."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import MeterId, Quarter, signed64, unsigned64
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterFilter, KeptDeadLetter
from commonwatt.sqlite import DamagedError, check_pages
from gateway.store.changes import DONE, OFFERED, UNSENT, DamagedRow, Desired, MeterInfo, Part
from gateway.store.tables import (
    ACKNOWLEDGED,
    COLUMNS,
    FORGOTTEN,
    JOINED,
    MAY_BE_COARSE,
    NOT_ACKNOWLEDGED,
    NOT_JOINED,
    PART_COLUMNS,
    UNSENT_ROW,
    check_schema,
    dead_letter_of,
    event_of,
    is_sound,
    part_is_sound,
    part_of,
)

MAX_NOTED = 1000  # most damaged rows listed at a time; the others are found again after these are deleted
FORGET_FROM = "forget_from"  # setting that keeps the lowest number of a part that is to be sent again
FORGETTING = "forgetting"  # setting that keeps ``StoreReads.forgetting``

_PARTS = f"SELECT id, {', '.join(PART_COLUMNS)} FROM part"
_JOINED = f"INDEXED BY part_block WHERE {JOINED}"
_TO_JOIN = f"INDEXED BY part_to_join WHERE {NOT_JOINED} AND {ACKNOWLEDGED}"
_UNSENT = f"INDEXED BY part_unsent WHERE {NOT_ACKNOWLEDGED}"
_EVERY = (_JOINED, _TO_JOIN, f"{_UNSENT} AND {NOT_JOINED}")  # all parts, by quarter

_NOT_IN_BLOCK_INDEX = f"""
    SELECT id FROM part AS p NOT INDEXED WHERE id > ? AND id <= ? AND {JOINED} AND NOT EXISTS
    (SELECT 1 FROM part {_JOINED} AND quarter = p.quarter AND meter = p.meter AND type = p.type AND id = p.id)"""
_NOT_IN_JOIN_INDEX = f"""
    SELECT id FROM part AS p NOT INDEXED WHERE id > ? AND id <= ? AND {NOT_JOINED} AND {ACKNOWLEDGED} AND NOT EXISTS
    (SELECT 1 FROM part {_TO_JOIN} AND quarter = p.quarter AND id = p.id)"""
_NOT_IN_UNSENT_INDEX = f"""
    SELECT id FROM part AS p NOT INDEXED WHERE id > ? AND id <= ? AND relayed IN ({UNSENT}, {OFFERED}) AND NOT EXISTS
    (SELECT 1 FROM part {_UNSENT} AND quarter = p.quarter AND id = p.id)"""


class StoreReads:
    """Reads of one open store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        # Damaged rows found and not deleted yet, by table and row number.
        self.damaged: dict[tuple[str, int], DamagedRow] = {}
        self.store_id = 0  # random number of this store; a new one means a new store
        self._db = connection
        self._forgetting: dict[str, int] | None = None  # as ``forgetting`` returns it; ``None``: not read yet

    @property
    def connection(self) -> sqlite3.Connection:
        """The open file, for a recovery after the file was deleted or moved."""
        return self._db

    def check(self, size: int) -> None:
        """Check the store before its use; ``examine`` checks the backup later.

        Args:
            size: Bytes of the file.

        Raises:
            DamagedError: The store is damaged.
        """
        check_schema(self._db)
        check_pages(self._db, size, tuple(COLUMNS))
        for table in ("setting", "desired", "meter", "period", "coverage"):
            for _ in self._sound(table):
                pass  # Reading notes what is damaged.
        if any(table == "setting" for table, _ in self.damaged):
            raise DamagedError("a setting is not what was written")

    def _note(self, table: str, row: int, content: tuple[Any, ...]) -> None:
        if len(self.damaged) < MAX_NOTED:
            self.damaged[table, row] = DamagedRow(table, row, content)

    def _sound(
        self, table: str, which: str = "", values: tuple[object, ...] = ()
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield (row number, columns) of the sound rows of a table that has ``crc``."""
        for row, *columns, crc in self._db.execute(
            f"SELECT rowid, {', '.join(COLUMNS[table])}, crc FROM {table} {which}", values
        ):
            if is_sound(table, columns, crc):
                yield row, tuple(columns)
            else:
                self._note(table, row, tuple(columns))

    def _parts(self, which: str, values: tuple[object, ...]) -> Iterator[Part]:
        for row in self._db.execute(f"{_PARTS} {which}", values):
            if part_is_sound(*row[1:5]):
                yield part_of(row)
            else:
                self._note("part", row[0], row[1:])

    # Small tables

    def setting(self, key: str) -> str | None:
        """Return a value kept by ``Setting``."""
        return next((value for _, (_, value) in self._sound("setting", "WHERE key = ?", (key,))), None)

    def period(self, job: str) -> int | None:
        """Return the last period of ``job`` that is done."""
        return next((period for _, (_, period) in self._sound("period", "WHERE job = ?", (job,))), None)

    def forgetting(self) -> dict[str, int]:
        """Return, by table, the last row with an acknowledgement from a store that the utility lost.

        It is 0 if no store was lost, or when all such rows are marked as not acknowledged.
        """
        if self._forgetting is None:
            self._forgetting = dict.fromkeys(FORGOTTEN, 0) | json.loads(self.setting(FORGETTING) or "{}")
        return dict(self._forgetting)

    def meters(self) -> list[MeterInfo]:
        """Return the settings that each meter reported."""
        return [
            MeterInfo(meter=unsigned64(m), push=bool(push), minimum_percent=percent, capacity=capacity, time=time)
            for _, (m, push, percent, capacity, time) in self._sound("meter")
        ]

    def desired(self) -> list[Desired]:
        """Return the desired states."""
        return [
            Desired(
                meter=unsigned64(m),
                kind=Kind(kind),
                value=value,
                epoch=(counter, rank),
                seq=seq,
                until=until,
                weight=weight,
                confirmed=bool(confirmed),
            )
            for _, (m, kind, value, counter, rank, seq, until, weight, confirmed) in self._sound("desired")
        ]

    def coverage(self, meter: MeterId, log: Log, generation: int) -> list[tuple[int, int]]:
        """Return the ranges (first, last) of ids of a log that are in the store, ascending."""
        which = "WHERE meter = ? AND log = ? AND generation = ? ORDER BY first"
        return [row[-2:] for _, row in self._sound("coverage", which, (signed64(meter), log, generation))]

    # Events and dead letters

    def event(self, meter: MeterId, generation: int, record_id: int) -> EventRecord | None:
        """Return one event."""
        which = "WHERE meter = ? AND generation = ? AND id = ?"
        return next(
            (event for _, event in self._events(which, (signed64(meter), generation, signed64(record_id)))), None
        )

    def unsent_events(self, limit: int, without: Collection[MeterId] = ()) -> list[tuple[int, EventRecord]]:
        """Return the newest events that the utility has not acknowledged, except of meters ``without``."""
        others, meters = _other_than(without)
        return list(self._events(f"WHERE {UNSENT_ROW} AND {others} ORDER BY time DESC LIMIT ?", (*meters, limit)))

    def all_events(self, *, unsent_only: bool) -> Iterator[tuple[int, EventRecord]]:
        """Yield all (generation, event)s, or only those that the utility has not acknowledged, for a dump."""
        return self._events(f"WHERE {UNSENT_ROW}" if unsent_only else "", ())

    def _events(self, which: str, values: tuple[object, ...]) -> Iterator[tuple[int, EventRecord]]:
        return (event_of(columns) for _, columns in self._sound("event", which, values))

    def unsent_dead_letters(self, limit: int) -> list[tuple[int, DeadLetter]]:
        """Return the (number, dead letter)s that the utility has not acknowledged, the oldest first."""
        return self._dead_letters(f"WHERE {UNSENT_ROW} ORDER BY number LIMIT ?", (limit,))

    def dead_letters(self, *, unsent_only: bool = False) -> list[DeadLetter]:
        """Return every dead letter, or only those that the utility has not acknowledged, the oldest first."""
        which = f"WHERE {UNSENT_ROW} ORDER BY number" if unsent_only else "ORDER BY number"
        return [dead_letter for _, dead_letter in self._dead_letters(which, ())]

    def kept_dead_letters(self, wanted: DeadLetterFilter, limit: int) -> list[KeptDeadLetter]:
        """Return the newest dead letters that match ``wanted``, newest first."""
        where, values = _which(wanted)
        dead_letters = self._dead_letters(f"{where} ORDER BY number DESC LIMIT ?", (*values, limit))
        return [KeptDeadLetter(no=number, dead_letter=dead_letter) for number, dead_letter in dead_letters]

    def dead_letter_counts(self, wanted: DeadLetterFilter) -> list[tuple[int, str, int]]:
        """Return (reason, state, number) of the dead letters that match ``wanted``; a gateway's have no state."""
        where, values = _which(wanted)
        rows = self._db.execute(f"SELECT reason, count(*) FROM letter {where} GROUP BY reason", values)
        return [(reason, "", number) for reason, number in rows]

    def _dead_letters(self, which: str, values: tuple[object, ...]) -> list[tuple[int, DeadLetter]]:
        return [(number, dead_letter_of(columns)) for number, columns in self._sound("letter", which, values)]

    # Parts

    def unsent_parts(
        self, first: Quarter, before: Quarter, limit: int, flying: Collection[int], without: Collection[MeterId]
    ) -> list[Part]:
        """Return the newest parts that the utility has not acknowledged, not even as averages.

        Args:
            first: The first quarter of which parts are returned.
            before: The quarter after the last one.
            limit: Most parts returned.
            flying: Numbers of parts to leave out; they are not even read.
            without: Meters to leave out.
        """
        others, meters = _other_than(without)
        others += " AND id NOT IN (SELECT value FROM json_each(?))"
        unsent = f"{NOT_ACKNOWLEDGED} AND quarter >= ? AND quarter < ?"
        which = f"WHERE {unsent} AND {others} ORDER BY quarter DESC, id DESC LIMIT ?"
        return list(self._parts(which, (first, before, *meters, json.dumps(list(flying)), limit)))

    def block_parts(self, keys: Iterable[tuple[int, int, int]]) -> list[Part]:
        """Return all parts of the blocks named by (meter, type, quarter).

        Those of a quarter are read at once.
        """
        in_quarter: dict[int, list[tuple[int, int]]] = {}
        for meter, record_type, quarter in keys:
            in_quarter.setdefault(quarter, []).append((signed64(meter), record_type))
        blocks = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?2)"
        which = f" UNION ALL {_PARTS} ".join(
            f"{some} AND quarter = ?1 AND (meter, type) IN ({blocks})" for some in _EVERY
        )
        found: list[Part] = []
        for quarter, wanted in in_quarter.items():
            found += self._parts(which, (quarter, json.dumps(wanted)))
        return found

    def parts_after(self, number: int, first: Quarter) -> Iterator[Part]:
        """Yield the parts numbered above ``number`` of the quarters from ``first`` on."""
        yield from self._parts("NOT INDEXED WHERE id > ? AND quarter >= ?", (number, first))

    def all_parts(self, *, unsent_only: bool) -> Iterator[Part]:
        """Yield all parts, or only those that the utility has not, or only as averages, for a dump."""
        yield from self._parts(f"WHERE {UNSENT_ROW}" if unsent_only else "", ())

    def keys_between(self, first: Quarter, last: Quarter, limit: int) -> list[tuple[int, int, int]]:
        """Return the keys of the blocks of a range of quarters, the newest first."""
        some = (
            f"SELECT meter, type, quarter FROM part {which} AND quarter BETWEEN :first AND :last" for which in _EVERY
        )
        rows = self._db.execute(
            f"{' UNION '.join(some)} ORDER BY quarter DESC, meter DESC, type DESC LIMIT :limit",
            {"first": first, "last": last, "limit": limit},
        )
        return [key for row in rows if (key := _key(row))]

    def coarse_keys(self, keys: Iterable[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """Return the ``keys`` of blocks of which the utility may have averages or unknown slots, or had them once."""
        block = "quarter = ?1 AND meter = ?2 AND type = ?3"
        some = (_JOINED, f"WHERE {MAY_BE_COARSE}")
        sql = " UNION ALL ".join(f"SELECT 1 FROM part {which} AND {block}" for which in some) + " LIMIT 1"
        return {key for key in keys if self._db.execute(sql, (key[2], signed64(key[0]), key[1])).fetchone()}

    def keys_to_compact(self, before: Quarter, limit: int) -> list[tuple[int, int, int]]:
        """Return blocks of quarters before ``before`` that the utility has and the compactor has not joined."""
        # The maximum is of the rows: an index has a part whose ``relayed`` is damaged where it was before.
        rows = self._db.execute(
            f"SELECT meter, type, quarter FROM part AS p {_TO_JOIN} AND quarter < ? GROUP BY quarter, meter, type"
            f" HAVING NOT max({NOT_ACKNOWLEDGED}) AND NOT EXISTS (SELECT 1 FROM part {_UNSENT} AND quarter = p.quarter"
            " AND meter = p.meter AND type = p.type) ORDER BY quarter LIMIT ?",
            (before, limit),
        )
        return [key for row in rows if (key := _key(row))]

    def newest_part(self) -> int:
        """Return the highest number of a part; 0: there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM part").fetchone()[0])

    def new_keys(self, after: int, up_to: int, meters: Collection[MeterId]) -> list[tuple[int, int, int]]:
        """Return the keys of the parts of ``meters`` numbered above ``after``, at most ``up_to``, without joins."""
        marks = ", ".join("?" * len(meters))
        rows = self._db.execute(
            "SELECT DISTINCT meter, type, quarter FROM part NOT INDEXED"
            f" WHERE id > ? AND id <= ? AND joined = 0 AND meter IN ({marks})",
            (after, up_to, *map(signed64, meters)),
        )
        return [key for row in rows if (key := _key(row))]

    # Housekeeping

    def backlog(self) -> tuple[int, int, int]:
        """Return how many parts, events and dead letters the utility has not acknowledged."""
        parts, events, dead_letters = (
            int(self._db.execute(f"SELECT count(*) FROM {table} WHERE {unsent}").fetchone()[0])
            for table, unsent in (("part", NOT_ACKNOWLEDGED), ("event", UNSENT_ROW), ("letter", UNSENT_ROW))
        )
        return parts, events, dead_letters

    def unsent_before(self, quarter: Quarter) -> int:
        """Return how many parts of quarters before ``quarter`` the utility has not acknowledged."""
        sql = f"SELECT count(*) FROM part WHERE {NOT_ACKNOWLEDGED} AND quarter < ?"
        return int(self._db.execute(sql, (quarter,)).fetchone()[0])

    def backlog_since(self, first: Quarter = 0) -> int | None:
        """Return the oldest quarter from ``first`` on with parts that the utility has not acknowledged, or ``None``."""
        sql = f"SELECT min(quarter) FROM part WHERE {NOT_ACKNOWLEDGED} AND quarter >= ?"
        row = self._db.execute(sql, (first,)).fetchone()
        return None if row[0] is None else int(row[0])

    def oldest_backup(self, limit: int) -> tuple[int, ...]:
        """Return the numbers of the oldest acknowledged parts, by quarter."""
        joined, others = (
            f"SELECT quarter, id FROM part {which} AND relayed = {DONE} AND id > :after"
            for which in (_JOINED, _TO_JOIN)
        )
        rows = self._db.execute(
            f"{joined} UNION ALL {others} ORDER BY quarter, id LIMIT :limit",
            {"after": self.forgetting()["part"], "limit": limit},
        )
        return tuple(number for _, number in rows)

    def oldest_acknowledged(self, table: str, limit: int) -> tuple[int, ...]:
        """Return the row numbers of the oldest acknowledged events or dead letters, in order of arrival."""
        which = f"WHERE relayed = {DONE} AND rowid > ? ORDER BY rowid LIMIT ?"
        rows = self._db.execute(f"SELECT rowid FROM {table} {which}", (self.forgetting()[table], limit))
        return tuple(number for (number,) in rows)

    def examine(self, after: int, limit: int) -> int:
        """Check the parts numbered above ``after`` for damage; return the last number, 0 at the end.

        Raises:
            DamagedError: An index lacks one of them.
        """
        rows = self._db.execute("SELECT id FROM part NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        last = max((number for (number,) in rows), default=0)
        for _ in self._parts("NOT INDEXED WHERE id > ? AND id <= ?", (after, last)):
            pass  # Reading notes what is damaged.
        for sql in (_NOT_IN_BLOCK_INDEX, _NOT_IN_JOIN_INDEX, _NOT_IN_UNSENT_INDEX):
            for (number,) in self._db.execute(sql, (after, last)):
                if ("part", number) not in self.damaged:
                    raise DamagedError(f"part {number} is not in an index")
        return last

    def used_bytes(self) -> int:
        """Return the bytes of the file that are in use."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def free_bytes(self) -> int:
        """Return the bytes of the file that are free for reuse."""
        return self._pragma("freelist_count") * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


def _key(row: tuple[Any, ...]) -> tuple[int, int, int] | None:
    """Return a block's key; ``None``: it is malformed, and the row is found damaged when it is read."""
    meter, record_type, quarter = row
    if isinstance(meter, int) and isinstance(record_type, int) and isinstance(quarter, int):
        return unsigned64(meter), record_type, quarter
    return None


def _other_than(meters: Collection[MeterId]) -> tuple[str, list[int]]:
    """Return an SQL condition that leaves out ``meters``, and its values."""
    return f"meter NOT IN ({', '.join('?' * len(meters))})", [signed64(meter) for meter in meters]


def _which(wanted: DeadLetterFilter) -> tuple[str, tuple[int, ...]]:
    """Return the SQL condition for dead letters that match ``wanted``, and its values."""
    where, values = "WHERE time >= ?", [wanted.since]
    if wanted.meter is not None:
        where, values = f"{where} AND meter = ?", [*values, signed64(wanted.meter)]
    if wanted.reasons:
        marks = ", ".join("?" * len(wanted.reasons))
        where, values = f"{where} AND reason IN ({marks})", [*values, *wanted.reasons]
    return where, tuple(values)
