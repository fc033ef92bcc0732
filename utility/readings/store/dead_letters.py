"""Dead letters in the database: conversion to and from rows, and queries."""

import zlib
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, select

from commonwatt.look.dead_letter_words import text_of
from commonwatt.model.units import ControllerId, signed64, unsigned64
from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES, DeadLetter, DeadLetterFilter, KeptDeadLetter
from utility.readings.tables import dead_letter


def dead_letter_row(sender: ControllerId, kept: DeadLetter, state: str = "") -> dict[str, object]:
    """Return the columns of a dead letter."""
    content = kept.content[:MAX_DEAD_LETTER_BYTES]
    ids = {"meter": signed64(kept.meter), "record_id": signed64(kept.record_id)}
    return vars(kept) | ids | {"crc": zlib.crc32(content), "sender": sender, "content": content, "state": state}


def dead_letter_of(row: Row[Any]) -> KeptDeadLetter:
    """Return the dead letter of a row."""
    same = {name: getattr(row, name) for name in ("log", "reason", "generation", "time", "content")}
    found = DeadLetter(meter=unsigned64(row.meter), record_id=unsigned64(row.record_id), **same)
    decided = text_of(row.decided, row.decided_by, row.why)
    return KeptDeadLetter(no=row.no, sender=row.sender, dead_letter=found, state=row.state, decided=decided)


def dead_letters(
    connection: Connection, limit: int, wanted: DeadLetterFilter | None = None, before: int | None = None
) -> list[KeptDeadLetter]:
    """Return at most ``limit`` dead letters that match ``wanted``, newest first; only numbers below ``before``."""
    which = _which(wanted or DeadLetterFilter())
    if before is not None:
        which &= dead_letter.c.no < before
    return [
        dead_letter_of(row)
        for row in connection.execute(select(dead_letter).where(which).order_by(dead_letter.c.no.desc()).limit(limit))
    ]


def find_dead_letter(connection: Connection, no: int) -> KeptDeadLetter | None:
    """Return a dead letter, or ``None``."""
    row = connection.execute(select(dead_letter).where(dead_letter.c.no == no)).one_or_none()
    return None if row is None else dead_letter_of(row)


def _which(wanted: DeadLetterFilter) -> ColumnElement[bool]:
    conditions = [dead_letter.c.time >= wanted.since]
    if wanted.meter is not None:
        conditions.append(dead_letter.c.meter == signed64(wanted.meter))
    if wanted.reasons:
        conditions.append(dead_letter.c.reason.in_(wanted.reasons))
    if wanted.state:
        conditions.append(is_in(wanted.state))
    return and_(*conditions)


def is_in(state: str) -> ColumnElement[bool]:
    """Return the condition that a dead letter is in a state of a decision.

    It contains the condition of the index on states, without which SQLite reads all dead letters.
    """
    return and_(dead_letter.c.state == state, dead_letter.c.state != "")
