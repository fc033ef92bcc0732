"""Inserts many parts or blocks at once, from columns: binary COPY on PostgreSQL, one prepared statement on SQLite."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from sqlalchemy import BigInteger, Connection, Integer, LargeBinary, SmallInteger, Table
from sqlalchemy.exc import DBAPIError

from utility.database.numbers import Column

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
            _translated(connection, statement),
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
def _translated(connection: Connection, statement: str) -> Iterator[None]:
    """Translate errors of the driver, which is used directly here, into SQLAlchemy's."""
    kind = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except kind as error:
        raise DBAPIError.instance(statement, None, error, kind, dialect=connection.dialect) from error
