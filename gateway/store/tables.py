"""The tables of a gateway's store, and the checks that find damaged rows (docs/stores.md).

Every row has a checksum over its columns in ``crc``; a part has it in its payload instead, over its key too.
``relayed`` and ``joined`` change in place and are in no checksum; ``gateway.store.changes`` explains why that is safe.
All tables have row numbers, so that the undamaged rows of a damaged table can be read.
"""

import sqlite3
import struct
import zlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from commonwatt.codec.packing import is_intact
from commonwatt.model.records import EventRecord
from commonwatt.model.units import unsigned64
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.sqlite import DamagedError
from gateway.store.changes import AVERAGED, DONE, OFFERED, UNSENT, Part

SCHEMA_VERSION = 4
"""Version of new stores. Each change of ``schema`` needs a new version, and a migration or statements that fit each
version: a file of this version with other tables is treated as damaged. A small new value is better a ``setting``."""

PAGE_BYTES = {1: 4096, 2: 1024, 3: 512, 4: 512}
"""By version that this release opens: the size of a page. A commit writes whole pages to the card, of which most change
in a few bytes; a store of version 1 (release 0.2) or 2 keeps its pages, one of 3 (release 0.3) becomes one of 4."""

# Size of the write-ahead log at which its pages are written into the file, each once however often it changed.
CHECKPOINT_BYTES = 4 * 1024 * 1024
JOINED = "joined IS NOT 0"  # condition: compaction made the part; ``IS NOT`` is also true for a damaged NULL
NOT_JOINED = "joined = 0"  # condition: the part is as it was appended
# Condition: the utility has not acknowledged the part. ``IS NOT`` is also true for a damaged NULL.
NOT_ACKNOWLEDGED = f"relayed IS NOT {AVERAGED} AND relayed IS NOT {DONE}"
ACKNOWLEDGED = f"relayed IN ({AVERAGED}, {DONE})"  # condition: the utility has acknowledged the part
# Condition: the utility may have averages or unknown slots of the part's block.
MAY_BE_COARSE = f"relayed IS NOT {UNSENT} AND relayed IS NOT {DONE}"
UNSENT_ROW = f"relayed IS NOT {DONE}"  # condition: the utility has not acknowledged the event or dead letter
# The relayed tables, with the ``relayed`` value that rows get when the utility has lost its store.
FORGOTTEN = {"part": OFFERED, "event": UNSENT, "letter": UNSENT}

_BLOCK_INDEX = dict.fromkeys((1, 2), "") | dict.fromkeys((3, 4), f" WHERE {JOINED}")
"""By version: the condition of ``part_block``. An index of new parts by block would change in a page for each block
that a commit adds to. New parts are few in each quarter, and the indexes below find those of a quarter."""

_NEW_PARTS = f"CREATE INDEX part_to_join ON part (quarter) WHERE {NOT_JOINED}"
TO_JOIN = dict.fromkeys((1, 2, 3), _NEW_PARTS) | {4: f"{_NEW_PARTS} AND {ACKNOWLEDGED}"}
"""By version: the index of parts that are not joined. A new part is in ``part_unsent``; since version 4 it comes into
this index when it is acknowledged, with others, so that a put changes one index."""

_SCHEMA = f"""
CREATE TABLE part (
    id INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, type INTEGER NOT NULL, quarter INTEGER NOT NULL,
    payload BLOB NOT NULL, relayed INTEGER NOT NULL, joined INTEGER NOT NULL);
@TO_JOIN;
CREATE INDEX part_block ON part (quarter, meter, type)@BLOCK;
CREATE INDEX part_unsent ON part (quarter, id) WHERE {NOT_ACKNOWLEDGED};
CREATE INDEX part_coarse ON part (quarter, meter, type) WHERE {MAY_BE_COARSE};
CREATE TABLE event (
    meter INTEGER NOT NULL, generation INTEGER NOT NULL, id INTEGER NOT NULL, previous INTEGER NOT NULL,
    new INTEGER NOT NULL, time INTEGER NOT NULL, relayed INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (meter, generation, id));
CREATE INDEX event_unsent ON event (time) WHERE {UNSENT_ROW};
CREATE TABLE letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT, meter INTEGER NOT NULL, log INTEGER NOT NULL, reason INTEGER NOT NULL,
    generation INTEGER NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL, content BLOB NOT NULL,
    relayed INTEGER NOT NULL, crc INTEGER NOT NULL, UNIQUE (meter, log, reason, generation, id, content));
CREATE INDEX letter_unsent ON letter (number) WHERE {UNSENT_ROW};
CREATE TABLE coverage (
    meter INTEGER NOT NULL, log INTEGER NOT NULL, generation INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (meter, log, generation, first));
CREATE TABLE meter (
    meter INTEGER PRIMARY KEY, push INTEGER NOT NULL, minimum_percent INTEGER, capacity INTEGER, time INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE desired (
    meter INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, epoch_counter INTEGER NOT NULL,
    epoch_rank INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER, weight INTEGER, confirmed INTEGER NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (meter, kind));
CREATE TABLE period (job TEXT PRIMARY KEY, period INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
"""


def schema(version: int) -> str:
    """Return the SQL that makes the tables of a version of the store."""
    tables = _SCHEMA.replace("@BLOCK", _BLOCK_INDEX[version]).replace("@TO_JOIN", TO_JOIN[version])
    return f"{tables}PRAGMA user_version = {version};"


def empty_database(page_bytes: int, version: int = SCHEMA_VERSION) -> bytes:
    """Return a database with the tables of a store and nothing in them, of ``version`` or the last with these pages."""
    if PAGE_BYTES.get(version) != page_bytes:
        version = max((one for one, size in PAGE_BYTES.items() if size == page_bytes), default=SCHEMA_VERSION)
    made = sqlite3.connect(":memory:")
    made.execute(f"PRAGMA page_size = {PAGE_BYTES[version]}")
    made.executescript(f"BEGIN; {schema(version)} COMMIT;")
    content = made.serialize()
    made.close()
    return content


def check_schema(connection: sqlite3.Connection) -> None:
    """Compare the schema and its version with this release's: SQLite does not detect a damaged word in it.

    Raises:
        DamagedError: The schemas differ.
    """
    sql = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY name"
    page_bytes, version = (connection.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_size", "user_version"))
    with closing(sqlite3.connect(":memory:")) as made:
        made.deserialize(empty_database(page_bytes, version))
        right, found = (
            (each.execute("PRAGMA user_version").fetchone(), each.execute(sql).fetchall())
            for each in (made, connection)
        )
    if found != right:
        raise DamagedError("its schema is not what was written")


COLUMNS: dict[str, tuple[str, ...]] = {
    "setting": ("key", "value"),
    "desired": ("meter", "kind", "value", "epoch_counter", "epoch_rank", "seq", "until", "weight", "confirmed"),
    "meter": ("meter", "push", "minimum_percent", "capacity", "time"),
    "period": ("job", "period"),
    "event": ("meter", "generation", "id", "previous", "new", "time"),
    "letter": ("meter", "log", "reason", "generation", "id", "time", "content"),
    "coverage": ("meter", "log", "generation", "first", "last"),
}
"""The columns that ``crc`` covers, by table."""

KEY_COLUMNS = {"setting": 1, "desired": 2, "period": 1}
"""By table whose rows are updated in place: how many of its first ``COLUMNS`` are its key."""

PART_COLUMNS = ("meter", "type", "quarter", "payload", "relayed", "joined")

_STATES = (UNSENT, OFFERED, AVERAGED, DONE)


def row_sum(table: str, values: Sequence[object]) -> int:
    """Return the checksum of a row, over its table's name and its ``COLUMNS``, as SQLite stores them."""
    return zlib.crc32(repr((table, *map(_plain, values))).encode(errors="surrogateescape"))


def _plain(value: object) -> object:
    """Return a value as SQLite returns it: enumeration members and booleans as plain values."""
    if isinstance(value, int):
        return int(value)
    return str(value) if isinstance(value, str) else value


def is_sound(table: str, values: Sequence[object], crc: object) -> bool:
    """Return whether a row is what was written."""
    return bool(row_sum(table, values) == crc)


def state_of(relayed: object) -> int:
    """Return a row's ``relayed`` value; an invalid one counts as ``OFFERED``."""
    return relayed if isinstance(relayed, int) and relayed in _STATES else OFFERED


def part_is_sound(meter: object, record_type: object, quarter: object, payload: object) -> bool:
    """Return whether a part and its key are what was written."""
    if not (isinstance(payload, bytes) and isinstance(meter, int)):
        return False
    if not (isinstance(record_type, int) and isinstance(quarter, int)):
        return False
    try:
        return is_intact((unsigned64(meter), record_type, quarter), payload)
    except struct.error:
        return False  # A key is never that large.


def part_of(row: Sequence[Any]) -> Part:
    """Return the part in a sound row of ``id`` and ``PART_COLUMNS``."""
    number, meter, record_type, quarter, payload, relayed, joined = row
    return Part(number, (unsigned64(meter), record_type, quarter), payload, state_of(relayed), bool(joined))


def event_of(row: Sequence[Any]) -> tuple[int, EventRecord]:
    """Return (generation, event) of a sound row's columns."""
    meter, generation, number, previous, new, time = row
    return generation, EventRecord(
        previous_state=previous,
        new_state=new,
        record_id=unsigned64(number),
        meter_id=unsigned64(meter),
        time=time,
    )


def dead_letter_of(row: Sequence[Any]) -> DeadLetter:
    """Return the dead letter in a sound row's columns."""
    meter, log, reason, generation, number, time, content = row
    return DeadLetter(
        meter=unsigned64(meter),
        log=log,
        reason=reason,
        generation=generation,
        record_id=unsigned64(number),
        time=time,
        content=content,
    )
