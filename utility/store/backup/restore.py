"""What is asked of every backup, on SQLite and PostgreSQL, before it is put back, and done with it then."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from graphlib import TopologicalSorter
from pathlib import Path

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from commonwatt.sqlite.damage import delete_database
from utility.store.database import new_store_id
from utility.store.registry import registry_changed
from utility.store.schema import empty_database, revisions
from utility.store.tables import compacted, dead_letter, event, meter, part

VERSION_TABLE = "alembic_version"
"""Table that names the schema."""

HOLDS = (meter, part, compacted, event, dead_letter)
"""A database with a row in one of these holds something."""


class NoBackupError(Exception):
    """What is there can't be put back, or would be of no use then; the text says why."""


class DamagedBackupError(NoBackupError):
    """It is not what was written."""


def check_revision(found: set[str]) -> str:
    """Return the schema that a backup, or a database, names.

    Raises:
        NoBackupError: It names none, or one of another version or program.
    """
    known = revisions()
    if len(found) == 1 and found <= set(known):
        return found.pop()
    if not found:
        raise NoBackupError("it names no schema of Commonwatt")
    raise NoBackupError(
        f"a later version of Commonwatt made it, or another program (schema {', '.join(sorted(found))}; this version "
        f"knows {known[-1]} to {known[0]})"
    )


def columns_of(revision: str) -> dict[str, set[str]]:
    """Return the tables of a schema, each after those it refers to, with its columns."""
    referred = (
        'SELECT t.name, f."table" FROM sqlite_schema AS t LEFT JOIN pragma_foreign_key_list(t.name) AS f'
        " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name"
    )
    with closing(sqlite3.connect(":memory:")) as made:
        made.deserialize(empty_database(revision))
        order: TopologicalSorter[str] = TopologicalSorter()
        for table, other in made.execute(referred):
            order.add(table, *([other] if other else []))
        columns = "SELECT name FROM pragma_table_info(?)"
        return {table: {name for (name,) in made.execute(columns, (table,))} for table in order.static_order()}


@contextmanager
def made_beside(path: Path) -> Iterator[Path]:
    """Yield where a new SQLite file is made that is to take the place of ``path``; nothing of it is left there."""
    fresh = path.with_name(path.name + ".new")
    delete_database(fresh)
    try:
        yield fresh
    finally:
        delete_database(fresh)
        fresh.with_name(fresh.name + ".lock").unlink(missing_ok=True)


def begin_anew(connection: Connection) -> None:
    """Have every gateway send its backup again, and the registry be given out again."""
    new_store_id(connection)
    registry_changed(connection)


def command_line(config: Path, *words: str | Path) -> str:
    """Return a command of the utility as a person can type it."""
    return shlex.join(["commonwatt", "utility", *map(str, words), "--config", str(config)])


def taken(name: str, source: Path, config: Path) -> ConfigError:
    """Return what is told of a database that holds something."""
    return ConfigError(
        f"{name}: the database holds something, which a backup put back would replace; if that is meant: "
        f"{command_line(config, 'restore', source, '--replace')}"
    )
