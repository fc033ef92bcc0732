"""The truth of a fleet in SQLite: all records and events ever made, the batteries' levels, and the plant's state.

The plant's tables are in the same file and transaction as the physics of its host.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import TypeAdapter

from commonwatt.device import changes as device
from commonwatt.device.changes import NewRecords
from commonwatt.device.store import DeviceStore
from commonwatt.model.records import EventRecord, Log, unpack_event
from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours, signed64, unsigned64
from commonwatt.protocol.plant_messages import PlantQuarter
from meter_sim.faults import KeptSwitch
from meter_sim.plant_core import KEPT_QUARTERS, PlantState

SlotEnergy: TypeAlias = Mapping[str, list[MilliwattHours] | dict[str, MilliwattHours]]
"""What flowed in a slot, by name (docs/protocol.md): ``served`` by place, the others by place, meter or cause; and
``cold``, which is no energy but seconds."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The physics after the slot that ended at ``slot_end``; commits with the slot's records (docs/architecture.md)."""

    slot_end: EpochSeconds  # end of the slot
    levels: dict[MeterId, MilliwattHours]  # levels of the batteries at that time, by their meters' ids
    energy: SlotEnergy | None = None  # what flowed in the slot; ``None``: nothing was measured in it
    # Since when meters have had no voltage, if that changed; ``None``: it did not.
    dark: Mapping[MeterId, EpochSeconds] | None = None
    switch: KeptSwitch | None = None  # what the boundary switch keeps, if that changed; ``None``: it did not


FleetChange: TypeAlias = device.MeterChange | Slot  # a change that a fleet commits to its store


class Truth:
    """The truth log's tables: one row a slot with its records, one with its energy, and the levels after the last slot.

    It is an extension of the device store (``device.store.Extension``).
    """

    tables = """
CREATE TABLE slot (one INTEGER PRIMARY KEY CHECK (one = 1), slot_end INTEGER NOT NULL, levels TEXT NOT NULL);
CREATE TABLE truth (slot_end INTEGER PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE truth_event (
    meter INTEGER NOT NULL, generation INTEGER NOT NULL, id INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (meter, generation, id)
) WITHOUT ROWID;
"""
    checked: tuple[str, ...] = ("slot", "dark", "switch")
    added: Mapping[str, str] = {
        "truth_energy": "CREATE TABLE truth_energy (slot_end INTEGER PRIMARY KEY, energy TEXT NOT NULL)",
        "dark": "CREATE TABLE dark (meter INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
        "switch": "CREATE TABLE switch (one INTEGER PRIMARY KEY CHECK (one = 1), is_open INTEGER NOT NULL, "
        "epoch_counter INTEGER NOT NULL, epoch_rank INTEGER NOT NULL, seq INTEGER NOT NULL)",
    }

    def write(self, connection: sqlite3.Connection, changes: Sequence[object], insert: str) -> None:
        """Write the new records and events, and the last slot."""
        made = [change for change in changes if isinstance(change, NewRecords)]
        connection.executemany(
            f"{insert} INTO truth_event VALUES (?, ?, ?, ?)",
            [
                (signed64(one.meter), one.generation, row[0], row[2])
                for one in made
                if one.log is Log.EVENT
                for row in one.rows
            ],
        )
        for slot in [change for change in changes if isinstance(change, Slot)][-1:]:
            connection.execute("INSERT OR REPLACE INTO slot VALUES (1, ?, ?)", (slot.slot_end, json.dumps(slot.levels)))
            if records := b"".join(row.data for one in made if one.log is Log.HISTORY for row in one.rows):
                connection.execute(f"{insert} INTO truth VALUES (?, ?)", (slot.slot_end, records))
        for slot in [change for change in changes if isinstance(change, Slot) and change.dark is not None][-1:]:
            assert slot.dark is not None
            connection.execute("DELETE FROM dark")
            rows = [(signed64(meter), since) for meter, since in slot.dark.items()]
            connection.executemany("INSERT INTO dark VALUES (?, ?)", rows)
        for switch in [change.switch for change in changes if isinstance(change, Slot) and change.switch][-1:]:
            pair = (*switch.opened_by[0], switch.opened_by[1])
            connection.execute("INSERT OR REPLACE INTO switch VALUES (1, ?, ?, ?, ?)", (switch.is_open, *pair))
        for slot in [change for change in changes if isinstance(change, Slot) and change.energy is not None]:
            # A slot is recorded once: after a clock was set back, the first energy stays, as the first records do.
            row = (slot.slot_end, json.dumps(slot.energy, separators=(",", ":")))
            connection.execute("INSERT OR IGNORE INTO truth_energy VALUES (?, ?)", row)

    def read(self, store: DeviceStore, tables: Collection[str]) -> None:
        """Read the levels after the last slot; the other small tables have numbers alone."""
        del tables
        last_slot(store)


TRUTH = Truth()


def last_slot(store: DeviceStore) -> Slot | None:
    """Return the physics after the last slot; ``None`` in a new store."""
    found = store.connection.execute("SELECT slot_end, levels FROM slot").fetchone()
    if found is None:
        return None
    return Slot(found[0], {int(meter): level for meter, level in json.loads(found[1]).items()})


def cold_places(store: DeviceStore) -> dict[str, int]:
    """Return the seconds for which places were cold after the last measured slot (``Step.cold``)."""
    found = store.connection.execute("SELECT energy FROM truth_energy ORDER BY slot_end DESC LIMIT 1").fetchone()
    cold: dict[str, int] = {} if found is None else json.loads(found[0]).get("cold", {})
    return cold


def dark_since(store: DeviceStore) -> dict[MeterId, EpochSeconds]:
    """Return since when meters have had no voltage."""
    rows = store.connection.execute("SELECT meter, since FROM dark ORDER BY meter")
    return {unsigned64(meter): since for meter, since in rows}


def kept_switch(store: DeviceStore) -> KeptSwitch | None:
    """Return what the boundary switch kept; ``None``: no release that keeps it has run with this store."""
    found = store.connection.execute("SELECT is_open, epoch_counter, epoch_rank, seq FROM switch").fetchone()
    return None if found is None else KeptSwitch(bool(found[0]), ((found[1], found[2]), found[3]))


def has_slot(store: DeviceStore, slot_end: EpochSeconds) -> bool:
    """Return whether a slot was recorded."""
    found = store.connection.execute("SELECT 1 FROM truth WHERE slot_end = ?", (slot_end,)).fetchone()
    return found is not None


def true_records(store: DeviceStore) -> Iterator[tuple[int, bytes]]:
    """Yield (slot end, the records of that slot joined into one string of bytes), oldest first."""
    yield from store.connection.execute("SELECT slot_end, records FROM truth ORDER BY slot_end")


def true_events(store: DeviceStore) -> Iterator[tuple[int, EventRecord]]:
    """Yield (generation, event) of every event ever made."""
    for generation, data in store.connection.execute(
        "SELECT generation, data FROM truth_event ORDER BY meter, generation, id"
    ):
        yield generation, unpack_event(data)


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
