"""Databases of worlds, which have no end of their own: each is closed after the test that made it."""

import sqlite3

opened: list[sqlite3.Connection] = []


def close_opened() -> None:
    """Close them all."""
    while opened:
        opened.pop().close()
