"""SQL of a person in a DuckDB that reaches nothing else; a process of a cluster needs no more than this."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Any

import duckdb
import pyarrow as pa

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.watchdog import calling_after

MEMORY = "1GB"  # the most memory of a database; a task has two, one after the other
MAX_ROWS, MAX_BYTES = 1_000_000, 1_000_000_000  # the most rows of a result, and bytes
WITHIN_S = 600  # seconds within which a query ends

# Nothing is spilled: a person's SQL writes no file, and no row of a home is left on a disk.
_BOUNDED = f"""
SET memory_limit = '{MEMORY}'; SET temp_directory = ''; SET threads = 1; SET TimeZone = 'UTC';
SET enable_progress_bar = false;
"""
_CLOSED = """
SET python_enable_replacements = false; SET autoload_known_extensions = false;
SET autoinstall_known_extensions = false; SET enable_external_access = false; SET lock_configuration = true;
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A town's query, as text: it gives the same result wherever and however often it runs."""

    town: str  # the town's name
    tables: Mapping[str, str]  # our statement that makes each table, by its name
    sql: str  # a person's query over them
    told: str  # the town's files in words


def result_of(task: Task) -> Any:
    """Return the rows of a town's query, or in words why it fails on them: another try would not help.

    Raises:
        StoreError: A file can't be read here.
    """
    named = f"town {task.town}"
    try:
        return with_town(query(named, made(task.tables), task.sql), task.town)
    except duckdb.IOException as error:
        raise StoreError(f"{named}: {error}") from error
    except duckdb.Error as error:
        return f"{named}: {error}"
    except ConfigError as error:
        return str(error)


def made(statements: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables that our own statements make."""
    with closing(duckdb.connect(":memory:")) as connection:
        connection.execute(_BOUNDED)
        return {name: connection.sql(statement).to_arrow_table() for name, statement in statements.items()}


def query(named: str, tables: Mapping[str, Any], sql: str, *, runs: bool = True) -> Any:
    """Return the rows of a person's query over tables, which are all that it reaches.

    Args:
        named: What errors begin with.
        tables: The tables, by name.
        sql: The query.
        runs: Whether it runs; else it is only checked, and the result has its columns without rows.

    Raises:
        ConfigError: It is no single SELECT, is wrong, has too many rows, or takes too much memory or time.
    """
    with closing(duckdb.connect(":memory:")) as connection:
        connection.execute(_BOUNDED)
        for name, table in tables.items():
            connection.register("given", table)
            connection.execute(f'CREATE TABLE "{name}" AS FROM given')
            connection.unregister("given")
        connection.execute(_CLOSED)
        late = Event()

        def end() -> None:
            late.set()
            connection.interrupt()

        with calling_after(WITHIN_S, end):
            try:
                return _rows(connection, named, sql, runs=runs)
            except duckdb.OutOfMemoryException as error:
                raise ConfigError(f"{named}: wants more than {MEMORY} of memory; select less") from error
            except (duckdb.Error, RuntimeError) as error:
                if late.is_set():
                    raise ConfigError(f"{named}: did not end within {WITHIN_S} s; select less") from error
                if not isinstance(error, duckdb.Error):
                    raise
                raise ConfigError(f"{named}: {error}") from error


def _rows(connection: duckdb.DuckDBPyConnection, named: str, sql: str, *, runs: bool) -> Any:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ConfigError(f"{named}: give one SELECT")
    rows = connection.sql(statements[0])
    if not runs:
        return rows.limit(0).to_arrow_table()
    reader, batches, count, size = rows.to_arrow_reader(), list[Any](), 0, 0
    for batch in reader:
        batches.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if count > MAX_ROWS:
            raise ConfigError(f"{named}: more than {MAX_ROWS:,} rows; sum them, or select fewer")
        if size > MAX_BYTES:
            raise ConfigError(f"{named}: more than {MAX_BYTES / 1e9:g} GB of rows; sum them, or select less")
    return pa.Table.from_batches(batches, schema=reader.schema)


def with_town(rows: Any, town: str) -> Any:
    """Return rows with the town's name as their first column."""
    return rows.add_column(0, "town", pa.array([town] * rows.num_rows, pa.string()))
