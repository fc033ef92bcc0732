"""Results in PostgreSQL's binary format, for statements that return payloads: as text a payload is twice as long."""

from functools import partial
from typing import Any

from psycopg.pq import Format
from sqlalchemy import Connection, Engine, ExecutionContext, event


def allow_binary_results(engine: Engine, option: str) -> None:
    """Make an engine of a server heed an execution option that asks for binary results."""
    event.listen(engine, "before_cursor_execute", partial(_choose_format, option))


def _choose_format(
    option: str,
    _connection: Connection,
    cursor: Any,
    _statement: str,
    _values: object,
    context: ExecutionContext | None,
    _many: bool,
) -> None:
    if context is not None and context.execution_options.get(option):
        cursor.format = Format.BINARY
