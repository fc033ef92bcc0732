"""Cursors of a PostgreSQL server that return results in its binary format: payloads as they are, not as text."""

from typing import Any

from psycopg import Connection, Cursor, ServerCursor
from psycopg.pq import Format


class _BinaryCursor(Cursor[Any]):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.format = Format.BINARY


class _BinaryServerCursor(ServerCursor[Any]):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.format = Format.BINARY


def use_binary_results(connection: Connection[Any], _: object) -> None:
    """Make all cursors of a new connection return binary results; as text a payload is twice as long."""
    connection.cursor_factory = _BinaryCursor
    connection.server_cursor_factory = _BinaryServerCursor
