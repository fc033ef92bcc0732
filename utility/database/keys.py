"""Many keys in one statement.

For a list in the statement, `(a, b) IN ((1, 2), ...)`, SQLite reads the whole table, and PostgreSQL plans each key
separately in each month's partition. With all keys in one JSON parameter, both look up each key by the index.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, String, bindparam, cast, select, text, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Elements(FunctionElement[Any]):
    """The elements of a JSON list, as rows."""

    name = "elements"
    inherit_cache = True


@compiles(_Elements, "sqlite")
def _on_sqlite(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _on_postgresql(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS jsonb))"


def is_one_of(columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """Return the condition that whole-number ``columns`` are one of the keys in ``:keys``, the value of ``listed``."""
    key = _Elements(bindparam("keys", type_=String)).table_valued("value").c.value
    parts = (cast(key.op("->>")(text(str(place))), BigInteger) for place in range(len(columns)))
    return tuple_(*columns).in_(select(*parts))


def listed(keys: Sequence[tuple[int, ...]]) -> dict[str, str]:
    """Return the parameter ``:keys`` for some keys."""
    return {"keys": json.dumps(keys)}
