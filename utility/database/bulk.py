"""Many keys in one statement, and many rows at once: binary COPY on PostgreSQL, one prepared on SQLite.

For a list in the statement, `(a, b) IN ((1, 2), ...)`, SQLite reads the whole table, and PostgreSQL plans each key
separately in each month's partition. With all keys in one JSON parameter, both look up each key by the index.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    bindparam,
    cast,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from utility.database.numbers import Column


class _Elements(FunctionElement[Any]):
    """The elements of a JSON list, as rows."""

    name = "elements"
    inherit_cache = True


@compiles(_Elements, "sqlite")
def _on_sqlite(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _on_postgresql(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS jsonb))"


def is_one_of(columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """Return the condition that whole-number ``columns`` are one of the keys in ``:keys``, the value of ``listed``."""
    key = _Elements(bindparam("keys", type_=String)).table_valued("value").c.value
    parts = (cast(key.op("->>")(text(str(place))), BigInteger) for place in range(len(columns)))
    return tuple_(*columns).in_(select(*parts))


def listed(keys: Sequence[tuple[int, ...]]) -> dict[str, str]:
    """Return the parameter ``:keys`` for some keys."""
    return {"keys": json.dumps(keys)}


_PAYLOAD = "payload"
# The server's types. BigInteger and SmallInteger are subclasses of Integer, so it comes last.
_TYPES = ((SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (LargeBinary, "bytea"))


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
    # Plain values, which need no conversion by SQLAlchemy.
    rows = list(zip(*numbers.values(), payloads, strict=True))
    if not rows:
        return 0
    names = [*numbers, _PAYLOAD]
    into = f"{table.name} ({', '.join(names)})"
    if connection.dialect.name == "postgresql":
        statement = f"COPY {into} FROM STDIN (FORMAT BINARY)"
        types = [next(wire for sql, wire in _TYPES if isinstance(table.c[name].type, sql)) for name in names]
        with (
            translated(connection, statement),
            closing(connection.connection.cursor()) as cursor,
            cursor.copy(statement) as copy,
        ):
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    else:
        statement = f"INSERT INTO {into} VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - names of ours
        connection.exec_driver_sql(statement, rows)
    return len(rows)


@contextmanager
def translated(connection: Connection, statement: str) -> Iterator[None]:
    """Translate errors of the driver, where it is used directly, into SQLAlchemy's."""
    kind = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except kind as error:
        raise DBAPIError.instance(statement, None, error, kind, dialect=connection.dialect) from error
