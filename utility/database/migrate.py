"""The schema: made from the tables, updated by migrations; a later version's schema is refused."""

import sqlite3
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, create_engine, inspect, text

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.sqlite import DamagedError
from utility.database.base import metadata
from utility.database.engines import Lock, try_to_take

RELEASE = "release"  # setting: the release whose commands last made or checked the schema, such as 0.3
_MADE_BY = text("SELECT value FROM setting WHERE key = :key")
_MIGRATIONS = Path(__file__).parent / "migrations"
# As Alembic makes it; each start makes a new database, to compare with, for which Alembic would take 0.3 s to load.
_STAMP = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def revisions() -> list[str]:
    """Return the names of all schemas, newest first."""
    return sorted((path.name[1:5] for path in _MIGRATIONS.glob("versions/v[0-9]*.py")), reverse=True)


def release() -> str:
    """Return this release without its patch, such as 0.3."""
    return ".".join(version("commonwatt").split(".")[:2])


def migrate(connection: Connection, name: str) -> tuple[str | None, str]:
    """Make a database's tables, or migrate it; return its schema before (``None``: it was new) and after.

    Args:
        name: The database's name in errors.
    """
    before = _schema_of(connection, name)
    if before == revisions()[0]:
        return before, before
    lock_schema(connection, name)
    before = _schema_of(connection, name)  # Another process may have done it before we had the lock.
    if before is None:
        import_module("utility.assembly.tables")  # All rooms' tables, which this room does not know.
        metadata.create_all(connection, checkfirst=False)
        _STAMP.create(connection, checkfirst=True)  # Of a database whose tables were removed, it may be left.
        connection.execute(_STAMP.insert().values(version_num=revisions()[0]))
        return None, revisions()[0]
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
    return before, revisions()[0]


def require_newest(connection: Connection, name: str) -> str:
    """Return the schema of a database that is only read, which must be the newest.

    Raises:
        ConfigError: The schema is an earlier one, or there is none yet.
        DamagedError: It holds something else.
        StoreError: It was made by a later version; a later patch of this release is none, on a server.
    """
    found, newest = _schema_of(connection, name), revisions()[0]
    if found is None:
        raise ConfigError(
            f"{name}: has no tables of Commonwatt; is it the right database? Make them with: commonwatt utility "
            "migrate --config FILE; or, with a town's registry: commonwatt utility register"
        )
    if found != newest:
        raise ConfigError(
            f"{name}: an earlier version of Commonwatt made it (schema {found}, this one needs {newest}); bring it up "
            "to date, after a backup, with: commonwatt utility migrate --config FILE; the service does so at its start"
        )
    return found


def lock_schema(connection: Connection, name: str) -> None:
    """Lock a server's tables against making or changing by other processes until this transaction ends."""
    if not try_to_take(connection, Lock.SCHEMA):
        raise ConfigError(f"{name}: another migrate is at work on this database; wait until it has ended")


def _schema_of(connection: Connection, name: str) -> str | None:
    """Return the schema of a database, ``None`` if it has none yet; refuse a later version's or another program's."""
    present = _present(connection)
    is_file = connection.dialect.name == "sqlite"
    # A new file has one page.
    if not present and is_file and int(connection.exec_driver_sql("PRAGMA page_count").scalar() or 0) > 1:
        raise DamagedError("it holds something, but no tables of Commonwatt: damaged, or another program's")
    if unknown := present - set(revisions()):
        if max(unknown) < revisions()[-1]:
            raise StoreError(
                f"{name}: of schema {max(unknown)}, before release 0.3; upgrade it to 0.3 first, then to this one"
            )
        if not is_file and connection.execute(_MADE_BY, {"key": RELEASE}).scalar() == release():
            return revisions()[0]  # The later schemas of a release only add: an older patch of it goes on with them.
        raise StoreError(
            f"{name}: made by a later version of Commonwatt (schema {', '.join(sorted(unknown))}); "
            "install that version, or name another database"
        )
    return min(present, default=None)


def _present(connection: Connection) -> set[str]:
    """Return the schemas that a database names: none yet, or one."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


@cache
def empty_database() -> bytes:
    """Return an empty SQLite database; a process makes it once."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            migrate(connection, "a new database")
            connection.commit()
            made: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            return made.serialize()
    finally:
        engine.dispose()
