"""Examination of the utility's database for ``commonwatt doctor``, whether the service runs or not."""

import sqlite3

from sqlalchemy.exc import SQLAlchemyError

from commonwatt.model.exceptions import StoreError
from utility.store import reads
from utility.store.checks import check_file, check_registry
from utility.store.database import open_database, sqlite_path
from utility.store.migrate import empty_database


def examined(url: str, *, runs: bool) -> dict[str, dict[str, object]]:
    """Return the counts of each microgrid (``reads.status``) from a database that passes its check.

    Args:
        url: SQLAlchemy URL.
        runs: Whether the service runs: then an SQLite file's structure, which its start checks, is not checked.

    Raises:
        ConfigError: The database is missing, or of an earlier schema.
        StoreError: It is damaged, or can't be opened.
    """
    database = open_database(url, create=False)
    try:
        path = sqlite_path(url)
        if path is not None and not runs:
            check_file(path, empty_database())
        with database.reads.begin() as connection:
            check_registry(connection)
            return reads.status(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(f"{database.reads.url.render_as_string()}: {error}") from error
    finally:
        database.close()
