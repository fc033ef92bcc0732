"""The months that have a file, and their states (table ``archived_month``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, func, select, text

from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from utility.database.base import read
from utility.database.database import count_rows, upsert
from utility.database.locks import Lock, take
from utility.database.postgres.partitions import first_quarter, month_of, months_later
from utility.readings.store.archived import ARCHIVED, LEAVING
from utility.readings.store.retention import kept_from
from utility.readings.tables import archived_month, compacted

WRITING, WRITTEN, RESTORED = "writing", "written", "restored"
IN_USE = (WRITTEN, LEAVING, ARCHIVED)  # states in which a file is recorded


@dataclass(frozen=True, kw_only=True)
class FiledMonth:
    """A month with a file; fields as the columns of ``archived_month``."""

    first_quarter: Quarter
    until_quarter: Quarter
    path: str
    rows: int = 0
    total: int = 0
    sha256: str = ""
    size: int = 0
    state: str = WRITING
    changes: int = 0
    made: EpochSeconds
    trouble: str = ""

    @property
    def file(self) -> Path:
        """Its file."""
        return Path(self.path)


def months(connection: Connection) -> list[FiledMonth]:
    """Return the months that have a file, or had one, oldest first."""
    return read(FiledMonth, connection.execute(select(archived_month).order_by(archived_month.c.first_quarter)))


def month_at(connection: Connection, first: Quarter) -> FiledMonth | None:
    """Return a month's row, or ``None``."""
    found = connection.execute(select(archived_month).where(archived_month.c.first_quarter == first))
    return next(iter(read(FiledMonth, found)), None)


def save(connection: Connection, month: FiledMonth) -> None:
    """Store a month's row, while no block changes."""
    take(connection, Lock.ARCHIVE)
    changed = [name for name in vars(month) if name != "first_quarter"]
    connection.execute(upsert(connection, archived_month, *changed), vars(month))


def note(connection: Connection, first: Quarter, trouble: str) -> None:
    """Record why a file, or a block of it, can't be read; empty: all can be."""
    ours = archived_month.c.first_quarter == first
    connection.execute(archived_month.update().where(ours).values(trouble=trouble))


def forget(connection: Connection, first: Quarter) -> None:
    """Delete a month's row."""
    connection.execute(delete(archived_month).where(archived_month.c.first_quarter == first))


def months_to_file(connection: Connection, before: Quarter) -> list[Quarter]:
    """Return the first quarter of each month before ``before`` whose blocks are still to go to a file."""
    done = {month.first_quarter for month in months(connection) if month.state in (ARCHIVED, RESTORED)}
    c = compacted.c
    found: list[Quarter] = []
    at = kept_from(connection)
    while True:
        oldest = connection.execute(select(func.min(c.quarter)).where(c.quarter >= at, c.quarter < before)).scalar()
        if oldest is None:
            return found
        month = month_of(oldest)
        at = first_quarter(months_later(month, 1))
        if at <= before and first_quarter(month) not in done:
            found.append(first_quarter(month))


def count_blocks(connection: Connection, month: FiledMonth) -> int:
    """Return how many blocks of a month are in the database."""
    return count_rows(connection, compacted, compacted.c.quarter.between(month.first_quarter, month.until_quarter - 1))


def has_older_readers(connection: Connection, xid: str) -> bool:
    """Return whether a session of a server reads a state of the database from before the transaction ``xid``."""
    older = text(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND age(backend_xmin) >= age(CAST(:xid AS xid)) LIMIT 1"
    )
    return connection.execute(older, {"xid": xid}).first() is not None


def troubles(connection: Connection) -> Sequence[str]:
    """Return the files that can't be read whole, each with the reason."""
    return [f"{month.path}: {month.trouble}" for month in months(connection) if month.trouble]


def bytes_filed(connection: Connection) -> int:
    """Return the bytes of all files."""
    c = archived_month.c
    return int(connection.execute(select(func.sum(c.size)).where(c.state.in_(IN_USE))).scalar() or 0)


def filed_until(connection: Connection) -> EpochSeconds:
    """Return the end of the newest month in a file; 0: there is none."""
    c = archived_month.c
    newest = select(func.max(c.until_quarter)).where(c.state.in_(IN_USE))
    return int(connection.execute(newest).scalar() or 0) * QUARTER_S
