"""Reads parts and blocks: selects, checks, unpacks and joins them, and quarantines damaged ones."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Integer,
    Row,
    Select,
    and_,
    delete,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from commonwatt.codec.packing import is_intact, unpack_sound
from commonwatt.model.blocks import Blocks, Keys, empty, join
from commonwatt.model.records import RecordType
from commonwatt.model.units import MeterId, Quarter, unsigned64
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterSource, LocalReason
from utility.database.database import Database, insert_or
from utility.database.engines import BINARY, Lock, take
from utility.readings.gaps import ALL_SLOTS
from utility.readings.store.batches import EVERY, execute, fresh, take_apart
from utility.readings.store.dead_letters import dead_letter_row
from utility.readings.tables import compacted, dead_letter, gap, part
from utility.registry.tables import controller, meter

log = logging.getLogger(__name__)

CHUNK_ROWS = 5_000  # parts unpacked at once
MAX_IN = 500  # most values in one ``IN`` list; every database supports this many
# Most quarters in one statement about few meters; the key begins with the quarter, so each is a lookup.
QUARTERS_AT_A_TIME = 1_000
QUARANTINED_AT_A_TIME = 100  # damaged parts moved in one transaction, so that arriving batches wait only briefly
TRIED_ROWS = 50  # damaged parts of one call whose true key is searched: it may be of any meter of the town

KEY_NAMES = ("quarter", "meter_no", "record_type")  # the key of a block in the database, in the order of the indexes

ORIGIN_NAMES = ("sender_no", "owner_no", "received_minute")


class _RowId(ColumnElement[int]):
    """The rowid of ``compacted`` on SQLite; NULL elsewhere."""

    inherit_cache = True
    # Without it, statements with this element have no key, and are compiled at each execution.
    _traverse_internals = [("type", InternalTraversal.dp_type)]  # noqa: RUF012
    type = BigInteger()


@compiles(_RowId)
def _no_rowid(*_: object, **__: object) -> str:
    return "CAST(NULL AS BIGINT)"


@compiles(_RowId, "sqlite")
def _rowid(*_: object, **__: object) -> str:
    return "compacted.rowid"


_PlaceKey: TypeAlias = tuple[int, int, int]  # a meter's number, a record type and a quarter
# Returns the condition on the columns of ``part``, or of ``compacted``, that selects the rows.
Which: TypeAlias = "Callable[[Any], ColumnElement[bool]]"


def select_parts(which: Which) -> CompoundSelect[Any]:
    """Return the select of parts and blocks; its rows have the columns that ``check`` and the compactor need."""
    return union_all(select_compacted(which), select_fresh(which))


def select_fresh(which: Which) -> Select[Any]:
    """Return the select, for ``execute``, of parts that are not compacted, those of batches too."""
    return _select_from(fresh, fresh.c.id, which)


def select_stored(which: Which) -> Select[Any]:
    """Return the select of parts that are not compacted, and in no batch."""
    return _select_from(part, part.c.id, which)


def count_fresh(connection: Connection, first: Quarter, until: Quarter) -> int:
    """Return how many parts of a period are not compacted yet: their readings are in no sum."""
    statement = select(func.count(fresh.c.quarter)).where(fresh.c.quarter.between(first, until - 1))
    return int(execute(connection, statement, quarters=range(first, until)).scalar_one())


def select_compacted(which: Which) -> Select[Any]:
    """Return the select of compacted blocks."""
    return _select_from(compacted, _RowId(), which)


def _select_from(table: FromClause, number: ColumnElement[int], which: Which) -> Select[Any]:
    columns = [table.c[name] for name in (*KEY_NAMES, *ORIGIN_NAMES, "payload")]
    is_compacted = literal_column(str(int(table is compacted)), Integer).label("is_compacted")
    statement = select(number.label("id"), is_compacted, meter.c.id.label("meter_id"), *columns)
    return statement.join_from(table, meter, meter.c.no == table.c.meter_no).where(which(table.c))


def select_payloads(which: Which) -> CompoundSelect[Any]:
    """Return the select of parts and blocks that ``read_payloads`` reads: of few columns, which take less time."""
    names = ("meter_no", "record_type", "quarter", "payload")
    each = (select(*(table.c[name] for name in names)).where(which(table.c)) for table in (compacted, fresh))
    return union_all(*each)


def as_rows(columns: Mapping[str, Iterable[object]]) -> list[dict[str, Any]]:
    """Return rows made of columns."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, eq=False)
class Checked:
    """The result of checking parts or blocks."""

    rows: list[Row[Any]]  # the sound rows
    blocks: Blocks  # the sound rows unpacked, one by one, not joined
    damaged: list[Row[Any]]  # the damaged rows


def check(rows: Sequence[Row[Any]]) -> Checked:
    """Unpack parts or blocks, and separate the damaged ones."""
    if (keys_of_all := _keys_of(rows)) is not None:
        blocks, damaged = unpack_sound(keys_of_all, [row.payload for row in rows])
        if not damaged:
            return Checked(list(rows), blocks, [])
    likely = [row for row in rows if _is_likely(row)]
    keys = [(unsigned64(row.meter_id), row.record_type, row.quarter) for row in likely]
    blocks, damaged = unpack_sound(keys, [row.payload for row in likely])
    if len(likely) == len(rows) and not damaged:
        return Checked(likely, blocks, [])
    apart = [likely[i] for i in damaged] + [row for row in rows if not _is_likely(row)]
    unsound = set(damaged)
    return Checked([row for i, row in enumerate(likely) if i not in unsound], blocks, apart)


def _keys_of(rows: Sequence[Row[Any]]) -> Keys | None:
    """Return the keys of rows whose values all have the right types, by whole columns; ``None`` if one has not."""
    if not rows:
        return None
    columns = dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))
    numbers = [columns[name] for name in ("meter_id", "record_type", "quarter")]
    if any({*map(type, each)} != {int} for each in numbers) or {*map(type, columns["payload"])} != {bytes}:
        return None
    ids, types, quarters = (np.array(each, np.int64) for each in numbers)
    if types.min() < 0 or types.max() >= 2**8 or quarters.min() < 0 or quarters.max() >= 2**32:
        return None
    return Keys(ids.view(np.uint64), types.astype(np.uint8), quarters.astype(np.uint32))


def ids_by_number(numbers: Mapping[MeterId, int]) -> npt.NDArray[np.uint64]:
    """Return the meters' ids at their numbers; 0 elsewhere."""
    found = np.zeros(max(numbers.values(), default=0) + 1, np.uint64)
    found[list(numbers.values())] = np.array(list(numbers), np.uint64)
    return found


def read_payloads(
    connection: Connection,
    statement: CompoundSelect[Any],
    values: Mapping[str, object],
    ids: npt.NDArray[np.uint64],
    quarters: Collection[Quarter],
) -> Blocks | None:
    """Return the joined parts of ``select_payloads`` of the meters that have an id; ``None`` if one is damaged."""
    ours = np.flatnonzero(ids).tolist()
    # The driver's own rows: they are a town's.
    rows = execute(connection, statement, values, quarters=quarters, meters=ours, options=_BINARY).cursor.fetchall()
    if not rows:
        return empty()
    *keys, payloads = zip(*rows, strict=True)
    if any({*map(type, each)} != {int} for each in keys) or {*map(type, payloads)} != {bytes}:
        return None
    numbers, types, starts = (np.array(each, np.int64) for each in keys)
    if min(numbers.min(), types.min(), starts.min()) < 0 or types.max() >= 2**8 or starts.max() >= 2**32:
        return None
    meters = ids[np.where(numbers < len(ids), numbers, 0)]
    known = np.flatnonzero(meters)
    if len(known) < len(rows):
        meters, types, starts = meters[known], types[known], starts[known]
        payloads = tuple(payloads[row] for row in known.tolist())
    whole = Keys(meters, types.astype(np.uint8), starts.astype(np.uint32))
    found: list[Blocks] = []
    for some in chunks(range(len(payloads)), CHUNK_ROWS):
        blocks, damaged = unpack_sound(whole.take(np.array(some)), payloads[some[0] : some[-1] + 1])
        if damaged:
            return None
        found.append(blocks)
    return join(found)


def _is_likely(row: Row[Any]) -> bool:
    """Return whether a row's values have the right types: a damaged row in SQLite may have any."""
    return (
        isinstance(row.record_type, int)
        and 0 <= row.record_type < 2**8
        and isinstance(row.quarter, int)
        and 0 <= row.quarter < 2**32
        and isinstance(row.payload, bytes)
    )


_BINARY = {BINARY: True}


class PartReader:
    """Reads joined blocks, and quarantines damaged parts in ``finish``."""

    def __init__(self, database: Database) -> None:
        self.damaged = 0  # the number of parts quarantined so far
        self._database = database
        self._found: list[Row[Any]] = []

    def read(
        self,
        connection: Connection,
        statement: CompoundSelect[Any],
        values: Mapping[str, object] | None = None,
        *,
        quarters: Collection[Quarter] = EVERY,
        meters: Collection[int] | None = None,
    ) -> Blocks:
        """Return the joined parts of ``statement``, from ``select_parts``, with its parameters ``values``.

        ``quarters`` and ``meters`` are all that it selects, or more.
        """
        rows = execute(connection, statement, values, quarters=quarters, meters=meters, options=_BINARY)
        checked = check(rows.all())
        self._found += checked.damaged
        return join([checked.blocks])

    def stream(
        self,
        connection: Connection,
        statement: CompoundSelect[Any],
        values: Mapping[str, object] | None = None,
        *,
        quarters: Collection[Quarter] = EVERY,
        meters: Collection[int] | None = None,
    ) -> Iterator[Blocks]:
        """Yield the joined parts of ``statement`` in chunks, in the order of quarter, meter number and type.

        ``quarters`` and ``meters`` are all that it selects, or more. Read the chunks before the next statement.
        """
        options = {**_BINARY, "yield_per": 1_000}
        rows = execute(connection, _ordered(statement), values, quarters=quarters, meters=meters, options=options)
        for chunk in _by_key(rows):
            checked = check(chunk)
            self._found += checked.damaged
            yield join([checked.blocks])

    def finish(self) -> None:
        """Quarantine the damaged parts found; don't call it while this thread has an open read transaction."""
        found, self._found = self._found, []
        if found:
            self.damaged += quarantine(self._database, found)


@contextmanager
def reading(database: Database) -> Iterator[tuple[Connection, PartReader]]:
    """Give a read transaction and its reader; after it the damaged parts found are quarantined."""
    reader = PartReader(database)
    with database.reads.begin() as connection:
        yield connection, reader
    reader.finish()


@lru_cache(64)
def _ordered(statement: CompoundSelect[Any]) -> CompoundSelect[Any]:
    return statement.order_by(*KEY_NAMES)


def _by_key(rows: Iterable[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Yield chunks of ordered rows, with all rows of a block in one chunk."""
    chunk: list[Row[Any]] = []
    for row in rows:
        if len(chunk) >= CHUNK_ROWS and key_of(row) != key_of(chunk[-1]):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk


def key_of(row: Row[Any]) -> tuple[int, int, int]:
    """Return a row's key, in the order of ``KEY_NAMES``."""
    return row.quarter, row.meter_no, row.record_type


def quarantine(database: Database, rows: Sequence[Row[Any]]) -> int:
    """Move damaged parts to the dead letters, and mark their slots to be requested again; return the count moved."""
    found = list(zip(rows, _possible_keys(database, rows), strict=True))
    return sum(_quarantine(database, some) for some in chunks(found, QUARANTINED_AT_A_TIME))


def _quarantine(database: Database, found: Sequence[tuple[Row[Any], set[_PlaceKey]]]) -> int:
    moved = 0
    keys: set[_PlaceKey] = set()
    with database.writes.begin() as connection:
        for row, possible in found:
            if not _take_out(connection, row):
                continue  # Another reader found it too.
            kept = DeadLetter(
                meter=unsigned64(row.meter_id),
                log=DeadLetterSource.UNKNOWN,
                reason=LocalReason.DAMAGED_PART,
                generation=0,
                record_id=row.id or 0,
                time=row.received_minute * 60 if isinstance(row.received_minute, int) else 0,
                content=row.payload if isinstance(row.payload, bytes) else repr(row.payload).encode(),
            )
            named = select(controller.c.id).where(controller.c.number == row.sender_no)
            sender = connection.execute(named).scalar() or "unknown"
            connection.execute(
                insert_or(connection, dead_letter).on_conflict_do_nothing(), [dead_letter_row(sender, kept)]
            )
            moved += 1
            keys |= possible
        if keys:
            take(connection, Lock.GAPS)
        for key in keys:
            _ask_again(connection, key)
    database.count_damaged(moved)
    return moved


def _possible_keys(database: Database, rows: Sequence[Row[Any]]) -> list[set[_PlaceKey]]:
    """Return the keys that each damaged row may have had: as read, and of the first rows the one that fits."""
    with database.reads.begin() as connection:
        meters = [(row.no, unsigned64(row.id)) for row in connection.execute(select(meter.c.no, meter.c.id))]
    found: list[set[_PlaceKey]] = []
    for number, row in enumerate(rows):
        keys = {(row.meter_no, row.record_type, row.quarter)} if _is_likely(row) else set()
        if keys and number < TRIED_ROWS:
            keys.add(_true_key(meters, row))
        found.append(keys)
    return found


def _take_out(connection: Connection, row: Row[Any]) -> bool:
    """Delete a row if it is unchanged since it was read; return whether it was."""
    if not row.is_compacted and row.id < 0:
        # Its other parts stay; another reader may have taken it apart already.
        take_apart(connection, -row.id)
        same = and_(*(part.c[name] == getattr(row, name) for name in (*KEY_NAMES, "payload")))
        return bool(connection.execute(delete(part).where(same)).rowcount)
    if not row.is_compacted:
        return bool(connection.execute(delete(part).where(part.c.id == row.id)).rowcount)
    if connection.dialect.name == "sqlite":
        # Any of its values may be damaged, so an index may lead to another row.
        found = connection.execute(text("SELECT payload FROM compacted WHERE rowid = :id"), {"id": row.id}).first()
        if found is None or found.payload != row.payload:
            return False
        return bool(connection.execute(text("DELETE FROM compacted WHERE rowid = :id"), {"id": row.id}).rowcount)
    key = and_(*(compacted.c[name] == getattr(row, name) for name in KEY_NAMES))
    return bool(connection.execute(delete(compacted).where(key, compacted.c.payload == row.payload)).rowcount)


def _true_key(meters: Sequence[tuple[int, MeterId]], row: Row[Any]) -> _PlaceKey:
    """Return the key that fits the payload's checksum, if only one part of the key is damaged; else the key as read."""
    for number, meter_id in meters:
        if is_intact((meter_id, row.record_type, row.quarter), row.payload):
            return number, row.record_type, row.quarter
    for kind in RecordType:
        if is_intact((unsigned64(row.meter_id), int(kind), row.quarter), row.payload):
            return row.meter_no, int(kind), row.quarter
    for bit in range(32):
        if is_intact((unsigned64(row.meter_id), row.record_type, row.quarter ^ 1 << bit), row.payload):
            return row.meter_no, row.record_type, row.quarter ^ 1 << bit
    return row.meter_no, row.record_type, row.quarter


def _ask_again(connection: Connection, place: _PlaceKey) -> None:
    new = {"mask": ALL_SLOTS, "absent": 0, "asked": 0, "next_time": 0, "is_open": True}
    key = dict(zip(("meter_no", "record_type", "quarter"), place, strict=True))
    statement = insert_or(connection, gap).values(**key, **new)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=new))


def chunks(items: Sequence[Any], size: int = MAX_IN) -> Iterator[Sequence[Any]]:
    """Yield ``items`` in slices of at most ``size``."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
