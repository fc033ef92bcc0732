"""Backup and restore of a server's database: a pg_dump archive of our tables, restored in one transaction.

A restore takes only rows from an archive. Our migrations make the tables, with the archive's schema, and then update
them; so other programs' objects are neither restored nor changed. Until its transaction is committed, the database is
unchanged, whatever interrupts the restore.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, create_engine, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError
from commonwatt.runtime.interrupts import uninterrupted
from commonwatt.sqlite.damage import DamagedError
from utility.assembly.backup.checks import (
    HOLDS,
    VERSION_TABLE,
    DamagedBackupError,
    NoBackupError,
    begin_anew,
    check_revision,
    columns_of,
    taken,
)
from utility.assembly.tables import metadata
from utility.database.bulk import translated
from utility.database.checks import check_rows
from utility.database.engines import APPLICATION, timeouts_of
from utility.database.migrate import lock_schema, migrate, revisions
from utility.database.postgres.partitions import Month, make_partitions
from utility.database.postgres.programs import address, run, script
from utility.database.tables import setting
from utility.readings.tables import compacted, part

LOCK_TIMEOUT_S = 20  # longest wait of a backup or restore for another process's lock on a table, seconds

_VIEW = "block"
_NUMBERED = [
    (t.name, t.autoincrement_column.name) for t in metadata.sorted_tables if t.autoincrement_column is not None
]
_SEQUENCES = [f"{table}_{column}_seq" for table, column in _NUMBERED]
_PARTITION = re.compile(rf"{compacted.name}_(\d{{4}})_(0[1-9]|1[0-2])")
_LINES_AT_A_TIME = 1_000

_ENTRY = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|TABLE|SEQUENCE SET) (\S+) (\S+) ", re.MULTILINE)
_COPY = re.compile(rb"COPY \S+\.(\w+) \((.*)\) FROM stdin;\n")
_COPY_END = b"\\.\n"
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('\S+\.(\w+)', (\d+), (true|false)\);\n")
_ENCODING = re.compile(rb"SET client_encoding = '(\w+)';\n")

_LOCKED, _DEPENDED_ON = "55P03", "2BP01"
"""PostgreSQL's error codes for a lock that was not released in time, and for an object that others depend on."""

_USERS = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()")

_BLOCKERS = text(
    "SELECT DISTINCT a.pid, a.usename, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
    " JOIN pg_class AS c ON c.oid = l.relation AND c.relnamespace = current_schema()::regnamespace"
    " WHERE l.granted AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND c.relname = ANY(:names)"
)

_GRANTS = text(
    "SELECT c.relname, a.privilege_type, a.is_grantable,"
    " CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee"
    " FROM pg_class AS c, aclexplode(c.relacl) AS a"
    " WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY(:names)"
    " AND c.relkind IN ('r', 'p', 'v') AND a.grantee <> c.relowner"
)


@dataclass(frozen=True)
class Archive:
    """A checked archive that can be restored."""

    path: Path  # its path
    revision: str  # its schema
    entries: tuple[str, ...]  # numbers of its entries to restore, in this order: tables after the tables they refer to
    months: tuple[Month, ...]  # the months of its partitions


def dump(url: URL, made: Path) -> None:
    """Write an archive of our tables, and check that it can be restored.

    Raises:
        ConfigError: A program is missing.
        NoBackupError: The database is not the utility's, or the archive could not be restored.
        StoreError: The archive can't be made.
    """
    with _engine(url, "can't be backed up") as engine:
        with engine.begin() as connection:
            schema = _check_present(connection)
        names = [*metadata.tables, VERSION_TABLE, _VIEW, f"{compacted.name}_[0-9][0-9][0-9][0-9]_[0-9][0-9]"]
        options = ("--format=custom", "--no-owner", "--no-privileges", f"--lock-wait-timeout={LOCK_TIMEOUT_S}s")
        tables = [f'--table="{schema}".{name}' for name in names]
        try:
            run("pg_dump", url, *options, *tables, f"--file={made}", f"--dbname={address(url)}")
        except StoreError as error:
            if "canceling statement due to" in str(error):
                raise _held_up(engine) from error
            raise
    check_archive(url, made)


def check_archive(url: URL, source: Path) -> Archive:
    """Read a whole archive, as a restore does; return it as checked.

    Raises:
        ConfigError: A program is missing, or older than the archive.
        NoBackupError: It is incomplete, not of a utility's database, or of a schema that this version doesn't support.
    """
    try:
        archive = _listed(url, source)
        columns = columns_of(archive.revision)
        for name, found, rows in _tables(script(url, source, archive.entries)):
            table = compacted.name if _PARTITION.fullmatch(name) else name
            if {column.strip('"') for column in found} != columns[table]:
                raise NoBackupError(f"the columns of {name} are not those of schema {archive.revision}")
            for _ in rows:
                pass
    except StoreError as error:
        raise NoBackupError(str(error)) from error
    return archive


def _listed(url: URL, source: Path) -> Archive:
    """Return an archive from its list of entries; of its rows only the schema's name is read.

    Raises:
        NoBackupError: An entry is missing.
        StoreError: It can't be read.
    """
    entries = _ENTRY.findall(run("pg_restore", url, "--list", str(source)))
    # An archive of a whole database may have other programs' tables with the same names, in other schemas.
    schemas = {schema for _, kind, schema, name in entries if (kind, name) == ("TABLE DATA", part.name)}
    numbers = {(kind, name): number for number, kind, schema, name in entries if {schema} == schemas}
    version = numbers.get(("TABLE DATA", VERSION_TABLE))
    if version is None:
        raise NoBackupError("it has no tables of Commonwatt")
    lines = (line for _, _, rows in _tables(script(url, source, [version])) for line in rows)
    revision = check_revision({line.decode().strip() for line in lines})
    partitions = sorted({name for _, name in numbers if _PARTITION.fullmatch(name)})
    tables = [name for name in (*columns_of(revision), *partitions) if name not in (compacted.name, VERSION_TABLE)]
    if missing := [name for name in tables if ("TABLE DATA", name) not in numbers]:
        raise NoBackupError(f"it lacks the rows of {', '.join(missing)}")
    wanted = [("TABLE DATA", name) for name in tables] + [("SEQUENCE SET", name) for name in _SEQUENCES]
    months = [_PARTITION.fullmatch(name) for name in partitions]
    return Archive(
        source,
        revision,
        tuple(numbers[key] for key in wanted if key in numbers),
        tuple((int(month[1]), int(month[2])) for month in months if month),
    )


def restore_server(url: URL, source: Path, config: Path, *, replace: bool) -> None:
    """Replace the utility's tables by an archive's.

    Raises:
        ConfigError: The database is in use, is another program's, has data without ``replace``, or other programs'
            views depend on it.
        NoBackupError: The file is no backup, or it is damaged.
        StoreError: The archive can't be restored; the database is unchanged.
    """
    archive = check_archive(url, source)
    name = str(url.database)
    with _engine(url, "can't be replaced, and is unchanged") as engine, engine.connect() as connection:
        transaction = connection.begin()
        lock_schema(connection, name)
        ours = _check_replaceable(connection, name, replace=replace, told=taken(name, source, config))
        grants = connection.execute(_GRANTS, {"names": [*ours, _VIEW]}).all()
        _drop(connection, ours)
        migrate(connection, name, archive.revision)
        _load(connection, url, archive)
        migrate(connection, name)
        _check_rows(connection)
        begin_anew(connection)
        _grant(connection, grants)
        with uninterrupted():
            transaction.commit()


def _check_present(connection: Connection) -> str:
    """Check that a backup of a database could be restored; return the name of its PostgreSQL schema.

    Raises:
        NoBackupError: The database is not the utility's, of a later version, or it is damaged.
    """
    tables = set(inspect(connection).get_table_names())
    revision = check_revision(_versions(connection, tables))
    if missing := columns_of(revision).keys() - tables:
        raise NoBackupError(f"it lacks the tables {', '.join(sorted(missing))}")
    if revision == revisions()[0]:
        _check_rows(connection)
    return str(connection.execute(text("SELECT current_schema()")).scalar_one())


def _check_rows(connection: Connection) -> None:
    try:
        check_rows(connection)
    except DamagedError as error:
        raise DamagedBackupError(f"it is damaged ({error})") from error


def _versions(connection: Connection, tables: set[str]) -> set[str]:
    if VERSION_TABLE not in tables:
        return set()
    return set(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())  # noqa: S608 - ours


def _check_replaceable(connection: Connection, name: str, *, replace: bool, told: ConfigError) -> list[str]:
    """Return our tables in a database to be replaced.

    Raises:
        ConfigError: The database is in use, has data without ``replace``, or its tables may be another program's.
    """
    if connection.execute(_USERS, {"name": APPLICATION}).scalar_one():
        raise ConfigError(f"{name}: the utility, or one of its commands, is using the database; stop it first")
    tables = set(inspect(connection).get_table_names())
    ours = sorted(
        table for table in tables if table in metadata.tables or table == VERSION_TABLE or _PARTITION.fullmatch(table)
    )
    if ours and not _is_ours(connection, tables):
        raise ConfigError(
            f"{name}: has tables named like the utility's ({', '.join(ours)}), which seem to be another program's; "
            "name another database in the utility's file, such as an empty one, or remove the tables"
        )
    full = [table for table in HOLDS if table.name in tables]
    if not replace and any(connection.execute(select(text("1")).select_from(table).limit(1)).first() for table in full):
        raise told
    return ours


def _is_ours(connection: Connection, tables: set[str]) -> bool:
    """Return whether Commonwatt made the tables, this version or any later one."""
    versions = _versions(connection, tables)
    # Ours are like 0002; revisions that Alembic names itself contain letters.
    return setting.name in tables and bool(versions) and all(version.isdecimal() for version in versions)


def _drop(connection: Connection, tables: list[str]) -> None:
    """Drop our view and tables; an error if other programs' objects depend on them."""
    if tables:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {_VIEW}")
        connection.exec_driver_sql(f"DROP TABLE {', '.join(tables)}")


def _grant(connection: Connection, grants: Iterable[Row[Any]]) -> None:
    """Grant the privileges of the dropped tables on the new ones."""
    there = {*inspect(connection).get_table_names(), _VIEW}
    for grant in grants:
        if grant.relname in there:
            option = " WITH GRANT OPTION" if grant.is_grantable else ""
            connection.exec_driver_sql(f"GRANT {grant.privilege_type} ON {grant.relname} TO {grant.grantee}{option}")


def _load(connection: Connection, url: URL, archive: Archive) -> None:
    make_partitions(connection, archive.months)
    for name, columns, rows in _tables(script(url, archive.path, archive.entries), connection):
        statement = f"COPY {name} ({', '.join(columns)}) FROM STDIN"
        cursor = connection.connection.cursor()
        with translated(connection, statement), cursor.copy(statement) as copy:
            while data := b"".join(islice(rows, _LINES_AT_A_TIME)):
                copy.write(data)
        cursor.close()


def _tables(
    lines: Iterator[bytes], connection: Connection | None = None
) -> Iterator[tuple[str, list[str], Iterator[bytes]]]:
    """Yield (name, columns, rows) of each table in a script of pg_restore; the caller must read all rows.

    Args:
        lines: The script.
        connection: The connection for the script's encoding and sequences.
    """
    for line in lines:
        if found := _COPY.fullmatch(line):
            yield found[1].decode(), found[2].decode().split(", "), iter(lines.__next__, _COPY_END)
        elif connection is not None and (found := _ENCODING.fullmatch(line)):
            connection.exec_driver_sql(f"SET LOCAL client_encoding = '{found[1].decode()}'")
        elif connection is not None and (found := _SETVAL.fullmatch(line)):
            sequence, value, called = (group.decode() for group in found.groups())
            connection.exec_driver_sql(f"SELECT setval('{sequence}', {value}, {called})")


@contextmanager
def _engine(url: URL, failed: str) -> Iterator[Engine]:
    """Yield an engine for a server, without a pool and with timeouts; translate its errors.

    Raises:
        ConfigError: Another program's object depends on a table to be dropped.
        StoreError: Another error of the server.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args=timeouts_of(url), hide_parameters=True)
    try:
        yield engine
    except SQLAlchemyError as error:
        raise _refused(engine, error, failed) from error
    finally:
        engine.dispose()


def _refused(engine: Engine, error: SQLAlchemyError, failed: str) -> CommonwattError:
    """Return the error to raise for a server's error."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state == _LOCKED:
        return _held_up(engine)
    if state != _DEPENDED_ON:
        return StoreError(f"{engine.url.database}: {failed}: {_in_one_line(cause)}")
    detail = getattr(getattr(cause, "diag", None), "message_detail", None) or cause
    return ConfigError(
        f"{engine.url.database}: a view or table that is not Commonwatt's depends on its tables, and would be lost: "
        f"{_in_one_line(detail)}. Nothing was changed. Keep its definition (pg_dump --schema-only "
        "writes it), drop it, restore, and make it again"
    )


def _in_one_line(said: object) -> str:
    return "; ".join(str(said).splitlines())


def _held_up(engine: Engine) -> StoreError:
    """Return the error for tables that other processes have locked; it names the processes."""
    with engine.begin() as connection:
        tables: Iterable[str] = inspect(connection).get_table_names()
        ours = [table for table in tables if table in metadata.tables or _PARTITION.fullmatch(table)]
        found = connection.execute(_BLOCKERS, {"names": [*ours, VERSION_TABLE, _VIEW]}).all()
    who = ", ".join(f"process {row.pid} (role {row.usename}, {row.application_name or 'no name'})" for row in found)
    ends = "; ".join(f"SELECT pg_terminate_backend({row.pid})" for row in found)
    how = f'; or end it on the server: sudo -u postgres psql -c "{ends}"' if found else ""
    return StoreError(
        f"{engine.url.database}: its tables are locked by {who or 'a process that has ended since'}. Nothing changed. "
        f"Wait for its end, and try again{how}"
    )
