"""The schema: made, and brought up to date, by migrations; a later one is refused."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from commonwatt.damage import DamagedError
from commonwatt.exceptions import StoreError

BEFORE = "commonwatt_before"
"""Schema in which a server's tables wait while a backup is put in their place."""

_MIGRATIONS = Path(__file__).parent / "migrations"

_IS_CUT_SHORT = text("SELECT to_regnamespace(:name) IS NOT NULL")


def revisions() -> list[str]:
    """Return the schemas there are, newest first."""
    return [revision.revision for revision in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()]


def migrate(connection: Connection, name: str, revision: str = "head") -> tuple[str | None, str]:
    """Bring the schema of a database up to date; return the one there was, ``None`` if it is new, and the one there is.

    Args:
        connection: The database.
        name: What it is called in errors.
        revision: The schema it is to have, if not the newest.

    Raises:
        DamagedError: It holds something else.
        StoreError: It was made by a later version, or a restore was cut short.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    present = set(MigrationContext.configure(connection).get_current_heads())
    if connection.dialect.name == "postgresql" and connection.execute(_IS_CUT_SHORT, {"name": BEFORE}).scalar():
        raise StoreError(f"{name}: a restore was cut short; begin it again: commonwatt utility restore FILE --replace")
    if not present and connection.dialect.name == "sqlite" and _has_pages(connection):
        raise DamagedError("it holds something, but no tables of Commonwatt: damaged, or another program's")
    if unknown := present - set(revisions()):
        raise StoreError(
            f"{name}: made by a later version of Commonwatt (schema {', '.join(sorted(unknown))}); "
            "install that version, or name another database"
        )
    command.upgrade(config, revision)
    (head,) = MigrationContext.configure(connection).get_current_heads()
    return min(present, default=None), head


def empty_database(revision: str = "head") -> bytes:
    """Return an SQLite database of a schema with nothing in it."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            migrate(connection, "a new database", revision)
            connection.commit()
            made: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            return made.serialize()
    finally:
        engine.dispose()


def _has_pages(connection: Connection) -> bool:
    """Tell whether there is more in an SQLite file than its first page, which a new one has."""
    return int(connection.exec_driver_sql("PRAGMA page_count").scalar() or 0) > 1
