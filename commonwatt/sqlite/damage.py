"""Damaged SQLite files: detect, quarantine and read them."""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import sync_folder

KEPT_QUARANTINED = 3
"""Most damaged files kept beside the file in use; older ones are deleted. The same number of replaced files."""

DAMAGED = "damaged"
REPLACED = "replaced"  # states in a quarantined file's name: damaged, or sound and replaced by a backup
WINDOW_ROWS = 1024  # rows read at a time from a damaged table
MAX_UNREADABLE = 20_000  # failed reads after which the rest of a damaged table is given up
ENOUGH_FAILURES = 200  # failed reads after which a table is given up whose first and last rows are unreadable
# A file up to this is checked whole when it is opened, indexes too: that takes a second at most.
SMALL_BYTES = 64 * 1024 * 1024
# A write-ahead log that grew beyond this, during a long read, is cut back to it afterwards.
LOG_BYTES = 16 * 1024 * 1024

_BESIDE = ("-wal", "-shm", "-journal")
_TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_AUTH,
}

log = logging.getLogger(__name__)


SqliteError = sqlite3.Error  # for those who only name it


class DamagedError(sqlite3.DatabaseError):
    """A file can be opened, but its content is damaged."""


def is_damage(error: BaseException) -> bool:
    """Return whether an SQLite error means that the file is damaged."""
    # SQLite's error quotes the damaged schema, which Python can't decode.
    if isinstance(error, DamagedError | UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether an SQLite error means that another program has the file locked."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_BUSY


def is_full(error: BaseException | None) -> bool:
    """Return whether an error or its cause means that the disk is full."""
    if error is None:
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    full = code == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
    return full or is_full(error.__cause__)


def fails_check(error: sqlite3.Error) -> bool:
    """Return whether a check failed because of the file, not because of a lock, a full disk or the wrong user.

    An SQLite error on a correct statement means a damaged schema.
    """
    return is_damage(error) or getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF not in _TRANSIENT


def check_pages(connection: sqlite3.Connection, size: int, small_tables: tuple[str, ...]) -> None:
    """Check a file's structure: a small file whole, of a big file only its small tables.

    Raises:
        DamagedError: The first fault.
    """
    statements = (
        ["PRAGMA integrity_check(1)"]
        if size <= SMALL_BYTES
        else [f"PRAGMA quick_check({table})" for table in small_tables]
    )
    for statement in statements:
        found = connection.execute(statement).fetchone()
        if found is None or found[0] != "ok":
            raise DamagedError(str(found[0] if found else "the check says nothing").splitlines()[-1])


def quarantine(path: Path, now: EpochSeconds, state: str = DAMAGED) -> Path:
    """Rename a file, with its log, to a dated name beside it; keep the newest ``KEPT_QUARANTINED``.

    The file is renamed first: a log without a file is deleted here and by SQLite; a file without its log would be used,
    without the transactions in the log.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    quarantined, number = path.with_name(f"{path.name}.{state}-{moment}"), 1
    while any(beside.exists() for beside in _with_log(quarantined)):
        number += 1
        quarantined = path.with_name(f"{path.name}.{state}-{moment}-{number}")
    for source, target in zip(_with_log(path), _with_log(quarantined), strict=True):
        if source.exists():
            source.rename(target)
    _delete_oldest(path, state)
    sync_folder(path.parent)
    return quarantined


@contextmanager
def made_beside(path: Path) -> Iterator[Path]:
    """Yield the path for a new file that is to replace ``path``; delete what is left there at the end."""
    fresh = path.with_name(path.name + ".new")
    delete_database(fresh)
    try:
        yield fresh
    finally:
        delete_database(fresh)
        fresh.with_name(fresh.name + ".lock").unlink(missing_ok=True)


def ready_of(path: Path) -> Path:
    """Return the path of a damaged file's complete replacement.

    While it exists ``path`` is not used, since the replacement may be the only copy: see ``put_in_place``.
    """
    return path.with_name(f"{path.name}.ready")


def make_ready(made: Path, path: Path) -> None:
    """Make ``made``, a complete file without a log, the replacement of ``path``, durably."""
    made.rename(ready_of(path))
    sync_folder(path.parent)


def put_in_place(path: Path, now: EpochSeconds, state: str = DAMAGED) -> Path | None:
    """Replace ``path`` by its ready replacement and quarantine the old file; return the old file's new name.

    A kill may come between any two steps: the next program to open ``path`` calls this again.
    """
    quarantined = quarantine(path, now, state) if path.exists() else None
    delete_database(path)  # A log without its file: SQLite would apply it to the replacement.
    ready_of(path).rename(path)
    sync_folder(path.parent)
    _delete_oldest(path, state)
    return quarantined


def _with_log(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + suffix) for suffix in _BESIDE)]


def quarantined_before(path: Path, state: str = DAMAGED) -> list[Path]:
    """Return the files quarantined beside ``path``, oldest first."""
    found = [p for p in path.parent.glob(f"{path.name}.{state}-*") if not p.name.endswith(_BESIDE)]
    return sorted(found, key=lambda p: (p.name.split(f".{state}-")[1][:16], len(p.name), p.name))


def _delete_oldest(path: Path, state: str) -> None:
    for old in quarantined_before(path, state)[:-KEPT_QUARANTINED]:
        log.warning("deleting %s: only the newest %d %s files are kept", old, KEPT_QUARANTINED, state)
        delete_database(old)


def make_disk_space(path: Path) -> bool:
    """Delete the oldest damaged file beside ``path``; return whether there was one."""
    found = quarantined_before(path)
    for old in found[:1]:
        log.warning("deleting %s: its disk space is needed", old)
        delete_database(old)
    return bool(found)


def delete_database(path: Path) -> None:
    """Delete a database with its log."""
    for file in _with_log(path):
        file.unlink(missing_ok=True)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database read-only, damaged or not; invalid text is returned with surrogate escapes."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    connection.text_factory = lenient_text
    return connection


def lenient_text(data: bytes) -> str:
    """Decode text that may be damaged; a later checksum detects the damage, instead of an exception during the read."""
    return data.decode(errors="surrogateescape")


def readable_rows(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], unreadable: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield (row number, columns) of all rows of a damaged table that can be read, the newest first.

    The table is read by ranges of row numbers; an unreadable range is halved until only unreadable rows are left.

    Args:
        table: The table; it must have row numbers.
        unreadable: A line is appended if rows could not be read.
    """
    statement = (
        f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED"  # noqa: S608 - names of ours
        f" WHERE rowid > ? AND rowid <= ? ORDER BY rowid DESC LIMIT {WINDOW_ROWS}"
    )
    ranges = [(0, _last_row(connection, table))]
    failures = 0
    most = MAX_UNREADABLE if _has_an_end(connection, table) else ENOUGH_FAILURES
    while ranges and failures <= most:
        low, high = ranges.pop()
        try:
            rows = connection.execute(statement, (low, high)).fetchall()
            if any(a <= b for a, b in pairwise([high + 1, *(row[0] for row in rows), low])):
                raise DamagedError("rows are not in their order")
        except sqlite3.Error:
            failures += 1
            if high - low > 1:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle, high)]
        else:
            yield from rows
            if len(rows) == WINDOW_ROWS:
                ranges.append((low, rows[-1][0] - 1))
    if failures:
        unreadable.append(f"table {table} could not be read whole")


def _has_an_end(connection: sqlite3.Connection, table: str) -> bool:
    """Return whether the table's first or last row can be read; if neither can, its root page is damaged."""
    for order in ("ASC", "DESC"):
        try:
            connection.execute(f"SELECT rowid FROM {table} NOT INDEXED ORDER BY rowid {order} LIMIT 1").fetchall()  # noqa: S608
        except sqlite3.Error:
            continue
        return True
    return False


def _last_row(connection: sqlite3.Connection, table: str) -> int:
    """Return the highest row number; where it can't be read, one that is higher than most."""
    for statement, values in (
        (f"SELECT max(rowid) FROM {table} NOT INDEXED", ()),  # noqa: S608 - names of ours
        ("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)),
    ):
        try:
            row = connection.execute(statement, values).fetchone()
        except sqlite3.Error:
            continue
        if row is not None and isinstance(row[0], int):
            return row[0]
        if row is not None and row[0] is None:
            return 0
    return 2**22
