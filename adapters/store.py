"""The adapter's own table: the state of each register, committed with the records made from it."""

import sqlite3
from collections.abc import Sequence

from adapters.changes import ChannelChange, Key
from adapters.energy.channel import Channel, pack_channel, unpack_channel
from commonwatt.device.store import DeviceStore
from commonwatt.model.records import RecordType


class Channels:
    """The table of channels; it is an extension of the device store (``device.store.Extension``)."""

    tables = """
CREATE TABLE channel (
    meter INTEGER NOT NULL, record_type INTEGER NOT NULL, state BLOB NOT NULL, PRIMARY KEY (meter, record_type)
) WITHOUT ROWID;
"""
    checked: tuple[str, ...] = ("channel",)

    def write(self, connection: sqlite3.Connection, changes: Sequence[object], insert: str) -> None:
        """Write the last state of each changed channel."""
        del insert
        changed = {change.key: change.channel for change in changes if isinstance(change, ChannelChange)}
        connection.executemany(
            "INSERT OR REPLACE INTO channel VALUES (?, ?, ?)",
            [(*key, pack_channel(channel)) for key, channel in changed.items()],
        )


CHANNELS = Channels()


def load_channels(store: DeviceStore) -> dict[Key, Channel]:
    """Return the stored channels."""
    rows = store.connection.execute("SELECT meter, record_type, state FROM channel")
    return {(meter, RecordType(record_type)): unpack_channel(state) for meter, record_type, state in rows}
