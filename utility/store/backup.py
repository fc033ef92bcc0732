"""Backups of the whole database, and putting one back: SQLite's online backup, or PostgreSQL's own programs.

A database that was put back has fallen behind what was acknowledged since. It gets a new store id, by which every
gateway sees that, and sends its backup again.
"""

import logging
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from commonwatt.damage import check_pages, delete_database, make_ready, open_read_only, put_in_place, sync_folder
from commonwatt.exceptions import ConfigError, StoreError
from commonwatt.packing import unpack_sound
from commonwatt.service import only_one
from commonwatt.units import EpochSeconds, unsigned64
from utility.store.database import APPLICATION, new_store_id, open_database, share, sqlite_path
from utility.store.known import registry_changed
from utility.store.schema import BEFORE
from utility.store.tables import compacted, event, letter, metadata, meter, part

log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]
"""Is told how much is done, of how much."""

_PAGES_AT_A_TIME = 4_096
_ROWS_AT_A_TIME = 20_000
_SECRETS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Words of libpq that programs take from their arguments alone."""

_HOLDS = (meter, part, compacted, event, letter)
"""A database with a row in one of these holds something."""


def backup(url: str, target: Path, tell: Tell) -> int:
    """Write a backup of a database, whether or not the service runs; return how many damaged parts are in it.

    A damaged part keeps nothing else from being kept: whoever reads it, here or where the backup was put back, sets it
    aside and has it asked for again.

    Args:
        url: The database.
        target: The file to write; it is there when it is complete and was checked, or not at all.
        tell: Is told of the progress, on SQLite.

    Raises:
        ConfigError: The file is there already, there is no database, or a program is missing.
        StoreError: It can't be made, or what was written is not sound.
    """
    if target.exists():
        raise ConfigError(f"{target}: is there already; name another file, or move that one away")
    made = target.with_name(f"{target.name}.part")
    path = sqlite_path(url)
    try:
        made.unlink(missing_ok=True)
        # What is in it is for nobody else's eyes.
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        damaged = 0
        if path is None:
            _dump(make_url(url), made)
        else:
            _copy_running(path, made, tell)
            damaged = _check_copy(made)
        _sync(made)
        made.rename(target)
        sync_folder(target.absolute().parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target}: the backup can't be made: {error}") from error
    finally:
        delete_database(made)
    return damaged


def restore(url: str, source: Path, now: EpochSeconds, *, replace: bool, tell: Tell) -> Path | None:
    """Put a backup back, under a new store id; return where the SQLite file that was there is now, if there was one.

    Args:
        url: Where to.
        source: The backup.
        now: The time.
        replace: Whether a database that holds something is replaced.
        tell: Is told of the progress, on SQLite.

    Raises:
        ConfigError: It is no backup, the database is in use, or it holds something and is not to be replaced.
        StoreError: It can't be put back; the database is as it was.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: no backup there")
    path = sqlite_path(url)
    if path is not None:
        return _restore_file(path, source, now, replace=replace, tell=tell)
    _restore_server(make_url(url), source, replace=replace)
    return None


def _begin_anew(connection: Connection) -> None:
    """Have every gateway send its backup again, and the registry be given out again."""
    new_store_id(connection)
    registry_changed(connection)


# SQLite


def _copy_running(path: Path, made: Path, tell: Tell) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: no database there")
    with share(path), closing(open_read_only(path)) as source:
        # All of it is of this moment, whatever is written meanwhile.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _copy(source, made, tell)


def _copy(source: sqlite3.Connection, made: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as target:
        source.backup(target, pages=_PAGES_AT_A_TIME, progress=lambda _, left, total: tell(total - left, total))
        # One file, with no log beside it.
        target.execute("PRAGMA journal_mode = DELETE")


def _check_copy(made: Path) -> int:
    """Check the structure of a copy; return how many of its parts are damaged."""
    with closing(open_read_only(made)) as connection:
        check_pages(connection, 0, ())
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        return sum(_damaged(connection, table.name) for table in (part, compacted) if {table.name, "meter"} <= tables)


def _damaged(connection: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT m.id, p.record_type, p.quarter, p.payload FROM {table} AS p JOIN meter AS m ON m.no = p.meter_no"  # noqa: S608 - a name of ours
    rows = connection.execute(sql)
    damaged = 0
    while some := rows.fetchmany(_ROWS_AT_A_TIME):
        keys = [(unsigned64(row[0]), row[1], row[2]) for row in some]
        damaged += len(unpack_sound(keys, [row[3] for row in some])[1])
    return damaged


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _restore_file(path: Path, source: Path, now: EpochSeconds, *, replace: bool, tell: Tell) -> Path | None:
    fresh = path.with_name(path.name + ".new")
    with only_one(path, "a running utility, or one of its commands,"), _nothing_left(fresh):
        if not replace and path.exists() and _file_holds_something(path):
            raise ConfigError(_taken(str(path)))
        try:
            with closing(open_read_only(source)) as connection:
                _copy(connection, fresh, tell)
            if damaged := _check_copy(fresh):
                log.warning("%d of the backup's parts are damaged; each is set aside when it is read", damaged)
            with (
                closing(open_database(f"sqlite:///{fresh}", create=True, check=True)) as database,
                database.writes.begin() as writing,
            ):
                _begin_anew(writing)
            make_ready(fresh, path)
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            raise StoreError(f"{source}: can't be put back: {error}; {path} is as it was") from error
        return put_in_place(path, now)


@contextmanager
def _nothing_left(fresh: Path) -> Iterator[None]:
    lock = fresh.with_name(fresh.name + ".lock")
    try:
        delete_database(fresh)
        yield
    finally:
        delete_database(fresh)
        lock.unlink(missing_ok=True)


def _file_holds_something(path: Path) -> bool:
    """Tell whether there is something in a file; what can't be read may be something."""
    try:
        with closing(open_read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            ours = tables & {table.name for table in _HOLDS}
            return bool(tables - ours) and any(
                connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 - names of ours
                for name in ours
            )
    except sqlite3.Error:
        return path.stat().st_size > 0


def _taken(name: str) -> str:
    return (
        f"{name}: the database holds something, which a backup put back would replace; if that is meant: commonwatt "
        "utility restore --replace"
    )


# PostgreSQL


def _dump(url: URL, made: Path) -> None:
    _run(
        "pg_dump",
        url,
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        f"--file={made}",
        f"--dbname={_address(url)}",
    )
    # Read once, to its end.
    _run("pg_restore", url, "--file=/dev/null", str(made))


def _restore_server(url: URL, source: Path, *, replace: bool) -> None:
    listed = _run("pg_restore", url, "--list", str(source))
    if " TABLE public alembic_version " not in listed or " TABLE public part " not in listed:
        raise ConfigError(f"{source}: is no backup of a utility's database on PostgreSQL")
    # Read once, to its end.
    _run("pg_restore", url, "--file=/dev/null", str(source))
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            _undo(connection)
        with engine.begin() as connection:
            _check_use(connection, str(url.database), replace=replace)
            _move(connection, "public", BEFORE)
        try:
            options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
            _run("pg_restore", url, *options, f"--dbname={_address(url)}", str(source))
            with engine.begin() as connection:
                _begin_anew(connection)
        finally:
            # What was put back takes the place of what was there; or that returns, if there is nothing in its place.
            with engine.begin() as connection:
                _undo(connection)
    except SQLAlchemyError as error:
        raise StoreError(f"{url.database}: can't be replaced: {getattr(error, 'orig', None) or error}") from error
    finally:
        engine.dispose()
    # It may be of an earlier schema.
    open_database(url.render_as_string(hide_password=False), create=True).close()


def _check_use(connection: Connection, name: str, *, replace: bool) -> None:
    """Check that nobody uses a database, and that it holds nothing unless it is to be replaced.

    Raises:
        ConfigError: It is not so.
    """
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
    )
    if connection.execute(others, {"name": APPLICATION}).scalar_one():
        raise ConfigError(f"{name}: the utility, or one of its commands, is using it; stop it first")
    tables = set(inspect(connection).get_table_names())
    ours = [table for table in _HOLDS if table.name in tables]
    if not replace and any(connection.execute(select(text("1")).select_from(table).limit(1)).first() for table in ours):
        raise ConfigError(_taken(name))


def _move(connection: Connection, source: str, target: str) -> None:
    """Move all that is ours from one schema of a server's database to another."""
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {target}")
    found = inspect(connection).get_table_names(schema=source)
    ours = [name for name in found if name in metadata.tables or name == "alembic_version" or _is_partition(name)]
    if "block" in inspect(connection).get_view_names(schema=source):
        connection.exec_driver_sql(f"ALTER VIEW {source}.block SET SCHEMA {target}")
    for name in ours:
        connection.exec_driver_sql(f"ALTER TABLE {source}.{name} SET SCHEMA {target}")


def _is_partition(name: str) -> bool:
    return name.startswith(f"{compacted.name}_")


def _undo(connection: Connection) -> None:
    """End what a restore has begun, this one or one that was killed: one of the two databases stays."""
    if BEFORE not in inspect(connection).get_schema_names():
        return
    if "alembic_version" not in inspect(connection).get_table_names(schema="public"):
        _move(connection, BEFORE, "public")
    connection.exec_driver_sql(f"DROP SCHEMA {BEFORE} CASCADE")


def _address(url: URL) -> str:
    """Return the URL in libpq's words; the password goes another way, since others see what runs.

    Raises:
        ConfigError: There is another secret in it, for which there is no other way.
    """
    words = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    if secret := next((word for word in _SECRETS if word in words), None):
        raise ConfigError(
            f"database: {secret} would be seen by everybody on this machine while pg_dump or pg_restore runs; take it "
            "out of the URL, such as by a key that needs no password and that nobody else may read"
        )
    words.pop("password", None)
    texts = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in words.items()}
    return " ".join(f"{name}='{_quoted(text)}'" for name, text in texts.items())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _run(program: str, url: URL, *arguments: str) -> str:
    """Run one of PostgreSQL's programs; return what it printed."""
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"{program} is not installed; it comes with: apt-get install postgresql-client")
    password = str(url.password or url.query.get("password") or "")
    environment = {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}
    command = [found, *arguments] if program == "pg_restore" else [found, "--no-password", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = "; ".join(done.stderr.split("\n")[:3]).strip("; ")
        if "version mismatch" in said or "unsupported version" in said:
            raise ConfigError(f"{program} is older than the server or the backup: {said}; install a newer client")
        raise StoreError(f"{program} failed: {said.replace(password, '***') if password else said}")
    return done.stdout
