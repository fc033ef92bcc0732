"""Steps common to restores on SQLite and PostgreSQL: checks before a restore, and a new store id after it."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from graphlib import TopologicalSorter
from pathlib import Path

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from commonwatt.sqlite.damage import delete_database
from utility.access.store.access import end_logins
from utility.database.database import new_store_id
from utility.database.migrate import empty_database, revisions
from utility.readings.tables import compacted, dead_letter, event, part
from utility.registry.store.registry import registry_changed
from utility.registry.tables import meter

VERSION_TABLE = "alembic_version"  # table with the schema's revision
# A database with a row in one of these tables has data, and is replaced only on request.
HOLDS = (meter, part, compacted, event, dead_letter)


class NoBackupError(Exception):
    """A file or database that can't be restored, or would be unusable after a restore; the text is the reason."""


class DamagedBackupError(NoBackupError):
    """A damaged backup or database."""


def check_revision(found: set[str]) -> str:
    """Return the schema of a backup or database.

    Raises:
        NoBackupError: It names no schema, or another version's or program's.
    """
    known = revisions()
    if len(found) == 1 and found <= set(known):
        return found.pop()
    if not found:
        raise NoBackupError("it has no schema of Commonwatt")
    raise NoBackupError(
        f"a later version of Commonwatt made it, or another program (schema {', '.join(sorted(found))}; this version "
        f"knows {known[-1]} to {known[0]})"
    )


def columns_of(revision: str) -> dict[str, set[str]]:
    """Return the columns of each table of a schema; each table comes after the tables it refers to."""
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
    """Yield the path for a new SQLite file that is to replace ``path``; delete what is left there at the end."""
    fresh = path.with_name(path.name + ".new")
    delete_database(fresh)
    try:
        yield fresh
    finally:
        delete_database(fresh)
        fresh.with_name(fresh.name + ".lock").unlink(missing_ok=True)


def begin_anew(connection: Connection) -> None:
    """Make a new store id, so that gateways send their backups again, and make a running service load the registry.

    Everybody logs in again: a session that was open when the backup was made may have been ended since.
    """
    end_logins(connection)
    new_store_id(connection, forget=False)
    registry_changed(connection)


def command_line(config: Path, *words: str | Path) -> str:
    """Return a command of the utility, quoted for a shell."""
    return shlex.join(["commonwatt", "utility", *map(str, words), "--config", str(config)])


def taken(name: str, source: Path, config: Path) -> ConfigError:
    """Return the error for a database that has data."""
    return ConfigError(
        f"{name}: the database has data, which a restore would replace; if that is intended: "
        f"{command_line(config, 'restore', source, '--replace')}"
    )
