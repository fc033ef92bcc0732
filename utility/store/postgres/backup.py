"""Backups of a server's database: an archive of pg_dump with our tables, put back in one transaction.

Only rows are taken from an archive. The tables are made by our own migrations, of the schema that the archive has, and
then brought up to date; so nothing of anybody else's is put back, or touched. Until the transaction is committed, the
database is as it was, whatever ends it.
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
from utility.store.backup.restore import (
    HOLDS,
    VERSION_TABLE,
    DamagedBackupError,
    NoBackupError,
    begin_anew,
    check_revision,
    columns_of,
    taken,
)
from utility.store.bulk import translated
from utility.store.checks import check_meters
from utility.store.engines import APPLICATION, timeouts_of
from utility.store.postgres.partitions import Month, make_partitions
from utility.store.postgres.programs import address, run, script
from utility.store.schema import lock_schema, migrate, revisions
from utility.store.tables import compacted, metadata, part, setting

LOCK_TIMEOUT_S = 20
"""How long a backup, or a restore, waits for another process that holds a table."""

_VIEW = "block"
_SEQUENCES = ("part_id_seq", "letter_no_seq", "meter_no_seq")
_PARTITION = re.compile(rf"{compacted.name}_(\d{{4}})_(0[1-9]|1[0-2])")
_LINES_AT_A_TIME = 1_000

_ENTRY = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|TABLE|SEQUENCE SET) (\S+) (\S+) ", re.MULTILINE)
_COPY = re.compile(rb"COPY \S+\.(\w+) \((.*)\) FROM stdin;\n")
_COPY_END = b"\\.\n"
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('\S+\.(\w+)', (\d+), (true|false)\);\n")
_ENCODING = re.compile(rb"SET client_encoding = '(\w+)';\n")

_LOCKED, _DEPENDED_ON = "55P03", "2BP01"
"""PostgreSQL's codes for a table that another process held too long, and for one that something depends on."""

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
    """An archive that was looked at whole, and can be put back.

    Attributes:
        path: Where it is.
        revision: Its schema.
        entries: Numbers of what is taken from it, in this order: tables after those they refer to.
        months: Those that have a partition in it.
    """

    path: Path
    revision: str
    entries: tuple[str, ...]
    months: tuple[Month, ...]


def dump(url: URL, made: Path) -> None:
    """Write an archive of our tables, and check that it can be put back.

    Raises:
        ConfigError: A program is missing.
        NoBackupError: The database is none of ours, or what was written can't be put back.
        StoreError: It can't be made.
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
    """Look at an archive from its beginning to its end, as a restore reads it; return what is put back of it.

    Raises:
        ConfigError: A program is missing, or older than the archive.
        NoBackupError: It is not whole, or not of a utility's database, or of a schema that this version doesn't know.
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
    """Return what an archive's list says; nothing but its schema's name is read.

    Raises:
        NoBackupError: It lacks something.
        StoreError: It can't be read.
    """
    entries = _ENTRY.findall(run("pg_restore", url, "--list", str(source)))
    # An archive of a whole database may have tables of the same names, of others, in other schemas.
    schemas = {schema for _, kind, schema, name in entries if (kind, name) == ("TABLE DATA", part.name)}
    numbers = {(kind, name): number for number, kind, schema, name in entries if {schema} == schemas}
    version = numbers.get(("TABLE DATA", VERSION_TABLE))
    if version is None:
        raise NoBackupError("it holds no tables of Commonwatt")
    lines = (line for _, _, rows in _tables(script(url, source, [version])) for line in rows)
    revision = check_revision({line.decode().strip() for line in lines})
    partitions = sorted({name for _, name in numbers if _PARTITION.fullmatch(name)})
    tables = [name for name in (*columns_of(revision), *partitions) if name not in (compacted.name, VERSION_TABLE)]
    if missing := [name for name in tables if ("TABLE DATA", name) not in numbers]:
        raise NoBackupError(f"it lacks what is in {', '.join(missing)}")
    wanted = [("TABLE DATA", name) for name in tables] + [("SEQUENCE SET", name) for name in _SEQUENCES]
    months = [_PARTITION.fullmatch(name) for name in partitions]
    return Archive(
        source,
        revision,
        tuple(numbers[key] for key in wanted if key in numbers),
        tuple((int(month[1]), int(month[2])) for month in months if month),
    )


def restore_server(url: URL, source: Path, config: Path, *, replace: bool) -> None:
    """Put an archive back in the place of what is there.

    Raises:
        ConfigError: The database is in use, is none of ours, holds something and is not to be replaced, or others'
            views depend on it.
        NoBackupError: It is no backup, or its meters are damaged.
        StoreError: It can't be put back; the database is as it was.
    """
    archive = check_archive(url, source)
    name = str(url.database)
    with _engine(url, "can't be replaced, and is as it was") as engine, engine.connect() as connection:
        transaction = connection.begin()
        lock_schema(connection, name)
        ours = _check_replaceable(connection, name, replace=replace, told=taken(name, source, config))
        grants = connection.execute(_GRANTS, {"names": [*ours, _VIEW]}).all()
        _drop(connection, ours)
        migrate(connection, name, archive.revision)
        _load(connection, url, archive)
        migrate(connection, name)
        _check_meters(connection)
        begin_anew(connection)
        _grant(connection, grants)
        with uninterrupted():
            transaction.commit()


def _check_present(connection: Connection) -> str:
    """Check that a database could be put back after it was backed up; return the schema it is in.

    Raises:
        NoBackupError: It is none of ours, or of a later version, or its meters are damaged.
    """
    tables = set(inspect(connection).get_table_names())
    revision = check_revision(_versions(connection, tables))
    if missing := columns_of(revision).keys() - tables:
        raise NoBackupError(f"it lacks the tables {', '.join(sorted(missing))}")
    if revision == revisions()[0]:
        _check_meters(connection)
    return str(connection.execute(text("SELECT current_schema()")).scalar_one())


def _check_meters(connection: Connection) -> None:
    try:
        check_meters(connection)
    except DamagedError as error:
        raise DamagedBackupError(f"it is damaged ({error})") from error


def _versions(connection: Connection, tables: set[str]) -> set[str]:
    if VERSION_TABLE not in tables:
        return set()
    return set(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())  # noqa: S608 - ours


def _check_replaceable(connection: Connection, name: str, *, replace: bool, told: ConfigError) -> list[str]:
    """Return our tables in a database that is to be replaced.

    Raises:
        ConfigError: It is in use, it holds something and is not to be replaced, or its tables may be others'.
    """
    if connection.execute(_USERS, {"name": APPLICATION}).scalar_one():
        raise ConfigError(f"{name}: the utility, or one of its commands, is using it; stop it first")
    tables = set(inspect(connection).get_table_names())
    ours = sorted(
        table for table in tables if table in metadata.tables or table == VERSION_TABLE or _PARTITION.fullmatch(table)
    )
    if ours and not _is_ours(connection, tables):
        raise ConfigError(
            f"{name}: holds tables named like the utility's ({', '.join(ours)}), which seem to be another program's; "
            "name another database in the utility's file, such as an empty one, or take them away"
        )
    full = [table for table in HOLDS if table.name in tables]
    if not replace and any(connection.execute(select(text("1")).select_from(table).limit(1)).first() for table in full):
        raise told
    return ours


def _is_ours(connection: Connection, tables: set[str]) -> bool:
    """Tell whether Commonwatt made the tables, be it a later version, whose backup this one may put back."""
    versions = _versions(connection, tables)
    # Such as 0002; what Alembic names by itself has letters.
    return setting.name in tables and bool(versions) and all(version.isdecimal() for version in versions)


def _drop(connection: Connection, tables: list[str]) -> None:
    """Drop what is ours; what others have made to depend on it keeps it from being dropped."""
    if tables:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {_VIEW}")
        connection.exec_driver_sql(f"DROP TABLE {', '.join(tables)}")


def _grant(connection: Connection, grants: Iterable[Row[Any]]) -> None:
    """Grant on the tables made anew what was granted on those that were there."""
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
    """Yield each table in a script of pg_restore: its name, its columns, and its rows, which must be read to their end.

    Args:
        lines: The script.
        connection: Where its encoding and its numbers of rows are set.
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
    """Yield what connects to a server, for one thing at a time; nothing waits for ever.

    Raises:
        ConfigError: Something of others depends on what was to be dropped.
        StoreError: The server says no, for another reason.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args=timeouts_of(url))
    try:
        yield engine
    except SQLAlchemyError as error:
        raise _refused(engine, error, failed) from error
    finally:
        engine.dispose()


def _refused(engine: Engine, error: SQLAlchemyError, failed: str) -> CommonwattError:
    """Return what is to be told of what a server refused."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state == _LOCKED:
        return _held_up(engine)
    if state != _DEPENDED_ON:
        return StoreError(f"{engine.url.database}: {failed}: {_in_one_line(cause)}")
    detail = getattr(getattr(cause, "diag", None), "message_detail", None) or cause
    return ConfigError(
        f"{engine.url.database}: something that is not Commonwatt's depends on its tables, and would be lost: "
        f"{_in_one_line(detail)}. Nothing was changed. Keep how that was made (pg_dump --schema-only "
        "writes it), drop it, restore, and make it again"
    )


def _in_one_line(said: object) -> str:
    return "; ".join(str(said).splitlines())


def _held_up(engine: Engine) -> StoreError:
    """Return the error for tables that other processes hold; it names them."""
    with engine.begin() as connection:
        tables: Iterable[str] = inspect(connection).get_table_names()
        ours = [table for table in tables if table in metadata.tables or _PARTITION.fullmatch(table)]
        found = connection.execute(_BLOCKERS, {"names": [*ours, VERSION_TABLE, _VIEW]}).all()
    who = ", ".join(f"process {row.pid} (role {row.usename}, {row.application_name or 'no name'})" for row in found)
    ends = "; ".join(f"SELECT pg_terminate_backend({row.pid})" for row in found)
    how = f'; or end it on the server: sudo -u postgres psql -c "{ends}"' if found else ""
    return StoreError(
        f"{engine.url.database}: its tables are held by {who or 'a process that has ended since'}. Nothing changed. "
        f"Wait until that has ended, and try again{how}"
    )
