"""Events as rows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from commonwatt.model.ids import unsigned64
from commonwatt.model.records import KNOWN_STATES, State
from commonwatt.model.units import QUARTER_S
from utility.database.database import Database
from utility.exports.columns import Rows
from utility.exports.holdings import Held, is_held
from utility.exports.resolutions import Piece
from utility.exports.selection import ExportedMeter
from utility.exports.store.blocks import exported_events

_ROWS_AT_A_TIME = 100_000


def event_rows(
    database: Database,
    meters: Sequence[ExportedMeter],
    piece: Piece,
    held: Sequence[Held] | None,
    tell: Callable[[Any], object],
) -> Iterator[Rows]:
    """Yield the rows of ``EVENTS_TABLE`` of some meters in a piece's time, and in the periods of ``held``.

    ``tell`` is called with each damaged event, which is left out.
    """
    of = {one.number: one for one in meters}
    with database.reads.begin() as connection:
        found = exported_events(connection, meters, piece.start, piece.end, tell)
        while some := list(islice(found, _ROWS_AT_A_TIME)):
            if held is not None:
                ids = np.array([of[row.meter_no].id for row in some], np.uint64)
                mine = is_held(ids, np.array([row.time for row in some], np.int64) // QUARTER_S, held)
                some = [row for row, one in zip(some, mine, strict=True) if one]
            yield {
                "meter_id": np.array([of[row.meter_no].id for row in some], np.uint64),
                "microgrid": [of[row.meter_no].microgrid for row in some],
                "time_utc": np.array([row.time for row in some], np.int64),
                "log_generation": np.array([row.generation for row in some], np.int64),
                "event_id": np.array([unsigned64(row.record_id) for row in some], np.uint64),
                "previous_state_bits": np.array([row.previous_state for row in some], np.int32),
                "new_state_bits": np.array([row.new_state for row in some], np.int32),
                "new_state": [state_text(row.new_state) for row in some],
                "sender": [row.sender for row in some],
            }


def state_text(bits: int) -> str:
    """Return the names of a state's bits; unknown ones as a hexadecimal number."""
    names = [bit.name.lower() for bit in State if bit & bits and bit.name]
    unknown = bits & ~KNOWN_STATES
    return " ".join([*names, *([f"{unknown:#06x}"] if unknown else [])])
