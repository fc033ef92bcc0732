"""Opens the database: schema, store id, checks and settings."""

import logging
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, bindparam, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.service import lock_file
from commonwatt.sqlite import DamagedError, fails_check, open_read_only, read_log, ready_of
from utility.database.base import setting
from utility.database.checks import check_file, check_rows, is_damage
from utility.database.engines import BUSY_TIMEOUT_MS, make_engine, writing
from utility.database.migrate import RELEASE, empty_database, migrate, release, require_newest

_OTHERS_DEPEND = "2BP01"  # PostgreSQL's error code for a table or view that another object depends on

_P = ParamSpec("_P")
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class DamagedDatabaseError(StoreError):
    """The database is damaged; a person must decide whether to recover or restore it."""


class Database:
    """An open database of the current schema."""

    def __init__(
        self,
        engine: Engine,
        store_id: int,
        lock: TextIO | None = None,
        schema: tuple[str | None, str] = (None, ""),
    ) -> None:
        self.schema = schema  # the schema before it was opened (``None``: it was new), and the present one
        # The engine for transactions that only read; each reads one consistent state of the database.
        self.reads = engine
        self.writes = writing(engine)  # the engine for transactions that write
        # Random number made with the database; on a new one, gateways send their backups again.
        self.store_id = store_id
        # Called with the number of damaged parts that a reader found and moved to the dead letters.
        self.count_damaged: Callable[[int], object] = lambda _: None
        # Whether this is the active utility, and whether commits wait for a synchronous standby; see ``Lease.guard``.
        self.is_active: Callable[[], bool] = lambda: True
        self.waits: Callable[[], bool] = lambda: False
        # Bytes of the server's log that wait for the standby that is furthest behind.
        self.log_kept_bytes: Callable[[], int] = lambda: 0
        self.held: Callable[[], str] = lambda: ""  # the lease, for processes that it starts; empty: there is none
        self._lock = lock

    @property
    def has_one_writer(self) -> bool:
        """Whether each writer waits for any other writer."""
        return bool(self.writes.dialect.name == "sqlite")

    def free_bytes(self) -> int:
        """Return the free bytes within an SQLite file, reused before it grows; 0 for a server's database."""
        if self.reads.dialect.name != "sqlite":
            return 0
        with self.reads.begin() as connection:
            pages, size = (
                connection.exec_driver_sql(f"PRAGMA {of}").scalar() for of in ("freelist_count", "page_size")
            )
        return int(pages or 0) * int(size or 0)

    def read(self, work: Callable[Concatenate[Connection, _P], _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Return what a function returns within a transaction that only reads."""
        with self.reads.begin() as connection:
            return work(connection, *arguments, **named)

    def write(self, work: Callable[Concatenate[Connection, _P], _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Return what a function returns within a transaction that writes."""
        with self.writes.begin() as connection:
            return work(connection, *arguments, **named)

    def disconnect(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.reads.dispose()

    def close(self) -> None:
        """Close every connection for good."""
        self.disconnect()
        if self._lock is not None:
            self._lock.close()


def open_database(
    url: str, *, create: bool, check: bool = False, alone: bool = False, named: str = "database"
) -> Database:
    """Open the database at ``url``, with the newest schema.

    Args:
        create: Whether to make a missing database, and to migrate one of an earlier schema; commands that only read
            must not set it.
        check: Whether to check the meters, and of an SQLite file its structure and log, as a service does at its start.
        alone: Whether no other process may have an SQLite file open meanwhile.
        named: The name of the URL's setting in errors.

    Raises:
        ConfigError: The URL is invalid; without ``create``, the database is missing or of an earlier schema; the file
            is another program's; another migrate, restore or recovery is running; or the file is in use (``alone``).
        DamagedDatabaseError: The database is damaged; nothing was changed.
        StoreError: The database can't be opened for another reason, or was made by a later version.
    """
    parsed = _parse(url, named)
    path = sqlite_path(url)
    name = str(path) if path is not None else ": ".join(filter(None, (named, parsed.database)))
    if path is not None and ready_of(path).exists():
        raise StoreError(
            f"{path}: a recovery or restore was interrupted; finish it with: commonwatt utility recover --config FILE"
        )
    if path is not None and not create and not path.is_file():
        raise ConfigError(
            f"{path}: there is no database; make one with: commonwatt utility register, or: commonwatt utility migrate"
        )
    if path is not None and path.is_file():
        _refuse_anothers(path)
    lock = None if path is None else hold(path, alone=alone)
    if path is not None:
        _only_ours(path)
    engine = make_engine(parsed)
    try:
        torn = path is not None and check and _is_torn(path)
        is_read_only = path is not None and not create and not check
        # A command that only reads does not wait for the service's present writer.
        with (engine if is_read_only else writing(engine)).begin() as connection:
            schema = migrate(connection, name) if create else (require_newest(connection, name),) * 2
            if create and read_setting(connection, RELEASE) != release():
                save_setting(connection, RELEASE, release())
            store_id = _kept_store_id(connection, name) if is_read_only else _store_id(connection, torn=torn)
            if check:
                check_rows(connection)
        if check and path is not None:
            check_file(path, empty_database())
    except (DatabaseError, sqlite3.Error, UnicodeDecodeError) as error:
        _let_go(engine, lock)
        raise opening_error(name, error, "" if path is None else "sqlite") from error
    except BaseException:
        _let_go(engine, lock)
        raise
    return Database(engine, store_id, lock, schema)


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite database; ``None`` for a server's database or one in memory.

    Raises:
        ConfigError: The URL is none.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def hold(path: Path, *, alone: bool = False) -> TextIO:
    """Lock the file, so that no recovery, restore or move uses it; they lock it ``alone``, without other processes.

    Raises:
        ConfigError: It is locked by another process.
    """
    try:
        return lock_file(path, shared=not alone)
    except BlockingIOError as error:
        why = "a recovery, restore or move is using it; wait for its end"
        used = "a running utility, or one of its commands, is using it; stop that one"
        raise ConfigError(f"{path}: {used if alone else why}") from error


def _let_go(engine: Engine, lock: TextIO | None) -> None:
    engine.dispose()
    if lock is not None:
        lock.close()


def opening_error(name: str, error: Exception, kind: str) -> StoreError:
    """Return the error to raise when a database, of the kind ``sqlite`` or another one, can't be opened or used."""
    why: Any = getattr(error, "orig", None) or error
    state = getattr(why, "sqlstate", None)
    if isinstance(error, OperationalError) and kind != "sqlite" and state is None:
        return StoreError(
            f"{name}: no connection to the server: {' '.join(str(why).split())}; see that it runs, and that the URL is "
            "right"
        )
    if state == _OTHERS_DEPEND:
        return StoreError(
            f"{name}: a view or table that is not Commonwatt's depends on its tables, which blocks the migration: "
            f"{why.diag.message_detail}. Keep its definition (pg_dump --schema-only), drop it, bring the "
            "database up to date with: commonwatt utility migrate --config FILE; and make it again"
        )
    if "database is locked" in str(why):
        return StoreError(f"{name}: another program has been writing for {BUSY_TIMEOUT_MS // 1000} s; try again")
    if not (fails_check(error) if isinstance(error, sqlite3.Error) else is_damage(error)):
        return StoreError(f"{name}: can't be used as the utility's database: {why}")
    if kind == "sqlite":
        return DamagedDatabaseError(
            f"{name}: the utility's database is damaged ({why}), and was not changed. Recover its sound rows with: "
            "commonwatt utility recover --config FILE, FILE being the utility's; the gateways then send missing data "
            "again"
        )
    return DamagedDatabaseError(
        f"{name}: the utility's database is damaged ({why}); restore its server by pgBackRest to a minute before the "
        "damage, see docs/stores.md; the gateways then send missing data again"
    )


def insert_or(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that supports ``on_conflict_do_...``, in the dialect of the connection."""
    return insert_in(connection.dialect.name, table)


def insert_in(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that supports ``on_conflict_do_...``, in the dialect of that name."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def upsert(connection: Connection, table: Table, *changed: str) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that updates the columns ``changed`` of a row with the same primary key, if there is one."""
    return _upsert(connection.dialect.name, table, changed)


# Making a statement takes longer than executing it, and these are executed with every message.
@cache
def _upsert(dialect: str, table: Table, changed: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    statement = insert_in(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: statement.excluded[name] for name in changed}
    )


RUNS = "runs"  # setting: the earlier runs of services, with the last commit of each (``readings.store.marks``)
_PLACE = "place"
"""Setting that names the server and table of the last opening; a restore copies it unchanged, and so shows itself."""

_READ_SETTING = select(setting.c.value).where(setting.c.key == bindparam("name"))


def read_setting(connection: Connection, key: str) -> str | None:
    """Return a setting stored in the database, or ``None``."""
    return connection.execute(_READ_SETTING, {"name": key}).scalar()


def save_setting(connection: Connection, key: str, value: str) -> None:
    """Store a setting in the database."""
    connection.execute(upsert(connection, setting, "value"), {"key": key, "value": value})


def count_rows(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    """Return how many rows of a table meet some conditions."""
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())


def _refuse_anothers(path: Path) -> None:
    """Refuse another program's file before any change to it; a damaged file is reported later."""
    # UnicodeDecodeError: SQLite's error quotes a damaged name.
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(open_read_only(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if tables and setting.name not in tables:
            raise ConfigError(f"{path}: is another program's database, without Commonwatt's tables; name another")


def _only_ours(path: Path) -> None:
    """Make the files of the database readable by their owner only; an earlier version, or a copy, may have been open.

    SQLite gives new files beside the database its permissions.
    """
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists() and file.stat().st_mode & 0o077:
            file.chmod(0o600)


def _parse(url: str, named: str = "database") -> URL:
    try:
        return parse_database(url)
    except ValueError as error:
        raise ConfigError(f"{named}: {error}") from None


def _is_torn(path: Path) -> bool:
    """Return whether the last transaction in a log is damaged, before SQLite silently drops it."""
    found = read_log(path)
    if found is None or found.damage is None:
        return False
    if found.lost_commits != 1:
        raise DamagedError(found.damage)
    return True


def _store_id(connection: Connection, *, torn: bool) -> int:
    """Return the store's id; a new one if the database may lack acknowledged data."""
    if torn:
        log.warning(
            "the last transaction in the database's log is incomplete, as after a power cut: in case it was "
            "acknowledged, the store has a new id, and the gateways send their backups"
        )
        new_store_id(connection, forget=False)
    elif connection.dialect.name == "postgresql" and _was_put_back(connection):
        log.warning("the database was restored from a backup: the store has a new id, and gateways send their backups")
        new_store_id(connection, forget=False)
    statement = insert_or(connection, setting).values(key="store_id", value=str(secrets.randbits(63)))
    connection.execute(statement.on_conflict_do_nothing())
    return int(read_setting(connection, "store_id") or 0)


def _kept_store_id(connection: Connection, name: str) -> int:
    kept = read_setting(connection, "store_id")
    if kept is None:
        raise StoreError(f"{name}: has no store id; give it one with: commonwatt utility migrate --config FILE")
    return int(kept)


def _was_put_back(connection: Connection) -> bool:
    """Return whether a PostgreSQL database's tables were restored from a backup since it was last opened."""
    made = text("SELECT system_identifier || '/' || CAST('setting' AS regclass)::oid FROM pg_control_system()")
    place = str(connection.execute(made).scalar_one())
    # Of two processes that open it at once, the second waits, and reads what the first wrote.
    before = connection.execute(_READ_SETTING.with_for_update(), {"name": _PLACE}).scalar()
    if before != place:
        save_setting(connection, _PLACE, place)
    return before is not None and before != place


def new_store_id(connection: Connection, new: int | None = None, *, forget: bool = True) -> int:
    """Give the store a new id, so that every gateway sends again what the store may lack; return the id.

    Args:
        new: The id; ``None``: a random one.
        forget: Whether to forget the store's history too, so that a gateway sends its whole backup; otherwise only what
            was acknowledged after the store's last commit, which an older gateway does not know.
    """
    new = secrets.randbits(63) if new is None else new
    save_setting(connection, "store_id", str(new))
    if forget:
        connection.execute(setting.delete().where(setting.c.key == RUNS))
    return new
