"""Examination of the utility's database for ``commonwatt doctor``, whether the service runs or not."""

import sqlite3

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.model.exceptions import StoreError
from utility.assembly import tables  # noqa: F401 - the check is of all rooms' tables
from utility.database.checks import check_file, check_rows
from utility.database.database import open_database, sqlite_path
from utility.database.migrate import empty_database
from utility.readings.store import reads

DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
"""Settings of a PostgreSQL server, and the values under which a committed transaction survives a power cut."""


def _check_durability(connection: Connection) -> None:
    """Check that what a server commits is on its disk."""
    if connection.dialect.name != "postgresql":
        return
    found = {name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in DURABLE}
    unsafe = [f"{name}={value}" for name, value in found.items() if value not in DURABLE[name]]
    if unsafe:
        raise StoreError(
            f"the server runs with {', '.join(unsafe)}: a power cut loses acknowledged readings, or damages the "
            "database; set each to on in postgresql.conf, for the database and for its user, and restart the server"
        )


def examined(url: str, *, runs: bool) -> dict[str, dict[str, object]]:
    """Return the counts of each microgrid (``reads.status``) from a database that passes its check.

    Args:
        url: SQLAlchemy URL.
        runs: Whether the service runs: then an SQLite file's structure, which its start checks, is not checked.
    """
    database = open_database(url, create=False)
    try:
        path = sqlite_path(url)
        if path is not None and not runs:
            check_file(path, empty_database())
        with database.reads.begin() as connection:
            check_rows(connection)
            _check_durability(connection)
            return reads.status(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(f"{database.reads.url.render_as_string()}: {error}") from error
    finally:
        database.close()
