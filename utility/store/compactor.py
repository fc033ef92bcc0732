"""Replaces the parts of a finished quarter's blocks by their join (design 1).

It reads and joins outside any writing transaction; the one that replaces is short. It deletes exactly the parts that
were read, so a part appended meanwhile stays, and is taken in by the next run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, tuple_

from commonwatt.blocks import join
from commonwatt.packing import pack
from commonwatt.units import QUARTER_S, EpochSeconds, unsigned64
from utility.store.database import Database
from utility.store.parts import Checked, check, chunks, part_rows, select_parts, set_aside
from utility.store.tables import part

SETTLE_S = 60
"""How long after its end a quarter is left alone, since its last parts are still on their way."""

MAX_BLOCKS = 500
"""Blocks replaced in one transaction, so that what arrives waits for a moment only."""

_KEY = (part.c.meter_no, part.c.record_type, part.c.quarter)


@dataclass(frozen=True)
class Replacement:
    """What one transaction is to do.

    Attributes:
        old: Ids of the parts that were read.
        new: Rows of their joins.
        damaged: How many parts were set aside while reading.
    """

    old: list[int]
    new: list[dict[str, Any]]
    damaged: int = 0


class Compactor:
    """Compacts one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(self, now: EpochSeconds) -> Replacement | None:
        """Read and join up to ``MAX_BLOCKS`` blocks that have fresh parts; ``None`` when there are none."""
        before = (now - SETTLE_S) // QUARTER_S
        with self._database.reads.begin() as connection:
            keys = _fresh_keys(connection, before)
            rows = _parts_of(connection, keys)
        if not rows:
            return None
        checked = check(rows)
        damaged = set_aside(self._database.writes, checked.damaged) if checked.damaged else 0
        return Replacement([row.id for row in checked.rows], _joined(checked), damaged)

    def apply(self, replacement: Replacement) -> int:
        """Replace the parts; return how many blocks were made, 0 if another compactor was quicker."""
        with self._database.writes.connect() as connection, connection.begin() as transaction:
            gone = sum(
                connection.execute(delete(part).where(part.c.id.in_(ids))).rowcount for ids in chunks(replacement.old)
            )
            if gone != len(replacement.old):
                transaction.rollback()
                return 0
            if replacement.new:
                connection.execute(part.insert(), replacement.new)
        return len(replacement.new)


def _fresh_keys(connection: Connection, before: int) -> list[tuple[int, int, int]]:
    statement = (
        select(*_KEY)
        .where(~part.c.compacted, part.c.quarter < before)
        .order_by(part.c.quarter, part.c.meter_no, part.c.record_type)
        .distinct()
        .limit(MAX_BLOCKS)
    )
    return [(row.meter_no, row.record_type, row.quarter) for row in connection.execute(statement)]


def _parts_of(connection: Connection, keys: Sequence[tuple[int, int, int]]) -> list[Row[Any]]:
    if not keys:
        return []
    return list(connection.execute(select_parts().where(tuple_(*_KEY).in_(keys)).order_by(part.c.id)).all())


def _joined(checked: Checked) -> list[dict[str, Any]]:
    """Return the rows of the joins; who sent a block is who sent the last of its parts."""
    blocks = join([checked.blocks])
    latest = {(unsigned64(row.meter_id), row.record_type, row.quarter): row for row in checked.rows}
    made = []
    for key, row in zip(blocks.keys(), part_rows(blocks, pack(blocks), compacted=True), strict=True):
        last = latest[key]
        made.append(row | {name: getattr(last, name) for name in ("meter_no", "sender", "owner", "received")})
    return made
