"""Inserts many parts or blocks at once, from columns: binary COPY on PostgreSQL, one prepared statement on SQLite."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import BigInteger, Connection, Integer, SmallInteger, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from utility.database.numbers import Column

_ROWS_AT_A_TIME = 20_000
_COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_COUNT = np.dtype(">i2")
_LENGTH = np.dtype(">i4")
_NULL = -1
_PAYLOAD = "payload"
_PAYLOAD_LENGTH = f"{_PAYLOAD}.length"


def insert_columns(
    connection: Connection, table: Table, numbers: Mapping[str, Column], payloads: Iterable[bytes]
) -> int:
    """Insert all rows, or none; return how many.

    Args:
        table: ``part`` or ``compacted``; columns not in ``numbers`` get their defaults.
        numbers: The table's columns by name, without the payload.

    Raises:
        sqlalchemy.exc.DBAPIError: The statement failed.
    """
    payloads = list(payloads)
    if not payloads:
        return 0
    if connection.dialect.name == "postgresql":
        _copy(connection, table, numbers, payloads)
    else:
        names = ", ".join([*numbers, _PAYLOAD])
        marks = ", ".join("?" * (len(numbers) + 1))
        statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours
        # Plain values, which need no conversion by SQLAlchemy.
        connection.exec_driver_sql(statement, list(zip(*numbers.values(), payloads, strict=True)))
    return len(payloads)


def _copy(connection: Connection, table: Table, numbers: Mapping[str, Column], payloads: Sequence[bytes]) -> None:
    statement = f"COPY {table.name} ({', '.join([*numbers, _PAYLOAD])}) FROM STDIN (FORMAT BINARY)"
    with _translated(connection, statement):
        cursor = connection.connection.cursor()
        with cursor.copy(statement) as copy:
            for data in chain((_COPY_BEGIN,), _copy_rows(table, numbers, payloads), (_COPY_END,)):
                copy.write(data)
        cursor.close()


@contextmanager
def _translated(connection: Connection, statement: str) -> Iterator[None]:
    """Translate errors of the driver, which is used directly here, into SQLAlchemy's."""
    kind = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except kind as error:
        raise DBAPIError.instance(statement, None, error, kind, dialect=connection.dialect) from error


def _copy_rows(table: Table, numbers: Mapping[str, Column], payloads: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the rows in PostgreSQL's binary format.

    Rows with NULL in the same columns have the same layout before the payload, and are packed at once.
    """
    for rows, absent in _kinds(numbers, len(payloads)):
        for at in range(0, len(rows), _ROWS_AT_A_TIME):
            some = rows[at : at + _ROWS_AT_A_TIME]
            own = [payloads[row] for row in some.tolist()]
            head = _head(table, numbers, absent, some)
            head[_PAYLOAD_LENGTH] = np.fromiter(map(len, own), np.int64, len(own))
            pieces = [b""] * (2 * len(own))
            pieces[0::2] = head.view(f"V{head.dtype.itemsize}").tolist()
            pieces[1::2] = own
            yield b"".join(pieces)


def _kinds(numbers: Mapping[str, Column], count: int) -> list[tuple[npt.NDArray[np.intp], frozenset[str]]]:
    """Return the rows of each kind, and their NULL columns."""
    kind = np.zeros(count, np.int64)
    names: list[str] = []
    for name, column in numbers.items():
        if column.known is not None and not column.known.all():
            kind |= (~column.known).astype(np.int64) << len(names)
            names.append(name)
    return [
        (np.flatnonzero(kind == one), frozenset(name for bit, name in enumerate(names) if one >> bit & 1))
        for one in np.unique(kind).tolist()
    ]


def _head(
    table: Table, numbers: Mapping[str, Column], absent: frozenset[str], rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.void]:
    """Return the bytes before the payload of some rows; the payload's length is not set yet."""
    fields: list[tuple[str, np.dtype[Any]]] = [("count", _COUNT)]
    for name in numbers:
        fields.append((f"{name}.length", _LENGTH))
        if name not in absent:
            fields.append((name, _wire_type(table.c[name].type)))
    head = np.empty(len(rows), np.dtype([*fields, (_PAYLOAD_LENGTH, _LENGTH)]))
    head["count"] = len(numbers) + 1
    for name, column in numbers.items():
        if name in absent:
            head[f"{name}.length"] = _NULL
        else:
            head[f"{name}.length"] = _wire_type(table.c[name].type).itemsize
            head[name] = column.values[rows]
    return head


def _wire_type(kind: TypeEngine[Any]) -> np.dtype[Any]:
    # The others are subclasses of Integer, so it comes last.
    for sql, wire in ((SmallInteger, ">i2"), (BigInteger, ">i8"), (Integer, ">i4")):
        if isinstance(kind, sql):
            return np.dtype(wire)
    raise TypeError(f"{kind} is no column of whole numbers")
