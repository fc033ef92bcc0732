"""The emulated plant's tables, in the same SQLite file and transaction as the physics of its host.

It has the form of a ``commonwatt.device.store.Extension``; a host with an extension of its own calls ``write`` there.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from pydantic import TypeAdapter

from commonwatt.device.store import DeviceStore
from commonwatt.protocol.plant_messages import PlantQuarter
from meter_sim.plant_core import KEPT_QUARTERS, PlantState

_STATE = TypeAdapter(PlantState)


class PlantTables:
    """The plant's state, one row, and its finished quarters."""

    tables = ""
    checked: tuple[str, ...] = ("plant",)
    added: Mapping[str, str] = {
        "plant": "CREATE TABLE plant (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL)",
        "plant_quarter": "CREATE TABLE plant_quarter (quarter INTEGER PRIMARY KEY, slots INTEGER NOT NULL, "
        "ordered INTEGER NOT NULL, needed INTEGER NOT NULL, sold INTEGER NOT NULL, net INTEGER NOT NULL, "
        "level INTEGER NOT NULL)",
    }

    def write(self, connection: sqlite3.Connection, changes: Sequence[object], insert: str) -> None:
        """Write the plant's last state and its finished quarters, and drop quarters older than are kept."""
        del insert  # The same rows again replace themselves.
        for state in [change for change in changes if isinstance(change, PlantState)][-1:]:
            connection.execute("INSERT OR REPLACE INTO plant VALUES (1, ?)", (_STATE.dump_json(state).decode(),))
        for row in [change for change in changes if isinstance(change, PlantQuarter)]:
            connection.execute("INSERT OR REPLACE INTO plant_quarter VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("DELETE FROM plant_quarter WHERE quarter <= ?", (row.quarter - KEPT_QUARTERS,))

    def read(self, store: DeviceStore, tables: Collection[str]) -> None:
        """Read the state and the quarters."""
        if self.added.keys() <= set(tables):
            load(store.connection)


PLANT_TABLES = PlantTables()


def load(connection: sqlite3.Connection) -> tuple[PlantState | None, list[PlantQuarter]]:
    """Return the stored state (``None`` in a new file) and the stored quarters, oldest first."""
    found = connection.execute("SELECT state FROM plant").fetchone()
    rows = connection.execute(
        "SELECT quarter, slots, ordered, needed, sold, net, level FROM plant_quarter ORDER BY quarter DESC LIMIT ?",
        (KEPT_QUARTERS,),
    ).fetchall()
    return None if found is None else _STATE.validate_json(found[0]), [PlantQuarter(*row) for row in reversed(rows)]
