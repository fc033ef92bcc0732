"""Moves the whole store from its SQLite file to an empty PostgreSQL database: all of it, or nothing."""

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, Table, func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.service import uninterrupted
from utility.assembly.backup.backup import Tell
from utility.assembly.tables import metadata
from utility.database.bulk import translated
from utility.database.database import count_rows, open_database, opening_error
from utility.database.engines import make_engine, writing
from utility.database.migrate import migrate
from utility.database.postgres.partitions import make_partitions, month_of
from utility.readings.tables import compacted

_ROWS_AT_A_TIME = 500

_Rows = Sequence[Row[Any]]


def move(url: str, to: str, named: str, tell: Tell) -> int:
    """Copy every table in one transaction, read all back, compare, and commit; return how many rows were copied.

    Args:
        named: The name of the setting of ``url`` in errors.

    Raises:
        ConfigError: The file is in use, or the other database is not empty.
        StoreError: A row can't be read, or is not stored as it was read; nothing was moved.
    """
    engine = make_engine(parse_database(to))
    name = f"--to: {engine.url.database}"
    with closing(open_database(url, create=False, check=True, alone=True, named=named)) as source:
        try:
            with source.reads.begin() as reading, writing(engine).connect() as connection:
                rows = _fill(reading, connection, name, tell)
                with uninterrupted():
                    connection.commit()
        except SQLAlchemyError as error:
            is_ours = isinstance(getattr(error, "orig", None), sqlite3.Error)
            raise opening_error(named if is_ours else name, error, "sqlite" if is_ours else "") from error
        finally:
            engine.dispose()
    return rows


def _fill(reading: Connection, connection: Connection, name: str, tell: Tell) -> int:
    """Make and fill the tables; check that they have what was read."""
    if there := inspect(connection).get_table_names():
        raise ConfigError(f"{name}: is not empty, it has {there[0]}; name a new database (createdb)")
    migrate(connection, name)
    tables = metadata.sorted_tables
    total = sum(count_rows(reading, table) for table in tables)
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        tell(done, 2 * total)

    copied = {table.name: _sum(_copied(reading, connection, table), count) for table in tables}
    _continue_numbers(reading, connection)
    for table in tables:
        if _sum(_groups(connection, table), count) != copied[table.name]:
            raise StoreError(f"{name}: {table.name} is not stored as it was read; nothing was moved")
    if sum(rows for rows, _ in copied.values()) != total:
        raise StoreError(f"{name}: not all rows could be read; nothing was moved")
    return total


def _groups(connection: Connection, table: Table) -> Generator[_Rows, None, None]:
    with connection.execute(select(table).execution_options(yield_per=_ROWS_AT_A_TIME)) as found:
        yield from found.partitions()


def _copied(reading: Connection, connection: Connection, table: Table) -> Generator[_Rows, None, None]:
    """Yield a table's rows after they are copied."""
    names = ", ".join(f'"{column.name}"' for column in table.c)
    statement = f"COPY {table.name} ({names}) FROM STDIN"
    for rows in _groups(reading, table):
        if table is compacted:
            make_partitions(connection, {month_of(row.quarter) for row in rows})
        driver: Any = connection.connection.driver_connection
        with translated(connection, statement), driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        yield rows


def _sum(groups: Generator[_Rows, None, None], count: Callable[[int], None]) -> tuple[int, int]:
    """Return how many rows there are, and the sum of their digests, which their order does not change."""
    number = total = 0
    with closing(groups):  # An interruption leaves no cursor open.
        for rows in groups:
            number += len(rows)
            total += sum(int.from_bytes(blake2b(repr(tuple(row)).encode(), digest_size=16).digest()) for row in rows)
            count(len(rows))
    return number, total


def _continue_numbers(reading: Connection, connection: Connection) -> None:
    """Have each table number its next row as the file would: also a number that was deleted is not used again."""
    last = {row.name: row.seq for row in reading.execute(text("SELECT name, seq FROM sqlite_sequence"))}
    for name, table in metadata.tables.items():
        column = table.autoincrement_column
        if column is not None and (no := last.get(name) or reading.execute(select(func.max(column))).scalar()):
            connection.execute(select(func.setval(func.pg_get_serial_sequence(name, column.name), no)))
