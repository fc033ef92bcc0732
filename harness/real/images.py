"""Restore a database in memory to an image, like a power cut of a database on disk."""

import sqlite3
from contextlib import closing

MAX_PAGES = 1_073_741_823  # SQLite's default limit


def put_back(connection: sqlite3.Connection, image: bytes) -> None:
    """Restore a database from an image of ``serialize``, and remove its page limit.

    ``deserialize`` is not used: SQLite 3.40 then still uses a freed schema, for functions such as json_each.
    """
    connection.execute(f"PRAGMA max_page_count = {MAX_PAGES}")
    with closing(sqlite3.connect(":memory:")) as kept:
        kept.deserialize(image)
        kept.backup(connection)
