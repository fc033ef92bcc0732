"""A month's file: written from the database, read back and compared block by block, checked later."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from sqlalchemy import Connection, Row, select

from commonwatt.codec.packing import unpack_sound
from commonwatt.model.block_keys import Keys
from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.runtime.files import replacing, sha256_of
from utility.archive.blocks import BLOCKS, ROW_GROUP, WINDOW
from utility.archive.store.months import FiledMonth
from utility.database.bulk import insert_columns
from utility.database.database import Database
from utility.database.numbers import Column as Nullable
from utility.exports.columns import Kind, Rows
from utility.exports.store.folder import Hashed
from utility.exports.writers import Format, make_writer
from utility.readings.store.archived import ArchiveError, File, checked_end, numbers_of, read_group
from utility.readings.store.parts import ids_by_number, reading, select_parts
from utility.readings.tables import compacted
from utility.registry.tables import meter

_NAMES = [column.name for column in BLOCKS.columns]
_KINDS = {column.name: column for column in BLOCKS.columns}


@dataclass
class Sums:
    """What is known of a file's content."""

    rows: int = 0
    total: int = 0
    trouble: list[str] = field(default_factory=list)  # damaged blocks


def write(database: Database, month: FiledMonth) -> FiledMonth:
    """Write a month's file from the database; return what is to be recorded of it.

    Raises:
        ArchiveError: A stored block is damaged; it was quarantined, and the month is to be written again.
    """
    ids, sums = _ids(database), Sums()
    with replacing(month.file) as file:
        file_sums, end = Hashed(file.write), bytearray()
        take: list[Callable[[bytes], object]] = [file_sums.write]
        writer = make_writer(Format.PARQUET, cast("BinaryIO", Hashed(lambda data: take[-1](data))), BLOCKS)
        for within, rows in _groups(database, month):
            found = _columns(rows)
            if found is None or _damaged(found, ids):
                _quarantine(database, within)
                raise ArchiveError(month.file, "not written: stored blocks were damaged, and are quarantined")
            writer.write(found)
            _add(sums, found)
        take.append(end.extend)
        writer.close()
        file_sums.write(checked_end(bytes(end)))
    size, digest = file_sums.length, file_sums.hash.hexdigest()
    return replace(month, rows=sums.rows, total=signed64(sums.total % 2**64), sha256=digest, size=size)


def compare(database: Database, month: FiledMonth) -> None:
    """Compare a file with the database: the number of blocks, and each block with all its columns.

    Raises:
        ArchiveError: They differ.
    """
    file, group, rows = File.open(month.file), 0, 0
    for _, stored in _groups(database, month):
        found = _columns(stored)
        if found is None or group == file.groups or not _is_same(read_group(file, group, tuple(_NAMES)), found):
            raise ArchiveError(month.file, f"row group {group} differs from the database")
        group, rows = group + 1, rows + len(stored)
    if (group, rows) != (file.groups, month.rows):
        raise ArchiveError(month.file, f"has {month.rows} blocks, and the database {rows}")


def examine(database: Database, path: Path) -> Sums:
    """Read a whole file, and check each block's checksum; return its count, sum and damaged blocks."""
    ids, sums = _ids(database), Sums()
    file = File.open(path)
    for group in range(file.groups):
        try:
            table = read_group(file, group, tuple(_NAMES))
        except ArchiveError as error:
            sums.trouble.append(str(error))
            continue
        found: dict[str, Any] = {name: numbers_of(table[name]) for name in _NAMES if name != "payload"}
        found["payload"] = table["payload"].to_pylist()
        _add(sums, found)
        sums.trouble += _damaged(found, ids)
    return sums


def trouble_of(database: Database, month: FiledMonth) -> str:
    """Return what is wrong with a recorded file; empty: nothing."""
    try:
        if sha256_of(month.file) == month.sha256:
            return ""
        found = examine(database, month.file)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except ArchiveError as error:
        return str(error)
    return "; ".join(found.trouble[:3]) or "is not the file that was recorded, although each block is sound"


def _groups(database: Database, month: FiledMonth) -> Iterator[tuple[range, list[Row[Any]]]]:
    """Yield the rows of each row group, and the quarters of its window."""
    c = compacted.c
    for first in range(month.first_quarter, month.until_quarter, WINDOW):
        until = min(first + WINDOW, month.until_quarter)
        statement = select(*(c[name] for name in _NAMES)).where(c.quarter.between(first, until - 1))
        with database.reads.begin() as connection:
            rows = connection.execute(
                statement.order_by(*(c[name] for name in BLOCKS.order)), execution_options={"yield_per": ROW_GROUP}
            )
            for some in rows.partitions():
                yield range(first, until), list(some)


def _columns(rows: list[Row[Any]]) -> dict[str, Any] | None:
    """Return rows as columns; ``None``: a damaged row has values of other types."""
    found: dict[str, Any] = {}
    with suppress(TypeError, ValueError, OverflowError):
        for name, values in zip(_NAMES, zip(*rows, strict=True), strict=True):
            if name == "payload":
                if {*map(type, values)} != {bytes}:
                    return None
                found[name] = list(values)
            elif _KINDS[name].nullable:
                known = np.array([value is not None for value in values])
                found[name] = Nullable(np.array([0 if value is None else value for value in values], np.int64), known)
            else:
                found[name] = np.array(values, np.int64)
        return found
    return None


def _is_same(table: Any, found: Rows) -> bool:
    for name, values in found.items():
        column = table[name]
        if _KINDS[name].kind is Kind.BYTES:
            same = column.to_pylist() == values
        elif isinstance(values, Nullable):
            same = column.to_pylist() == list(values)
        else:
            same = not column.null_count and np.array_equal(column.to_numpy(), _values(values))
        if not same:
            return False
    return True


def _values(values: Any) -> Any:
    return values.values if isinstance(values, Nullable) else values


def _add(sums: Sums, found: Rows) -> None:
    sums.rows += len(_values(found["quarter"]))
    # Sums of 64 bits: they wrap, as the recorded one does.
    sums.total = (sums.total + int(_values(found["total"]).sum(dtype=np.int64))) % 2**64


def _damaged(found: Rows, ids: "np.ndarray[Any, np.dtype[np.uint64]]") -> list[str]:
    """Return the blocks whose checksum does not match, in words."""
    numbers, kinds, quarters = (_values(found[name]) for name in ("meter_no", "record_type", "quarter"))
    meters = ids[np.where((numbers >= 0) & (numbers < len(ids)), numbers, 0)]
    keys = Keys(meters, kinds.astype(np.uint8), quarters.astype(np.uint32))
    _, damaged = unpack_sound(keys, cast("list[bytes]", found["payload"]))
    return [
        f"the block of meter {meters[row]}, type {kinds[row]}, quarter {quarters[row]} is damaged" for row in damaged
    ]


def _ids(database: Database) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    with database.reads.begin() as connection:
        numbers: dict[MeterId, int] = {
            unsigned64(row.id): row.no for row in connection.execute(select(meter.c.id, meter.c.no))
        }
    return ids_by_number(numbers)


def _quarantine(database: Database, within: range) -> None:
    with reading(database) as (connection, reader):
        wanted = select_parts(lambda c: c.quarter.between(within[0], within[-1]))
        for _ in reader.stream(connection, wanted, quarters=within):
            pass


def insert_rows(connection: Connection, table: Any, missing: Any) -> int:
    """Insert rows of a file, an Arrow table, into ``compacted``; return how many."""
    numbers = {name: numbers_of(table[name].take(missing)) for name in _NAMES if name != "payload"}
    return insert_columns(connection, compacted, numbers, table["payload"].take(missing).to_pylist())
