"""A database in memory falls back to an image of it, as a disk's does that lost its power."""

import sqlite3
from contextlib import closing

MAX_PAGES = 1_073_741_823
"""As many as SQLite allows by default."""


def put_back(connection: sqlite3.Connection, image: bytes) -> None:
    """Let a database be again what ``serialize`` gave; then there is room on its disk.

    Not by ``deserialize``: SQLite 3.40 goes on to use a schema that is freed then, for functions such as json_each.
    """
    connection.execute(f"PRAGMA max_page_count = {MAX_PAGES}")
    with closing(sqlite3.connect(":memory:")) as kept:
        kept.deserialize(image)
        kept.backup(connection)
