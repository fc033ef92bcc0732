"""Tables and indexes as migrations make them, written shortly."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from utility.database.base import RowId

_TYPES: dict[str, Any] = {
    "row": RowId,
    "number": sa.Integer(),
    "int": sa.Integer(),
    "small": sa.SmallInteger(),
    "big": sa.BigInteger(),
    "bool": sa.Boolean(),
    "text": sa.Text(),
    "bytes": sa.LargeBinary(),
}


def make_table(
    name: str,
    key: str,
    columns: str,
    *,
    refers: Mapping[str, str] | None = None,
    unique: Mapping[str, str] | None = None,
    never_again: bool = False,
    named: bool = True,
    **options: Any,
) -> None:
    """Make a table.

    Args:
        key: The columns of its primary key.
        columns: Each column with its type: ``sN`` is a text of at most N characters, ``number`` an integer that is
            generated, ``?`` may be NULL, ``=0`` is its default.
        refers: What a column refers to.
        unique: Columns by the name of their constraint.
        never_again: On SQLite, whether the number of a deleted row is given to no other.
        named: Whether the key's constraint has our name.
        options: Options of the table for one kind of database.
    """
    made = []
    for column in columns.split(", "):
        field, kind = column.split()
        kind, has_default, default = kind.partition("=")
        plain = kind.removesuffix("?")
        found = _TYPES[plain] if plain in _TYPES else sa.String(int(plain[1:]))
        made.append(
            sa.Column(
                field,
                found,
                nullable=kind != plain,
                server_default=default if has_default else None,
                autoincrement="auto" if plain in ("row", "number") else False,
            )
        )
    op.create_table(
        name,
        *made,
        sa.PrimaryKeyConstraint(*key.split(), name=f"pk_{name}" if named else None),
        *(sa.ForeignKeyConstraint([one], [to], name=f"fk_{name}_{one}") for one, to in (refers or {}).items()),
        *(sa.UniqueConstraint(*fields.split(), name=one) for one, fields in (unique or {}).items()),
        sqlite_autoincrement=never_again,
        **options,
    )


def make_index(name: str, table: str, columns: str, *, only: str | None = None, unique: bool = False) -> None:
    """Make an index, of the rows that meet the condition ``only`` on both databases; ``None``: of all rows."""
    where = None if only is None else sa.text(only)
    op.create_index(name, table, columns.split(), unique=unique, sqlite_where=where, postgresql_where=where)
