"""Months of blocks in files, and batches: queries on ``compacted`` and ``part`` read them, too.

``execute`` copies the blocks of a query's quarters and meters from the files into a table of its connection, and runs
the query over that table and ``compacted`` together. A block in ``compacted`` has all readings that its key has in a
file, since the compactor joins late readings with the file's block; so the file's block is left out.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from os import SEEK_END
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    and_,
    bindparam,
    delete,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import ColumnElement, Executable, visitors
from sqlalchemy.sql.visitors import InternalTraversal

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.database.bulk import insert_columns
from utility.database.locks import Lock, share
from utility.database.numbers import Column as Numbers
from utility.readings.store.batches import arrived, load_batches
from utility.readings.tables import archived_month, compacted, part

EVERY = range(2**31)  # all quarters
LEAVING, ARCHIVED = "leaving", "archived"  # states of a month whose file is read
KEY = ("quarter", "meter_no", "record_type")
MOST_NAMED = 500  # most quarters, and meters, that a condition names one by one
_MARK = b"cw-footer-crc"  # before a file's footer; then comes the CRC-32 of the footer and of what follows
_LONGEST_END = 1 << 24  # bytes in which the mark is: a month's footer has about 2 MB
_GROUPS_KEPT = 64  # row groups that stay in memory: a day of a town is read quarter by quarter

_Statement = TypeVar("_Statement", bound=Executable)

archived = Table(
    "archived",
    MetaData(),
    *(Column(c.name, c.type) for c in compacted.c),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
"""The blocks from files that the present query of a connection reads."""


class ArchiveError(StoreError):
    """A file of the archive is missing or damaged."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class Number(ColumnElement[int]):
    """The rowid of ``compacted`` on SQLite; NULL elsewhere."""

    inherit_cache = True
    # Without it, statements with this element have no key, and are compiled at each execution.
    _traverse_internals = [("type", InternalTraversal.dp_type)]  # noqa: RUF012
    type = BigInteger()


@compiles(Number)
def _no_number(*_: object, **__: object) -> str:
    return "CAST(NULL AS BIGINT)"


@compiles(Number, "sqlite")
def _rowid(*_: object, **__: object) -> str:
    return "compacted.rowid"


# The value of ``is_compacted`` of blocks in the database; of those from a file it is ``IN_FILE``.
IN_DATABASE = literal_column("1", Integer)
IN_FILE = 2

_fresh = union_all(select(*part.c), select(*arrived.c)).subquery("part_both")
_both = union_all(
    select(*compacted.c, Number().label("rowid"), literal_column("1", Integer).label("place")),
    select(*archived.c, null().label("rowid"), literal_column(str(IN_FILE), Integer).label("place")),
).subquery("compacted_both")


def execute(
    connection: Connection,
    statement: _Statement,
    values: Any = None,
    *,
    quarters: Collection[Quarter] = EVERY,
    meters: Collection[int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return the result of a select over ``compacted``, with the archive, and ``part``, with the batches.

    Args:
        connection: A connection in a transaction that reads one state of the database.
        quarters: All quarters that it selects, or more.
        meters: The numbers of all meters that it selects, or more; ``None``: any.

    Raises:
        ArchiveError: A file that it needs is missing or damaged.
    """
    filed = _columns_of(statement, compacted)
    is_filed = bool(filed) and load(connection, quarters, meters, filed)
    is_fresh = bool(_columns_of(statement, part)) and load_batches(connection, quarters, meters)
    if is_filed or is_fresh:
        statement = _over_both(statement, is_filed=is_filed, is_fresh=is_fresh)
    return connection.execute(statement, values, execution_options=dict(options or {}))


def changing(connection: Connection, quarters: Collection[Quarter]) -> None:
    """Tell months on their way to a file that blocks of them change in this transaction."""
    share(connection, Lock.ARCHIVE)
    c = archived_month.c
    if len(quarters):
        within = (c.first_quarter <= max(quarters)) & (c.until_quarter > min(quarters))
        for month in connection.execute(select(c.first_quarter, c.until_quarter).where(within)).all():
            if any(month.first_quarter <= quarter < month.until_quarter for quarter in quarters):
                ours = archived_month.update().where(c.first_quarter == month.first_quarter)
                connection.execute(ours.values(changes=c.changes + 1))


@lru_cache(256)
def _over_both(statement: _Statement, *, is_filed: bool, is_fresh: bool) -> _Statement:
    """Return a select that also reads the blocks that ``load``, and the parts that ``load_batches`` copied."""
    whole = {compacted: _both} if is_filed else {}
    whole |= {part: _fresh} if is_fresh else {}

    def replace(element: Any, **_: object) -> Any:
        if is_filed and element is IN_DATABASE:
            return _both.c.place
        if is_filed and isinstance(element, Number):
            return _both.c.rowid
        if isinstance(element, Column):
            return whole[element.table].c[element.name] if element.table in whole else None
        return whole.get(element) if isinstance(element, Table) else None

    traverse: Any = visitors.replacement_traverse
    return cast("_Statement", traverse(statement, {}, replace))


@lru_cache(256)
def _columns_of(statement: Executable, table: Table) -> frozenset[str]:
    """Return the columns of a table that a select uses."""
    found = visitors.iterate(statement)  # type: ignore[arg-type]
    return frozenset(each.name for each in found if isinstance(each, Column) and each.table is table)


_MONTHS = (
    select(archived_month)
    .where(
        archived_month.c.state.in_([LEAVING, ARCHIVED]),
        archived_month.c.first_quarter <= bindparam("last"),
        archived_month.c.until_quarter > bindparam("first"),
    )
    .order_by(archived_month.c.first_quarter)
)


def load(
    connection: Connection, quarters: Collection[Quarter], meters: Collection[int] | None, columns: Collection[str]
) -> bool:
    """Copy the archived blocks of some quarters and meters that are not in ``compacted``; return whether there may be.

    Args:
        columns: The columns that are needed besides the key; the others are NULL, or empty.
    """
    if not len(quarters):
        return False
    first, last = (quarters[0], quarters[-1]) if isinstance(quarters, range) else (min(quarters), max(quarters))
    months = connection.execute(_MONTHS, {"first": first, "last": last}).all()
    if not months:
        return False
    connection.execute(CreateTable(archived, if_not_exists=True))
    connection.execute(delete(archived))
    numbers = None if meters is None else np.array(sorted(meters), np.int64)
    for month in months:
        wanted = range(max(first, month.first_quarter), min(last + 1, month.until_quarter))
        named = None if isinstance(quarters, range) else np.array([q for q in quarters if q in wanted], np.int64)
        there = _keys_there(connection, wanted if named is None else named.tolist(), numbers)
        for keys, rows in _blocks(Path(month.path), wanted, named, numbers, sorted(columns)):
            new = np.flatnonzero(~np.isin(_packed(keys, wanted.start), _packed(there, wanted.start)))
            taken = rows.take(new)
            found = {name: Numbers(values[new]) for name, values in zip(KEY, keys, strict=True)}
            found |= {name: numbers_of(taken[name]) for name in columns if name not in (*KEY, "payload")}
            payloads = taken["payload"].to_pylist() if "payload" in columns else [b""] * len(new)
            insert_columns(connection, archived, found, payloads)
    return True


def months_apart(connection: Connection, first: Quarter, last: Quarter) -> Iterator[range]:
    """Yield the quarters ``first`` to ``last`` in ranges that can be read at once: those of files by day."""
    begin = first
    for month in connection.execute(_MONTHS, {"first": first, "last": last}).all():
        if begin < month.first_quarter:
            yield range(begin, month.first_quarter)
            begin = month.first_quarter
        until = min(last + 1, month.until_quarter)
        for day in range(begin, until, QUARTERS_A_DAY):
            yield range(day, min(until, day + QUARTERS_A_DAY))
        begin = max(begin, until)
    if begin <= last:
        yield range(begin, last + 1)


def _packed(keys: Sequence[npt.NDArray[np.int64]], first: Quarter) -> npt.NDArray[np.int64]:
    """Return each key as one number; the quarters are of one month."""
    quarter, meter, kind = keys
    return (quarter - first) << 44 | meter << 8 | kind


def _keys_there(
    connection: Connection, quarters: Sequence[Quarter], meters: npt.NDArray[np.int64] | None
) -> Sequence[npt.NDArray[np.int64]]:
    """Return the keys of blocks in ``compacted``."""
    c = compacted.c
    if not len(quarters):
        return [np.zeros(0, np.int64)] * 3
    # Each quarter by its name: the key begins with it, and a condition on the meters alone would read the whole month.
    if meters is not None and len(meters) <= MOST_NAMED and len(quarters) <= 2 * MOST_NAMED:
        which = and_(c.quarter.in_(quarters), c.meter_no.in_(meters.tolist()))
    else:
        which = c.quarter.between(min(quarters), max(quarters))
    rows = connection.execute(select(*(c[name] for name in KEY)).where(which)).all()
    return list(np.array([tuple(row) for row in rows], np.int64).reshape(-1, 3).T)


def numbers_of(column: Any) -> Numbers:
    """Return an Arrow column of whole numbers."""
    whole = column.fill_null(0).to_numpy()
    known = column.is_valid().to_numpy() if column.null_count else None
    return Numbers(whole.astype(np.int64), known)


def _blocks(
    path: Path,
    within: range,
    named: npt.NDArray[np.int64] | None,
    meters: npt.NDArray[np.int64] | None,
    columns: Sequence[str],
) -> Iterator[tuple[Sequence[npt.NDArray[np.int64]], Any]]:
    """Yield keys, and rows with the wanted columns, of the row groups that have wanted quarters and meters."""
    file = File.open(path)
    for group in file.groups_of(within, meters):
        rows = read_group(file, group, tuple(dict.fromkeys((*KEY, *columns))))
        keys = [rows[name].to_numpy().astype(np.int64, copy=False) for name in KEY]
        quarter, number, _ = keys
        wanted = (quarter >= within.start) & (quarter < within.stop)
        if named is not None:
            wanted &= np.isin(quarter, named)
        if meters is not None:
            wanted &= np.isin(number, meters)
        if wanted.any():
            at = np.flatnonzero(wanted)
            yield [values[at] for values in keys], rows.take(at)


class File:
    """A file of a month, with what its end says of the row groups."""

    def __init__(self, path: Path, footer: Any) -> None:
        self.path = path
        self.footer = footer
        self.groups = footer.num_row_groups  # how many row groups there are
        places = (
            {footer.row_group(0).column(at).path_in_schema: at for at in range(footer.num_columns)}
            if footer.num_row_groups
            else {}
        )
        # (least quarter, greatest quarter, least meter's number, greatest one) of each row group.
        self._bounds = np.array(
            [
                [bound for name in KEY[:2] for bound in _bounds(footer.row_group(at).column(places[name]))]
                for at in range(self.groups)
            ],
            np.int64,
        ).reshape(-1, 4)

    @staticmethod
    def open(path: Path) -> "File":
        """Return a file; its end is read once.

        Raises:
            ArchiveError: It is missing or damaged.
        """
        try:
            state = path.stat()
        except OSError as error:
            raise ArchiveError(path, f"can't be read: {error.strerror}") from error
        return _opened(path, state.st_mtime_ns, state.st_ino)

    def groups_of(self, quarters: range, meters: npt.NDArray[np.int64] | None) -> list[int]:
        """Return the row groups that may have blocks of some quarters and meters."""
        least, most, low, high = self._bounds.T
        may = (most >= quarters.start) & (least < quarters.stop)
        if meters is not None:
            # Whether a wanted number lies between the bounds.
            may &= np.searchsorted(meters, low) < np.searchsorted(meters, high, side="right")
        return [int(at) for at in np.flatnonzero(may)]


def _bounds(column: Any) -> tuple[int, int]:
    return column.statistics.min, column.statistics.max


def checked_end(end: bytes) -> bytes:
    """Return the end of a Parquet file with a checksum before its footer: other readers skip it."""
    footer = int.from_bytes(end[-8:-4], "little") + 8
    return end[:-footer] + _MARK + _crc(end[-footer:]) + end[-footer:]


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _check_end(path: Path) -> None:
    """Refuse a damaged end: the library may stop the process that reads one. Older files have no checksum of it."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, SEEK_END) - _LONGEST_END))
        _, mark, end = file.read().rpartition(_MARK)
    if mark and end[:4] != _crc(end[4:]):
        raise ArchiveError(path, "is damaged: its end is not as it was written")


@lru_cache(4)
def _opened(path: Path, *_: int) -> File:
    import pyarrow.parquet  # large, and only an archive needs it

    try:
        _check_end(path)
        return File(path, pyarrow.parquet.read_metadata(path))
    except (OSError, ValueError, AttributeError, pyarrow.ArrowException) as error:
        raise ArchiveError(path, f"is damaged: {error}") from error


@lru_cache(_GROUPS_KEPT)
def read_group(file: File, group: int, columns: tuple[str, ...]) -> Any:
    """Return columns of a row group, as an Arrow table.

    Raises:
        ArchiveError: They can't be read.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    # Each payload has a checksum of its own, so that of a damaged page only the damaged blocks are lost; other columns
    # have the page's alone.
    for is_checked in (True, False):
        try:
            with ParquetFile(file.path, metadata=file.footer, page_checksum_verification=is_checked) as opened:
                return opened.read_row_group(group, columns=list(columns), use_threads=False)
        except (OSError, ValueError, ArrowException) as error:
            if not is_checked or "payload" not in columns:
                raise ArchiveError(file.path, f"row group {group} is damaged: {error}") from error
    raise AssertionError
