"""Batches: what a gateway sent at once is one row until it is compacted (docs/architecture.md).

The row's payload is the length of the compressed keys, in two bytes; the keys, one column after the other; and the
parts' payloads as they came.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Column, Connection, MetaData, Row, Table, bindparam, delete, func, select
from sqlalchemy.schema import CreateTable

from commonwatt.codec.packing import unpack_sound
from commonwatt.codec.payloads import Payloads
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId, unsigned64
from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.protocol.batches import MAX_BATCH_BLOCKS
from utility.database.bulk import insert_columns
from utility.database.engines import BINARY
from utility.database.numbers import Column as Numbers
from utility.readings.tables import batch, part, series
from utility.registry.tables import meter

_AT_ONCE = 100  # batches that are unpacked at once
_LENGTH = struct.Struct(">H")
_KEYS = (("quarter", "<u4"), ("meter_no", "<u4"), ("record_type", "u1"), ("length", "<u2"))
_KEY_BYTES = sum(np.dtype(form).itemsize for _, form in _KEYS)
_ORIGIN = ("sender_no", "owner_no", "received_minute")

arrived = Table(
    "arrived",
    MetaData(),
    *(Column(c.name, c.type) for c in part.c),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
"""The parts of batches that the present query of a connection reads; ``id`` is the batch's, negative."""


class PartRow(NamedTuple):
    """A part of a batch, like a row of ``select_fresh``."""

    id: int  # the batch's id, negative
    is_compacted: int
    meter_id: int
    quarter: Quarter
    meter_no: int
    record_type: int
    sender_no: int
    owner_no: int
    received_minute: int
    payload: bytes


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that came together."""

    quarter: npt.NDArray[np.int64]
    meter_no: npt.NDArray[np.int64]  # the meters' numbers
    record_type: npt.NDArray[np.int64]
    payloads: Payloads

    def __len__(self) -> int:
        return len(self.quarter)

    def keys(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the columns of the key, by name."""
        return {"quarter": self.quarter, "meter_no": self.meter_no, "record_type": self.record_type}

    def where(self, wanted: npt.NDArray[np.bool_]) -> "Parts":
        """Return those that are wanted."""
        if wanted.all():
            return self
        keys = {name: values[wanted] for name, values in self.keys().items()}
        return Parts(**keys, payloads=self.payloads.take(np.flatnonzero(wanted)))

    def unpacked(self, meters: Mapping[int, MeterId]) -> tuple[Blocks, list[int]]:
        """Return the sound parts, and the indexes of the others; ``meters`` are ids by number."""
        ids = np.array([meters.get(number, 0) for number in self.meter_no.tolist()], np.uint64)
        keys = Keys(ids, self.record_type.astype(np.uint8), self.quarter.astype(np.uint32))
        return unpack_sound(keys, self.payloads)

    def row(self) -> dict[str, Any]:
        """Return the columns of ``batch`` that follow from the parts."""
        columns = {**self.keys(), "length": self.payloads.lengths}
        # Most meters have the number of the one before, or the next number.
        columns["meter_no"] = np.diff(self.meter_no, prepend=0)
        keys = zlib.compress(b"".join(columns[name].astype(form).tobytes() for name, form in _KEYS))
        first, last = self.payloads.offsets[[0, -1]].tolist()
        return {
            "first_quarter": int(self.quarter.min()),
            "last_quarter": int(self.quarter.max()),
            "low_meter": int(self.meter_no.min()),
            "high_meter": int(self.meter_no.max()),
            "blocks": len(self),
            "payload": _LENGTH.pack(len(keys)) + keys + self.payloads.buffer[first:last],
        }


def parts_of(payload: object) -> Parts | None:
    """Return the parts of a batch's payload, each perhaps damaged; ``None``: the keys are damaged."""
    if not isinstance(payload, bytes):
        return None
    try:
        begin = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
        keys = zlib.decompress(payload[_LENGTH.size : begin])
    except (struct.error, zlib.error):
        return None
    count, at = len(keys) // _KEY_BYTES, 0
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, form in _KEYS:
        columns[name] = np.frombuffer(keys, form, count, at)
        at += columns[name].nbytes
    offsets = np.concatenate(([0], np.cumsum(columns.pop("length").astype(np.int64))))
    if not count or begin + offsets[-1] != len(payload):
        return None
    columns["meter_no"] = np.cumsum(columns["meter_no"], dtype=np.uint32)
    whole = {name: values.astype(np.int64) for name, values in columns.items()}
    return Parts(**whole, payloads=Payloads(payload[begin:], offsets))


def insert_batches(connection: Connection, sent: Sequence[tuple[Parts, Mapping[str, int]]]) -> None:
    """Store what gateways sent, each with its origin: sender, owner and minute of receipt.

    Finished quarters, the present one and later ones are apart, so that each batch is compacted as a whole.
    """
    rows = []
    for parts, origin in sent:
        side = np.sign(parts.quarter - origin["received_minute"] * 60 // QUARTER_S)
        rows += [parts.where(side == one).row() | origin for one in np.unique(side).tolist()]
    payloads = [row.pop("payload") for row in rows]
    columns = {name: Numbers(np.array([row[name] for row in rows], np.int64)) for name in rows[0]}
    insert_columns(connection, batch, columns, payloads)


_CONCERNED = select(batch).where(
    batch.c.first_quarter <= bindparam("last"),
    batch.c.last_quarter >= bindparam("first"),
    batch.c.low_meter <= bindparam("high"),
    batch.c.high_meter >= bindparam("low"),
)


def load_batches(connection: Connection, quarters: Collection[Quarter], meters: Collection[int] | None) -> bool:
    """Copy the parts of some quarters and meters into ``arrived``; return whether there may be any."""
    if not len(quarters) or (meters is not None and not len(meters)):
        return False
    named = not isinstance(quarters, range) or quarters.step != 1
    within = {"first": min(quarters), "last": max(quarters)} if named else {"first": quarters[0], "last": quarters[-1]}
    within |= {"low": 0, "high": 2**31 - 1} if meters is None else {"low": min(meters), "high": max(meters)}
    rows = connection.execute(_CONCERNED, within, execution_options={BINARY: True}).all()
    if not rows:
        return False
    connection.execute(CreateTable(arrived, if_not_exists=True))
    connection.execute(delete(arrived))
    numbers = None if meters is None else np.array(list(meters), np.int64)
    wanted = np.array(list(quarters) if named else [], np.int64)
    for at in range(0, len(rows), _AT_ONCE):
        found: list[tuple[Row[Any], Parts]] = []
        for row in rows[at : at + _AT_ONCE]:
            parts = parts_of(row.payload) or _unreadable(row)
            ours = (parts.quarter >= within["first"]) & (parts.quarter <= within["last"])
            if named:
                ours &= np.isin(parts.quarter, wanted)
            if numbers is not None:
                ours &= np.isin(parts.meter_no, numbers)
            found.append((row, parts.where(ours)))
        _insert_parts(connection, arrived, found)
    return True


def _unreadable(row: Any) -> Parts:
    """Return a batch whose keys are damaged as one part, which is damaged."""
    payload = row.payload if isinstance(row.payload, bytes) else repr(row.payload).encode()
    one = [np.array([value if isinstance(value, int) else 0]) for value in (row.first_quarter, row.low_meter)]
    return Parts(quarter=one[0], meter_no=one[1], record_type=np.zeros(1, np.int64), payloads=Payloads.of([payload]))


def _insert_parts(connection: Connection, table: Table, found: Sequence[tuple[Any, Parts]]) -> None:
    columns = {name: np.concatenate([parts.keys()[name] for _, parts in found]) for name in _KEYS_OF_PART}
    counts = [len(parts) for _, parts in found]
    columns |= {name: np.repeat([getattr(row, name) for row, _ in found], counts) for name in _ORIGIN}
    if table is arrived:
        columns["id"] = np.repeat([-row.id for row, _ in found], counts)
    payloads = (payload for _, parts in found for payload in parts.payloads)
    insert_columns(connection, table, {name: Numbers(values) for name, values in columns.items()}, payloads)


_KEYS_OF_PART = ("quarter", "meter_no", "record_type")
_FINISHED = batch.c.last_quarter < bindparam("before")
_WAITING = select(batch.c.id, batch.c.owner_no, batch.c.blocks).where(_FINISHED).order_by(batch.c.owner_no, batch.c.id)
_OF = select(batch).where(batch.c.id.in_(bindparam("ids", expanding=True)), _FINISHED).order_by(batch.c.id)
_IDS = select(meter.c.no, meter.c.id).where(meter.c.no.between(bindparam("low"), bindparam("high")))


def waiting(connection: Connection, before: Quarter) -> list[Row[Any]]:
    """Return id, owner and number of blocks of the batches of quarters before one, by owner."""
    return list(connection.execute(_WAITING, {"before": before}).all())


def part_rows(connection: Connection, ids: Sequence[int], before: Quarter) -> Iterator[PartRow]:
    """Yield the parts of those batches that are there and of quarters before one, in the order of their arrival."""
    rows = connection.execute(_OF, {"ids": ids, "before": before}, execution_options={BINARY: True}).all()
    found = [(row, parts_of(row.payload) or _unreadable(row)) for row in rows]
    numbers = np.concatenate([parts.meter_no for _, parts in found]) if found else np.zeros(1, np.int64)
    within = {"low": int(numbers.min()), "high": int(numbers.max())}
    # A part of an unknown meter is damaged: its id is 0.
    meters = {number: unsigned64(meter_id) for number, meter_id in connection.execute(_IDS, within)}
    for row, parts in found:
        columns = zip(*(parts.keys()[name].tolist() for name in _KEYS_OF_PART), parts.payloads, strict=True)
        origin = row.sender_no, row.owner_no, row.received_minute
        for quarter, number, kind, payload in columns:
            yield PartRow(-row.id, 0, meters.get(number, 0), quarter, number, kind, *origin, payload)


def take_apart(connection: Connection, batch_id: int) -> None:
    """Make a batch's parts rows of ``part``; a batch that is not there any more stays as it is."""
    row = connection.execute(delete(batch).where(batch.c.id == batch_id).returning(*batch.c)).one_or_none()
    if row is not None:
        _insert_parts(connection, part, [(row, parts_of(row.payload) or _unreadable(row))])


def lost_keys(connection: Connection, batch_id: int) -> set[tuple[int, int, Quarter]]:
    """Return (meter's number, record type, quarter) of what a batch may have had whose keys are damaged."""
    row = connection.execute(select(batch).where(batch.c.id == batch_id)).one_or_none()
    if row is None or parts_of(row.payload) is not None or {*map(type, row[1:5])} != {int}:
        return set()
    among = series.c.meter_no.between(row.low_meter, row.high_meter)
    kinds = connection.execute(select(series.c.meter_no, series.c.record_type).where(among)).all()
    places = product(range(row.last_quarter, row.first_quarter - 1, -1), kinds)
    return {(*kind, quarter) for quarter, kind in islice(places, 2 * MAX_BATCH_BLOCKS)}


def count_waiting(connection: Connection, before: Quarter) -> int:
    """Return how many parts are in batches of quarters before one."""
    count = select(func.coalesce(func.sum(batch.c.blocks), 0)).where(_FINISHED)
    return int(connection.execute(count, {"before": before}).scalar_one())
