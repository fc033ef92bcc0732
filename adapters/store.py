"""The adapter's own tables: each register's state and the messages handled last, committed with the records."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from adapters.energy.channel import CHANNEL, Channel
from adapters.messages import ChannelChange, Handled, HandledChange, Key
from commonwatt.device.store import DeviceStore
from commonwatt.model.records import RecordType
from commonwatt.model.units import signed64, unsigned64


class Channels:
    """The tables of channels and of handled messages, an extension of the store (``device.store.Extension``)."""

    tables = """
CREATE TABLE channel (
    meter INTEGER NOT NULL, record_type INTEGER NOT NULL, state BLOB NOT NULL, PRIMARY KEY (meter, record_type)
) WITHOUT ROWID;
"""
    checked: tuple[str, ...] = ("channel", "handled", "handled_of")
    # ``handled`` is of releases with one source: read, and not written any more.
    added: Mapping[str, str] = {
        "handled": "CREATE TABLE handled (one INTEGER PRIMARY KEY CHECK (one = 1), messages BLOB NOT NULL)",
        "handled_of": "CREATE TABLE handled_of (source TEXT PRIMARY KEY, messages BLOB NOT NULL) WITHOUT ROWID",
    }

    def write(self, connection: sqlite3.Connection, changes: Sequence[object], insert: str) -> None:
        """Write the last state of each changed channel, and the handled messages."""
        del insert
        changed = {change.key: change.channel for change in changes if isinstance(change, ChannelChange)}
        connection.executemany(
            "INSERT OR REPLACE INTO channel VALUES (?, ?, ?)",
            [(signed64(meter), kind, CHANNEL.dump_json(channel)) for (meter, kind), channel in changed.items()],
        )
        handled = {change.source: change.handled for change in changes if isinstance(change, HandledChange)}
        rows = [(source, messages.pack()) for source, messages in handled.items()]
        connection.executemany("INSERT OR REPLACE INTO handled_of VALUES (?, ?)", rows)

    def read(self, store: DeviceStore, tables: Collection[str]) -> None:
        """Read both tables."""
        load_channels(store)
        if {"handled", "handled_of"} <= set(tables):
            load_handled(store)


CHANNELS = Channels()


def load_channels(store: DeviceStore) -> dict[Key, Channel]:
    """Return the stored channels."""
    rows = store.connection.execute("SELECT meter, record_type, state FROM channel")
    return {(unsigned64(meter), RecordType(kind)): CHANNEL.validate_json(state) for meter, kind, state in rows}


def load_handled(store: DeviceStore, first: str = "") -> dict[str, Handled]:
    """Return the messages that the foreign meters' brokers may send again, by source; ``first``: the first source."""
    before = store.connection.execute("SELECT messages FROM handled").fetchone()
    found = {} if before is None else {first: Handled(before[0])}
    rows = store.connection.execute("SELECT source, messages FROM handled_of")
    return found | {source: Handled(messages) for source, messages in rows}
