"""Batches: what a gateway sent at once is one row until it is compacted (docs/architecture.md).

The row's payload is the length of the compressed keys, in two bytes; the keys, one column after the other; and the
parts' payloads as they came.
"""

import struct
import zlib
from collections import namedtuple
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Column, Connection, Executable, MetaData, Row, Table, bindparam, delete, select, union_all
from sqlalchemy.schema import CreateTable

from commonwatt.codec.packing import unpack_sound
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import Keys
from commonwatt.model.units import QUARTER_S, MeterId, Quarter, unsigned64
from utility.database.bulk import insert_columns
from utility.database.engines import BINARY
from utility.database.numbers import Column as Numbers
from utility.readings.tables import batch, part, series
from utility.registry.tables import meter

_AT_ONCE = 100  # batches whose parts are copied at once
_LENGTH = struct.Struct(">H")
_KEYS = {"quarter": "<u4", "meter_no": "<u4", "record_type": "u1"}
_COLUMNS = _KEYS | {"length": "<u2"}  # of the compressed keys
_KEY_BYTES = sum(np.dtype(form).itemsize for form in _COLUMNS.values())
_BOUNDS = ("first_quarter", "last_quarter", "low_meter", "high_meter")
_ORIGIN = ("sender_no", "owner_no", "received_minute")

arrived = Table(
    "arrived",
    MetaData(),
    *(Column(c.name, c.type) for c in part.c),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
"""The parts of batches that the present query of a connection reads; ``id`` is the batch's, negative."""

fresh = union_all(select(*part.c), select(*arrived.c)).subquery("fresh")
"""The parts that are not compacted, and those of batches that ``execute`` copied."""

EVERY = range(2**31)  # all quarters

PartRow = namedtuple(
    "PartRow", "id is_compacted meter_id quarter meter_no record_type sender_no owner_no received_minute payload"
)
"""A part of a batch, like a row of ``select_fresh``; ``id`` is the batch's, negative."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that came together."""

    keys: Mapping[str, npt.NDArray[np.int64]]  # quarters, numbers of the meters and record types, as in ``part``
    payloads: Payloads

    def where(self, wanted: npt.NDArray[np.bool_]) -> "Parts":
        """Return those that are wanted."""
        if wanted.all():
            return self
        keys = {name: values[wanted] for name, values in self.keys.items()}
        return Parts(keys, self.payloads.take(np.flatnonzero(wanted)))

    def sound(self, meters: Mapping[int, MeterId]) -> "Parts":
        """Return those that are sound; ``meters`` are ids by number."""
        quarters, numbers, kinds = (self.keys[name] for name in _KEYS)
        ids = np.array([meters.get(number, 0) for number in numbers.tolist()], np.uint64)
        _, damaged = unpack_sound(Keys(ids, kinds.astype(np.uint8), quarters.astype(np.uint32)), self.payloads)
        return self.where(~np.isin(np.arange(len(ids)), damaged))

    def row(self) -> dict[str, Any]:
        """Return the columns of ``batch`` that follow from the parts."""
        quarters, numbers = self.keys["quarter"], self.keys["meter_no"]
        # Most meters have the number of the one before, or the next number.
        columns = {**self.keys, "meter_no": np.diff(numbers, prepend=0), "length": self.payloads.lengths}
        keys = zlib.compress(b"".join(columns[name].astype(form).tobytes() for name, form in _COLUMNS.items()))
        first, last = self.payloads.offsets[[0, -1]].tolist()
        payload = _LENGTH.pack(len(keys)) + keys + self.payloads.buffer[first:last]
        bounds = (int(bound) for each in (quarters, numbers) for bound in (each.min(), each.max()))
        return dict(zip(_BOUNDS, bounds, strict=True)) | {"blocks": len(quarters), "payload": payload}


def parts_of(payload: object) -> Parts | None:
    """Return the parts of a batch's payload, each perhaps damaged; ``None``: the keys are damaged."""
    if not isinstance(payload, bytes):
        return None
    try:
        begin = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
        packed = zlib.decompress(payload[_LENGTH.size : begin])
    except (struct.error, zlib.error):
        return None
    count, at = len(packed) // _KEY_BYTES, 0
    keys = {}
    for name, form in _COLUMNS.items():
        keys[name] = np.frombuffer(packed, form, count, at).astype(np.int64)
        at += count * np.dtype(form).itemsize
    offsets = np.concatenate(([0], np.cumsum(keys.pop("length"))))
    if not count or begin + offsets[-1] != len(payload):
        return None
    keys["meter_no"] = np.cumsum(keys["meter_no"]) % 2**32
    return Parts(keys, Payloads(payload[begin:], offsets))


def _parts_in(row: Row[Any]) -> Parts:
    """Return the parts of a row of ``batch``; of one whose keys are damaged one part, which no block can have."""
    if (found := parts_of(row.payload)) is not None:
        return found
    payload = row.payload if isinstance(row.payload, bytes) else repr(row.payload).encode()
    key = [value if isinstance(value, int) else 0 for value in (row.first_quarter, row.low_meter, -1)]
    return Parts({name: np.array([value]) for name, value in zip(_KEYS, key, strict=True)}, Payloads.of([payload]))


def insert_batches(connection: Connection, sent: Sequence[tuple[Parts, dict[str, int]]]) -> None:
    """Store what gateways sent, each with its origin: sender, owner and minute of receipt.

    Finished quarters, the present one and later ones are apart, so that each batch is compacted as a whole.
    """
    rows = []
    for parts, origin in sent:
        side = np.sign(parts.keys["quarter"] - origin["received_minute"] * 60 // QUARTER_S)
        rows += [parts.where(side == one).row() | origin for one in np.unique(side).tolist()]
    payloads = [row.pop("payload") for row in rows]
    columns = {name: Numbers(np.array([row[name] for row in rows])) for name in rows[0]}
    insert_columns(connection, batch, columns, payloads)


_CONCERNED = select(batch).where(
    batch.c.first_quarter <= bindparam("last"),
    batch.c.last_quarter >= bindparam("first"),
    batch.c.low_meter <= bindparam("high"),
    batch.c.high_meter >= bindparam("low"),
)


def execute(
    connection: Connection,
    statement: Executable,
    values: Any = None,
    *,
    quarters: Collection[Quarter] = EVERY,
    meters: Collection[int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return the result of a select over ``fresh``.

    Args:
        connection: A connection in a transaction that reads one state of the database.
        quarters: All quarters that it selects, or more.
        meters: The numbers of all meters that it selects, or more; ``None``: any.
    """
    connection.execute(CreateTable(arrived, if_not_exists=True))
    connection.execute(delete(arrived))
    if len(quarters) and (meters is None or len(meters)):
        _copy(connection, quarters, meters)
    return connection.execute(statement, values, execution_options=dict(options or {}))


def _copy(connection: Connection, quarters: Collection[Quarter], meters: Collection[int] | None) -> None:
    """Copy the parts of some quarters and meters, or more, into ``arrived``."""
    first, last = (quarters[0], quarters[-1]) if isinstance(quarters, range) else (min(quarters), max(quarters))
    low, high = (0, 2**31 - 1) if meters is None else (min(meters), max(meters))
    within = {"first": first, "last": last, "low": low, "high": high}
    rows = connection.execute(_CONCERNED, within, execution_options={BINARY: True}).all()
    for at in range(0, len(rows), _AT_ONCE):
        found = []
        for row in rows[at : at + _AT_ONCE]:
            parts = _parts_in(row)
            ours = (parts.keys["quarter"] >= first) & (parts.keys["quarter"] <= last)
            if meters is not None:
                ours &= np.isin(parts.keys["meter_no"], list(meters))
            found.append((row, parts.where(ours)))
        _insert_parts(connection, arrived, found)


def _insert_parts(connection: Connection, table: Table, found: Sequence[tuple[Row[Any], Parts]]) -> None:
    columns = {name: np.concatenate([parts.keys[name] for _, parts in found]) for name in _KEYS}
    counts = [len(parts.payloads) for _, parts in found]
    columns |= {name: np.repeat([getattr(row, name) for row, _ in found], counts) for name in _ORIGIN}
    if table is arrived:
        columns["id"] = np.repeat([-row.id for row, _ in found], counts)
    payloads = (payload for _, parts in found for payload in parts.payloads)
    insert_columns(connection, table, {name: Numbers(values) for name, values in columns.items()}, payloads)


_FINISHED = batch.c.last_quarter < bindparam("before")
WAITING = select(batch.c.id, batch.c.owner_no, batch.c.blocks).where(_FINISHED).order_by(batch.c.owner_no, batch.c.id)
_OF = select(batch).where(batch.c.id.in_(bindparam("ids", expanding=True)), _FINISHED).order_by(batch.c.id)
_IDS = select(meter.c.no, meter.c.id).where(meter.c.no.between(bindparam("low"), bindparam("high")))


def part_rows(connection: Connection, ids: Sequence[int], before: Quarter) -> Iterator[PartRow]:
    """Yield the parts of those batches that are there and of quarters before one, in the order of their arrival."""
    rows = connection.execute(_OF, {"ids": ids, "before": before}, execution_options={BINARY: True}).all()
    if not rows:
        return
    found = [(row, _parts_in(row)) for row in rows]
    numbers = np.concatenate([parts.keys["meter_no"] for _, parts in found])
    within = {"low": int(numbers.min()), "high": int(numbers.max())}
    # A part of an unknown meter is damaged: its id is 0.
    meters = {number: unsigned64(meter_id) for number, meter_id in connection.execute(_IDS, within)}
    for row, parts in found:
        origin = [getattr(row, name) for name in _ORIGIN]
        keys = zip(*(parts.keys[name].tolist() for name in _KEYS), strict=True)
        for key, payload in zip(keys, parts.payloads, strict=True):
            yield PartRow._make((-row.id, 0, meters.get(key[1], 0), *key, *origin, payload))


def take_apart(connection: Connection, batch_id: int) -> None:
    """Make a batch's parts rows of ``part``; a batch that is not there any more stays as it is."""
    row = connection.execute(delete(batch).where(batch.c.id == batch_id).returning(*batch.c)).one_or_none()
    if row is not None:
        _insert_parts(connection, part, [(row, _parts_in(row))])
    if row is not None and parts_of(row.payload) is None:
        # Which blocks it had is lost: the gap finder searches all quarters of its meters again.
        ours = series.c.meter_no.between(row.low_meter, row.high_meter)
        connection.execute(series.update().where(ours).values(scanned_from=None, scanned_until=None))
