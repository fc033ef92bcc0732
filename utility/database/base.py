"""What all tables share: the names of constraints, and row numbers; and the type of a transaction for all rooms."""

from typing import Any, TypeVar

from sqlalchemy import BigInteger, Connection, Integer, MetaData, Result

__all__ = ["Connection", "RowId", "metadata", "read"]

_Model = TypeVar("_Model")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite generates row numbers only in a column of type INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")


def read(model: type[_Model], found: Result[Any]) -> list[_Model]:
    """Return the rows of a query as values of a class whose fields are named like their columns."""
    return [model(**row) for row in found.mappings()]
