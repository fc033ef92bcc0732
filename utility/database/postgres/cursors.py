"""Results in PostgreSQL's binary format, for statements that return payloads: as text a payload is twice as long."""

from typing import Any

from psycopg.pq import Format
from sqlalchemy import Connection, Engine, ExecutionContext, event

from utility.database.engines import BINARY


def allow_binary_results(engine: Engine) -> None:
    """Make an engine of a server heed the execution option ``BINARY``."""
    event.listen(engine, "before_cursor_execute", _choose_format)


def _choose_format(
    _connection: Connection,
    cursor: Any,
    _statement: str,
    _values: object,
    context: ExecutionContext | None,
    _many: bool,
) -> None:
    if context is not None and context.execution_options.get(BINARY):
        cursor.format = Format.BINARY
