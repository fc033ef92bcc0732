"""Compacts finished quarters: replaces parts by their joined blocks, and notes conflicts (docs/architecture.md).

It reads and joins outside any writing transaction. The transaction that replaces is short, and locks no row that an
append needs. It deletes exactly the parts that were read: a part appended meanwhile stays for the next run.

A slot with more than one value is a conflict: each value is shown with the controllers that sent it. A block whose
parts all came from one controller names that controller. For a block from several, the compactor records the sender of
each conflicting value when it joins the parts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, and_, bindparam, delete, desc, select, text
from sqlalchemy.exc import IntegrityError

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, join
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, Quarter
from utility.database.bulk import insert_columns, is_one_of, listed
from utility.database.database import Database, insert_or
from utility.database.engines import Lock, take
from utility.database.numbers import Column
from utility.database.postgres.partitions import make_partitions, month_of
from utility.readings.flows import summaries
from utility.readings.store.batches import WAITING, part_rows
from utility.readings.store.parts import (
    KEY_NAMES,
    ORIGIN_NAMES,
    Checked,
    check,
    chunks,
    key_of,
    quarantine,
    select_compacted,
    select_stored,
)
from utility.readings.store.quarters import mark_joined
from utility.readings.tables import batch, compacted, conflict_sender, gap, part
from utility.registry.store.registry import NOBODY, controller_numbers

_Value = tuple[int, int, int, int, int]  # (quarter, number of the meter, record type, slot, value)

_CONFLICTS = select_compacted(lambda c: c.conflicts > 0).order_by(desc("quarter"))
# The index of conflicts begins with the microgrid.
_OF_METER = select_compacted(
    lambda c: (c.conflicts > 0) & (c.owner_no == bindparam("owner")) & (c.meter_no == bindparam("number"))
).order_by(desc("quarter"))
_SENDERS = select(conflict_sender).where(is_one_of(tuple(conflict_sender.c[name] for name in KEY_NAMES)))


def senders_of(
    rows: Sequence[Row[Any]], parts: Blocks, joined: Blocks, of: npt.NDArray[np.intp]
) -> list[dict[str, int]]:
    """Return which controller sent each value of the conflicts of some joined blocks.

    Args:
        parts: The parts, unpacked.
        joined: The blocks that the parts become.
        of: The row of each part's joined block; -1: its senders are not needed.
    """
    slots = [np.unique(joined.extras["slot"][joined.extras["row"] == block]) for block in range(len(joined))]
    found = []
    for at in np.flatnonzero(of >= 0).tolist():
        row, block = rows[at], int(of[at])
        values = [(slot, int(parts.values[at, slot])) for slot in slots[block].tolist()] + parts.extras_of(at)
        found += [
            {name: getattr(row, name) for name in (*KEY_NAMES, "sender_no")} | {"slot": slot, "value": value}
            for slot, value in values
            if slot in slots[block] and parts.quality[at, slot] == joined.quality[block, slot]
        ]
    return [one for one in found if one["sender_no"] != NOBODY]


def note_senders(connection: Connection, senders: list[dict[str, int]]) -> None:
    """Store which controller sent each value of some conflicts."""
    if senders:
        connection.execute(insert_or(connection, conflict_sender).on_conflict_do_nothing(), senders)


def conflicts(database: Database, limit: int, of: tuple[int, int] | None = None) -> list[dict[str, object]]:
    """Return the slots of compacted blocks with more than one value at their best quality, newest block first.

    ``senders`` of a value is empty if unknown: in blocks compacted by version 0.1.

    Args:
        limit: How many blocks at most.
        of: The numbers of the only meter that is wanted and of its microgrid's controller; ``None``: all meters.
    """
    with database.reads.begin() as connection:
        wanted, which = (_CONFLICTS, None) if of is None else (_OF_METER, {"number": of[0], "owner": of[1]})
        checked = check(connection.execute(wanted.limit(limit), which).all())
        names = {number: name for name, number in controller_numbers(connection).items()}
        noted = _noted(connection, [row for row in checked.rows if row.sender_no == NOBODY])
    if checked.damaged:
        quarantine(database, checked.damaged)
    blocks = checked.blocks
    found: dict[tuple[int, int], set[int]] = {}
    for extra in blocks.extras:
        at, slot = int(extra["row"]), int(extra["slot"])
        found.setdefault((at, slot), {int(blocks.values[at, slot])}).add(int(extra["value"]))
    told = []
    for (at, slot), values in found.items():
        row = checked.rows[at]
        key = (row.quarter, row.meter_no, row.record_type, slot)
        senders = {value: noted.get((*key, value), set()) or {row.sender_no} for value in values}
        told.append(
            {
                "meter": str(blocks.key(at)[0]),
                "type": row.record_type,
                "start": row.quarter * QUARTER_S + slot * SLOT_S,
                "quality": int(blocks.quality[at, slot]),
                "values": [
                    {"value": value, "senders": sorted(names[no] for no in senders[value] if no in names)}
                    for value in sorted(values)
                ],
            }
        )
    return told


def _noted(connection: Connection, rows: Sequence[Row[Any]]) -> dict[_Value, set[int]]:
    found: dict[_Value, set[int]] = {}
    for some in chunks([tuple(getattr(row, name) for name in KEY_NAMES) for row in rows]):
        for one in connection.execute(_SENDERS, listed(some)):
            key = one.quarter, one.meter_no, one.record_type, one.slot, one.value
            found.setdefault(key, set()).add(one.sender_no)
    return found


SETTLE_S = 60  # seconds after a quarter's end before it is compacted, since its last parts are still arriving
MAX_PARTS = 5_000  # most parts replaced by one transaction, so that arriving batches wait only briefly


@dataclass(frozen=True)
class Replacement:
    """The work of one transaction."""

    parts: set[int]  # ids of the parts that were read; of parts in batches the ids of these, negative
    old: list[dict[str, Any]]  # the existing blocks that were read, since new parts arrived for them
    new: dict[str, Column]  # the joined blocks, as columns
    payloads: list[bytes]  # the payloads of the joined blocks
    senders: list[dict[str, int]]  # which controller sent each conflicting value, for blocks from several controllers
    damaged: int = 0  # how many parts and blocks were quarantined while reading

    @property
    def quarters(self) -> set[Quarter]:
        """The quarters of the new blocks."""
        return set(np.unique(self.new["quarter"].values).tolist())


class Compactor:
    """Compacts one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Row[Any]] = []  # batches that were there when their list was read, by owner

    def plan(self, now: EpochSeconds) -> Replacement | None:
        """Read and join up to ``MAX_PARTS`` parts with their existing blocks; ``None`` when there are no parts."""
        before = (now - SETTLE_S) // QUARTER_S
        with self._database.reads.begin() as connection:
            _use_indexes(connection)
            # Parts of one key are in the order of their arrival.
            fresh = connection.execute(_PARTS, {"before": before}).all() or self._of_batches(connection, before)
            old = _old_of(connection, fresh) if fresh else []
        if not fresh:
            return None
        checked = check([*old, *fresh])
        damaged = quarantine(self._database, checked.damaged) if checked.damaged else 0
        return _replacement(checked, damaged)

    def _of_batches(self, connection: Connection, before: Quarter) -> list[Any]:
        """Return the parts of the next batches, all those of an owner together."""
        fresh: list[Any] = []
        while not fresh:
            self._waiting = self._waiting or [*connection.execute(WAITING, {"before": before})]
            if not self._waiting:
                return []
            number = _count_together(self._waiting)
            some, self._waiting = self._waiting[:number], self._waiting[number:]
            fresh = [*part_rows(connection, [row.id for row in some], before)]
        return fresh

    def apply(self, replacement: Replacement) -> int:
        """Replace the parts; return how many blocks were made: 0 if another compactor was faster."""
        if not self._database.has_one_writer:
            self._database.write(make_partitions, {month_of(quarter) for quarter in replacement.quarters})
        with self._database.writes.connect() as connection, connection.begin() as transaction:
            if not _take_out(connection, replacement):
                transaction.rollback()
                return 0
            try:
                made = insert_columns(connection, compacted, replacement.new, replacement.payloads)
            except IntegrityError:
                # Another compactor has made one of these blocks, from a part that arrived after the read.
                transaction.rollback()
                return 0
            note_senders(connection, replacement.senders)
            # Before the lock of gaps, as the writer does: else the two could deadlock on a server.
            owners = (replacement.new[name].values.tolist() for name in ("quarter", "owner_no"))
            joined = set(zip(*owners, strict=True))
            mark_joined(connection, joined)
            _mark_gaps(connection, replacement)
        return made


# Statements are made once: making one takes longer than executing it.

_KEY_OF_PART = [part.c[name] for name in KEY_NAMES]
_PARTS = select_stored(lambda c: c.quarter < bindparam("before")).order_by(*_KEY_OF_PART, part.c.id).limit(MAX_PARTS)
_WITHIN: Any = (bindparam("first"), bindparam("last"))
_OLD_OF = select_compacted(lambda c: is_one_of([c[name] for name in KEY_NAMES]))
_DELETE = {
    "postgresql": "DELETE FROM {} WHERE id = ANY(CAST(:ids AS BIGINT[]))",
    "sqlite": "DELETE FROM {} WHERE id IN (SELECT value FROM json_each(:ids))",
}
_DELETE_BLOCK = delete(compacted).where(
    and_(*(compacted.c[name] == bindparam(f"of_{name}") for name in (*KEY_NAMES, "payload")))
)
_GAPS_WITHIN = select(*(gap.c[name] for name in KEY_NAMES)).where(gap.c.quarter.between(*_WITHIN))
_TOUCH = (
    gap.update()
    .where(and_(*(gap.c[name] == bindparam(f"of_{name}") for name in KEY_NAMES)))
    .values(touched=gap.c.touched + 1)
)


def _use_indexes(connection: Connection) -> None:
    """Make a PostgreSQL server use indexes and join by loops, which keep the order, regardless of its statistics.

    The statistics of a table that is empty one minute and has millions of rows the next are always wrong. A sort of the
    whole table, or a scan of all blocks for each part, in each of many small steps, would take hours. A sort that can't
    be avoided, of a few waiting batches, gets a cost for which the server would compile it, in 60 ms.
    """
    if connection.dialect.name == "postgresql":
        ways = {"seqscan": False, "bitmapscan": False, "sort": False}
        ways |= {"nestloop": True, "hashjoin": False, "mergejoin": False}
        settings = [f"set_config('enable_{way}', '{'on' if on else 'off'}', true)" for way, on in ways.items()]
        connection.exec_driver_sql(f"SELECT {', '.join(settings)}, set_config('jit', 'off', true)")


def _old_of(connection: Connection, fresh: Sequence[Any]) -> list[Any]:
    """Return the existing blocks of some parts."""
    # A damaged part in SQLite may have any values as its key.
    sound = sorted(key for key in {key_of(row) for row in fresh} if {*map(type, key)} == {int})
    return list(connection.execute(_OLD_OF, listed(sound)))


def _count_together(batches: Sequence[Row[Any]]) -> int:
    """Return how many batches, by owner, to compact together: of whole owners, or the first of one with many parts."""
    parts = np.cumsum([row.blocks for row in batches[: MAX_PARTS + 1]])
    most = max(1, int(np.searchsorted(parts, MAX_PARTS, side="right")))
    owners = [row.owner_no for row in batches[: most + 1]]
    return most if most == len(batches) else owners.index(owners[-1]) or most


def _replacement(checked: Checked, damaged: int) -> Replacement:
    """Join checked rows. A block of one part keeps its received payload; one of several controllers has no sender."""
    parts = checked.blocks
    blocks = join([parts])
    # The order of ``join``; rows of one key stay in the order of their arrival.
    order = np.lexsort((parts.quarter, parts.record_type, parts.meter))
    changed = [np.diff(column[order]) != 0 for column in (parts.meter, parts.record_type, parts.quarter)]
    starts = np.concatenate(([0], np.flatnonzero(np.logical_or.reduce(changed)) + 1)) if len(order) else order
    ends = np.append(starts[1:], len(order))
    last = [checked.rows[row] for row in order[ends - 1].tolist()] if len(order) else []
    payloads = [row.payload for row in last]
    joined = np.flatnonzero(ends - starts > 1)
    for at, payload in zip(joined.tolist(), pack(blocks.take(joined)), strict=True):
        payloads[at] = payload
    new = {name: _numbers(last, name) for name in (*KEY_NAMES, *ORIGIN_NAMES)} | summaries(blocks)
    senders = []
    by_part = _numbers(checked.rows, "sender_no").values
    mixed = _differ(by_part[order], starts)
    if mixed.any():
        new["sender_no"] = Column(np.where(mixed, NOBODY, new["sender_no"].values))
        of = np.empty(len(order), np.intp)
        of[order] = np.where(mixed, np.arange(len(starts)), -1).repeat(ends - starts)
        senders = senders_of(checked.rows, parts, blocks, of)
    # In the order of the key, so that new blocks go to the end of the index and leave its pages full.
    ordered = np.lexsort([new[name].values for name in reversed(KEY_NAMES)])
    old = [
        {f"of_{name}": getattr(row, name) for name in (*KEY_NAMES, "payload")}
        for row in checked.rows
        if row.is_compacted == 1
    ]
    ids = {row.id for row in checked.rows if not row.is_compacted}
    new = {name: column.take(ordered) for name, column in new.items()}
    return Replacement(
        parts=ids,
        old=old,
        new=new,
        payloads=[payloads[row] for row in ordered.tolist()],
        senders=senders,
        damaged=damaged,
    )


def _differ(numbers: npt.NDArray[np.int64], starts: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return which groups, each beginning at one of ``starts``, contain different numbers."""
    if not len(numbers):
        return np.zeros(0, np.bool_)
    different: npt.NDArray[np.bool_] = np.maximum.reduceat(numbers, starts) != np.minimum.reduceat(numbers, starts)
    return different


def _numbers(rows: Sequence[Row[Any]], name: str) -> Column:
    """Return a column of some rows, 0 for a value of the wrong type; the origin columns have no checksum."""
    values = [getattr(row, name) for row in rows]
    return Column(np.array([value if isinstance(value, int) else 0 for value in values], np.int64))


def _take_out(connection: Connection, replacement: Replacement) -> bool:
    """Delete the rows that were read; return whether all of them still existed."""
    name = connection.dialect.name
    for table, sign in ((part.name, 1), (batch.name, -1)):
        ids = [number * sign for number in replacement.parts if number * sign > 0]
        values = {"ids": json.dumps(ids) if name == "sqlite" else ids}
        if ids and connection.execute(text(_DELETE[name].format(table)), values).rowcount != len(ids):
            return False
    # Nearly always there are none: a block gets new parts only when data arrives late.
    return not replacement.old or connection.execute(_DELETE_BLOCK, replacement.old).rowcount == len(replacement.old)


def _mark_gaps(connection: Connection, replacement: Replacement) -> None:
    """Make the gap finder check the compacted blocks that it watches again."""
    if quarters := replacement.quarters:
        keys = set(zip(*(replacement.new[name] for name in KEY_NAMES), strict=True))
        within = {"first": min(quarters), "last": max(quarters)}
        watched = [key_of(row) for row in connection.execute(_GAPS_WITHIN, within)]
        touched = [
            {f"of_{name}": value for name, value in zip(KEY_NAMES, key, strict=True)} for key in watched if key in keys
        ]
        if touched:
            take(connection, Lock.GAPS)
            connection.execute(_TOUCH, touched)
