"""What all tables share: names of constraints, row numbers, checks; rows as values; errors; the table of settings."""

from collections.abc import Iterator
from typing import Any, TypeVar

from sqlalchemy import DDL, BigInteger, Column, Connection, Integer, MetaData, Result, String, Table, Text, event
from sqlalchemy.exc import DataError, OperationalError, SQLAlchemyError

from commonwatt.sqlite import SqliteError

__all__ = ["Connection", "DataError", "OperationalError", "SQLAlchemyError", "SqliteError"]

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

# What a table declares in its ``info``, so that checks and backups need no list of other rooms' tables:
SMALL = {"small": True}  # small in any town: its pages are checked at every start
CHECKED = {"small": True, "checked": True}  # bills depend on it: each row's checksum is checked at every start, too


def columns(kind: Any, *names: str, **options: Any) -> Iterator[Column[Any]]:
    """Yield columns of one type with the same options."""
    return (Column(name, kind, **options) for name in names)


def when_made(dialect: str, *statements: str) -> None:
    """Execute statements after a new database's tables are made: for what a ``Table`` can't say."""
    for statement in statements:
        made = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(metadata, "after_create", made.execute_if(dialect=dialect))


def let_only_grow(table: str, subject: str, name: str, *on_server: str) -> None:
    """Let the database refuse changes of a table's rows.

    Args:
        subject: The log or ledger with its article, for the error.
        name: The beginning of the triggers' names.
        on_server: Each trigger's name on PostgreSQL, with what fires it.
    """
    why = f"'{subject} only grows'"
    for change in ("UPDATE", "DELETE"):
        trigger = f"CREATE TRIGGER {name}_no_{change.lower()} BEFORE {change} ON {table}"
        when_made("sqlite", f"{trigger} BEGIN SELECT RAISE(ABORT, {why}); END")
    function = f"{name}_only_grows()"
    raised = f"$$ BEGIN RAISE EXCEPTION {why}; END $$"
    when_made("postgresql", f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS {raised}")
    for trigger in on_server:
        when_made("postgresql", f"CREATE TRIGGER {trigger} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}")


def tables_with(what: str) -> list[Table]:
    """Return the tables that declare something, each after those that it refers to."""
    found = [table for table in metadata.sorted_tables if table.info.get(what)]
    if not found:
        raise LookupError(f"no table is {what}: import utility.assembly.tables first")
    return found


def read(model: type[_Model], found: Result[Any]) -> list[_Model]:
    """Return the rows of a query as values of a class whose fields are named like their columns."""
    return [model(**row) for row in found.mappings()]


setting = Table(
    "setting",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    info=SMALL,
)
