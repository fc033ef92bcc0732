"""Dead letters in the database: rows made of letters, and letters found again."""

import zlib
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from commonwatt.model.units import signed64, unsigned64
from commonwatt.protocol.batches import MAX_LETTER_BYTES, Letter
from commonwatt.protocol.dead_letter_words import text_of
from commonwatt.protocol.dead_letters import Kept, Wanted
from utility.store.tables import letter


def letter_row(sender: str, kept: Letter, state: str = "") -> dict[str, object]:
    """Return the columns of a letter."""
    content = kept.content[:MAX_LETTER_BYTES]
    return {
        "meter": signed64(kept.meter),
        "log": kept.log,
        "generation": kept.generation,
        "record_id": signed64(kept.record_id),
        "reason": kept.reason,
        "crc": zlib.crc32(content),
        "time": kept.time,
        "sender": sender,
        "content": content,
        "state": state,
    }


def letter_of(row: Row[Any]) -> Kept:
    """Return the letter of a row."""
    return Kept(
        no=row.no,
        sender=row.sender,
        letter=Letter(
            meter=unsigned64(row.meter),
            log=row.log,
            reason=row.reason,
            generation=row.generation,
            record_id=unsigned64(row.record_id),
            time=row.time,
            content=row.content,
        ),
        state=row.state,
        decided=text_of(row.decided, row.decided_by, row.why),
    )


def letters(connection: Connection, limit: int, wanted: Wanted | None = None) -> list[Kept]:
    """Return the newest letters that are wanted, newest first."""
    which = _which(wanted or Wanted())
    return [
        letter_of(row)
        for row in connection.execute(select(letter).where(which).order_by(letter.c.no.desc()).limit(limit))
    ]


def letter_counts(connection: Connection, wanted: Wanted) -> list[tuple[int, str, int]]:
    """Return (reason, state, how many) of the letters that are wanted."""
    columns = (letter.c.reason, letter.c.state)
    statement = select(*columns, func.count()).where(_which(wanted)).group_by(*columns)
    return [(reason, state, number) for reason, state, number in connection.execute(statement)]


def _which(wanted: Wanted) -> ColumnElement[bool]:
    conditions = [letter.c.time >= wanted.since]
    if wanted.meter is not None:
        conditions.append(letter.c.meter == signed64(wanted.meter))
    if wanted.reasons:
        conditions.append(letter.c.reason.in_(wanted.reasons))
    if wanted.state:
        conditions.append(letter.c.state == wanted.state)
    return and_(*conditions)
