"""Opens the database: its pragmas, its schema, its identity."""

import secrets
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, bindparam, create_engine, event, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from commonwatt.exceptions import ConfigError, StoreError
from commonwatt.resync import write_log_again
from utility.store.tables import setting

BUSY_TIMEOUT_MS = 5_000
"""How long a transaction waits for that of another process."""

SERVER_TIMEOUTS: dict[str, str | int] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "options": "-c lock_timeout=20s",
}
"""What is not answered by a server fails in time, before a watchdog has to end the process; the next try may go well.

In libpq's words: seconds to connect, milliseconds until what was sent must have arrived, seconds of silence until it is
asked whether it is there, between such questions, and how many; how long a statement waits for somebody's lock.
"""

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """An open database of the current schema.

    Attributes:
        reads: The engine for transactions that only read: each sees one state of the database.
        writes: The same for transactions that write.
        store_id: Random number made with the database; a gateway that sees a new one sends its backups again.
    """

    def __init__(self, engine: Engine, store_id: int) -> None:
        self.reads = engine
        self.writes = _writing(engine)
        self.store_id = store_id

    def close(self) -> None:
        """Close every connection."""
        self.reads.dispose()


def open_database(url: str, *, create: bool) -> Database:
    """Open the database at ``url`` and bring its schema up to date.

    Args:
        url: SQLAlchemy URL.
        create: Whether a database that is not there is made.

    Raises:
        ConfigError: The URL is none, or there is no database and none is to be made.
        StoreError: It can't be opened, or was made by a later version.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise ConfigError(
                f"{path}: no database there; make one with: commonwatt utility register, or: commonwatt utility migrate"
            )
        _only_ours(path)
    engine = _engine(parsed)
    try:
        with _writing(engine).begin() as connection:
            _migrate(connection, str(parsed.database))
            store_id = _store_id(connection)
    except DatabaseError as error:
        engine.dispose()
        raise StoreError(
            f"{parsed.database}: can't be used as the utility's database: {error.orig}; if it is damaged, move it "
            "away together with its -wal and -shm files and start again: the gateways send their backups"
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, store_id)


def insert_or(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that can say ``on_conflict_do_...``, in the dialect of the connection."""
    return insert_in(connection.dialect.name, table)


def insert_in(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return the same in the dialect of that name."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def upsert(connection: Connection, table: Table, *changed: str) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that takes over the columns ``changed`` if there is a row of the same primary key."""
    return _upsert(connection.dialect.name, table, changed)


# Making a statement takes longer than executing it, and these are executed with every message.
@cache
def _upsert(dialect: str, table: Table, changed: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    statement = insert_in(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: statement.excluded[name] for name in changed}
    )


_READ_SETTING = select(setting.c.value).where(setting.c.key == bindparam("name"))


def read_setting(connection: Connection, key: str) -> str | None:
    """Return a setting kept in the database, or ``None``."""
    return connection.execute(_READ_SETTING, {"name": key}).scalar()


def save_setting(connection: Connection, key: str, value: str) -> None:
    """Keep a setting in the database."""
    connection.execute(upsert(connection, setting, "value"), {"key": key, "value": value})


def _only_ours(path: Path) -> None:
    """Take from others what an earlier version, or a copy, let them read; SQLite makes new files like the first."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists() and file.stat().st_mode & 0o077:
            file.chmod(0o600)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"database: {url!r} is not an SQLAlchemy URL, such as sqlite:///utility.db") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"database: {parsed.get_backend_name()} is not supported; use sqlite or postgresql")
    return parsed


def _engine(url: URL) -> Engine:
    sqlite_url = url.get_backend_name() == "sqlite"
    try:
        engine = create_engine(url) if sqlite_url else _server_engine(url)
    except ImportError as error:
        raise ConfigError(f"database: its driver is not installed: {error}") from error
    if sqlite_url:
        transactions = _Transactions(Path(str(url.database)))
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", transactions.begin)
        event.listen(engine, "engine_disposed", transactions.closed)
    return engine


def _server_engine(url: URL) -> Engine:
    # What the URL says itself stays as it says.
    timeouts = {name: value for name, value in SERVER_TIMEOUTS.items() if name not in url.query}
    # Every read is of one state of the database, as SQLite's are anyway.
    return create_engine(url, isolation_level="REPEATABLE READ", connect_args=timeouts)


class _Transactions:
    """Begins them; in the first that writes, of a new engine or of one that was closed, the log is made certain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_certain = False

    def begin(self, connection: Connection) -> None:
        """Begin; a transaction that read first could not become a writer once another process has written."""
        writes = connection.get_execution_options().get("commonwatt_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        if writes and not self._is_certain:
            try:
                write_log_again(self._path)
            except sqlite3.OperationalError as error:
                raise OperationalError("write the log again", None, error) from error
            self._is_certain = True

    def closed(self, _: Engine) -> None:
        """Take note that the connections were closed."""
        self._is_certain = False


def _writing(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(commonwatt_writes=True)
    # Writers append beside each other; none is to fail because another was quicker.
    return engine.execution_options(isolation_level="READ COMMITTED")


def _set_pragmas(connection: Any, _: object) -> None:
    # The driver must not open transactions by itself: _Transactions says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection, name: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    present = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := present - known:
        raise StoreError(
            f"{name}: made by a later version of Commonwatt (schema {', '.join(sorted(unknown))}); "
            "install that version, or name another database"
        )
    command.upgrade(config, "head")


def _store_id(connection: Connection) -> int:
    statement = insert_or(connection, setting).values(key="store_id", value=str(secrets.randbits(63)))
    connection.execute(statement.on_conflict_do_nothing())
    return int(read_setting(connection, "store_id") or 0)
