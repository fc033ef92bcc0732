"""Slots with more than one value: each value is shown with the controllers that sent it.

A block whose parts all came from one controller names that controller. For a block from several, the compactor records
the sender of each conflicting value when it joins the parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, bindparam, desc, select

from commonwatt.model.blocks import Blocks
from commonwatt.model.units import QUARTER_S, SLOT_S
from utility.database.database import Database, insert_or
from utility.database.keys import is_one_of, listed
from utility.readings.store.parts import KEY_NAMES, check, chunks, quarantine, select_compacted
from utility.readings.tables import conflict_sender
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
