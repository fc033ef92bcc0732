"""Restores a database in memory to an image, as a power cut does with one on disk."""

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
