"""SQLite files: detect damage, also in the write-ahead log, read what is sound, synchronise a reopened file.

Sync a write-ahead log again before the first use of its content.
After a failed sync the page cache marks unwritten pages as clean: reads return them, no sync writes them. This does
no harm while a connection is open, since SQLite writes over the frames of a commit that failed. But a process that
opens the database then reads them as committed; its own commits follow them and are synced; and at the next power
cut there is a hole in the log, at which SQLite ends it: acknowledged commits are lost (docs/stores.md).

The write-ahead log of an SQLite file: detect damage, and read the sound frames around it.
SQLite ends a log silently at the first frame whose checksum does not match: a flipped bit removes every
later transaction. But a frame's checksum starts from the stored checksum of the frame before, so each can be checked by
itself (https://www.sqlite.org/fileformat2.html#walformat).
"""

import errno
import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

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


def snapshot(path: Path) -> sqlite3.Connection:
    """Open a database as it is now: the connection reads nothing that is committed later."""
    connection = open_read_only(path)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def copy_of(connection: sqlite3.Connection, target: Path) -> None:
    """Write what a connection reads into a new file."""
    with closing(sqlite3.connect(target)) as into:
        connection.backup(into)


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


_CHUNK_BYTES = 1 << 20


def write_log_again(path: Path) -> None:
    """Write the log of the database at ``path`` over itself, the same bytes, and sync it and its name.

    No other process may write to the log meanwhile: call it before the first connection of the only process that
    writes, or in a transaction that writes, before it does.

    Raises:
        sqlite3.OperationalError: It can't be written or synced; its content must not be used.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists():
        return  # A database in memory, or a database without a log.
    try:
        with log.open("r+b", buffering=0) as file:
            at = 0
            while chunk := os.pread(file.fileno(), _CHUNK_BYTES, at):
                at += os.pwrite(file.fileno(), chunk, at)
            os.fsync(file.fileno())
        sync_folder(log.parent)
    except OSError as error:
        raise sqlite3.OperationalError(f"{log}: can't be synced: {error.strerror}") from error


_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_MAGIC = 0x377F0682
_DATABASE = b"SQLite format 3\0"

_NONE = 0, 0, False, False  # what follows the last frame
READ_BYTES = 1 << 20  # bytes of a log that are in memory at once

_PAGE_SIZES = {1 << n for n in range(9, 17)}


@dataclass(frozen=True)
class _Frame:
    """An undamaged frame."""

    page: int
    pages_after_commit: int
    at: int


@dataclass(frozen=True)
class LogFrames:
    """The sound frames of a log."""

    frames: list[_Frame]  # all sound frames up to the last commit, in order
    page_bytes: int  # size of a page
    # Transactions that SQLite would drop silently, since a frame before them is damaged; ``None``: all, since the log's
    # header is: nothing of such a log is read.
    lost_commits: int | None

    @property
    def damage(self) -> str | None:
        """What is damaged, for people; ``None``: nothing."""
        if self.lost_commits is None:
            return "the header of its log, all of which is lost"
        return f"its log, before its last {self.lost_commits} transactions" if self.lost_commits else None


@dataclass(frozen=True)
class _Header:
    """The fields of a log's header that are needed to read its frames."""

    page_bytes: int  # size of a page
    order: str  # byte order of the words that are summed
    salts: tuple[int, ...]  # the salts in every frame of this log; frames of an earlier log have other salts
    sums: tuple[int, ...]  # start values of the first frame's checksum


def read_log(path: Path) -> LogFrames | None:
    """Look through the log of the database ``path``; ``None`` if there is no log, or nothing in it.

    A power cut within the last, unacknowledged transaction may look like a lost transaction.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists():
        return None
    with log.open("rb") as file:
        head = file.read(_HEADER.size + _FRAME.size)
        if len(head) <= _HEADER.size or not any(head):
            return None  # The write never reached the disk.
        header = _sound_header(head)
        if header is None:
            return LogFrames([], 0, None)
        found = _look_through(file, header)
        return found if found.frames else None


def _sound_header(head: bytes) -> _Header | None:
    """Read a header; ``None`` if it is damaged: SQLite then treats the log as empty."""
    magic, _, page_bytes, _, first_salt, second_salt, *stored = _HEADER.unpack_from(head)
    order = "<" if magic == _MAGIC else ">"
    sums = _sum(head[:24], (0, 0), order)
    if magic | 1 != _MAGIC | 1 or sums != tuple(stored) or page_bytes not in _PAGE_SIZES:
        return None
    return _Header(page_bytes, order, (first_salt, second_salt), sums)


def _page_bytes_of(path: Path) -> int:
    """Return the page size in a database's header; 0 if the header is damaged."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        head = file.read(18)
    number = int.from_bytes(head[16:], "big")
    size: int = 65536 if number == 1 else number
    return size if head.startswith(_DATABASE) and size in _PAGE_SIZES else 0


def _look_through(file: BinaryIO, header: _Header) -> LogFrames:
    """Collect the sound frames."""
    whole = True
    size = _FRAME.size + header.page_bytes
    frames: list[_Frame] = []
    lost, at = 0, _HEADER.size + _FRAME.size
    for (page, commit, is_ours, is_sound), following in pairwise(chain(_frames(file, header), [_NONE])):
        if whole and not is_ours and not following[2]:
            break  # A frame of an earlier log: with damaged salts alone, the next frame would have this log's salts.
        if is_ours and is_sound:
            frames.append(_Frame(page, commit, at))
            lost += bool(commit) and not whole
        else:
            whole = False
        at += size
    while frames and not frames[-1].pages_after_commit:
        frames.pop()
    return LogFrames(frames, header.page_bytes, lost if frames else 0)


def _frames(file: BinaryIO, header: _Header) -> Iterator[tuple[int, int, bool, bool]]:
    """Yield each frame's page, the pages after its commit, whether it is of this log, and whether its sum is right."""
    size, before = _FRAME.size + header.page_bytes, header.sums
    file.seek(_HEADER.size)
    while number := len(raw := file.read(max(1, READ_BYTES // size) * size)) // size:
        rows = np.frombuffer(raw, np.uint8, number * size).reshape(number, size)
        heads = rows[:, : _FRAME.size].copy().view(">u4").astype(np.uint32)
        stored = heads[:, 4:]
        summed = np.hstack([rows[:, :8], rows[:, _FRAME.size :]]).view(f"{header.order}u4").astype(np.uint32)
        starts = np.vstack([np.array(before, np.uint32), stored[:-1]])
        is_sound = (_sums(summed, starts) == stored).all(axis=1)
        is_ours = (heads[:, 2:4] == header.salts).all(axis=1)
        yield from zip(*heads[:, :2].T.tolist(), is_ours.tolist(), is_sound.tolist(), strict=True)
        before = tuple(stored[-1].tolist())


def _sums(words: npt.NDArray[np.uint32], starts: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the checksum of each row of words, from its own start."""
    # A pair of words (x, y) takes the sums (a, b) to (a + b + x, a + 2 b + x + y), all modulo 2^32: that is linear, so
    # that all rows are summed at once.
    x, y = words[:, ::2], words[:, 1::2]
    powers = _powers(x.shape[1])
    sums: npt.NDArray[np.uint32] = starts @ powers[-1].T
    for of, column in ((x, 0), (x + y, 1)):
        sums += of @ powers[-2::-1, :, column]
    return sums


@cache
def _powers(number: int) -> npt.NDArray[np.uint32]:
    """Return the powers 0 to ``number`` of the matrix of a pair of zeros."""
    powers = np.empty((number + 1, 2, 2), np.uint32)
    powers[0], step = np.eye(2), np.array([[1, 1], [1, 2]], np.uint32)
    for n in range(number):
        powers[n + 1] = powers[n] @ step
    return powers


def _sum(data: bytes, start: tuple[int, ...], order: str) -> tuple[int, ...]:
    (sums,) = _sums(np.frombuffer(data, f"{order}u4").astype(np.uint32)[None], np.array([start], np.uint32)).tolist()
    return tuple(sums)


def rebuild(path: Path, log: LogFrames | None, target: Path) -> None:
    """Write to ``target`` the database with every sound frame of its log, as SQLite would without damage.

    A page with a damaged newest frame keeps its previous version, so rows must have their own checksums.
    """
    shutil.copyfile(path, target)
    if log is None or not log.frames:
        return
    with path.with_name(path.name + "-wal").open("rb") as source, target.open("r+b") as image:
        for frame in log.frames:
            source.seek(frame.at)
            image.seek((frame.page - 1) * log.page_bytes)
            image.write(source.read(log.page_bytes))
        image.truncate(log.frames[-1].pages_after_commit * log.page_bytes)


def lend_schema(image: Path, source: bytes) -> None:
    """Replace a damaged schema and header by those of an empty database, made by the same statements.

    The same statements put the same tables on the same pages. The header's free pages are dropped: no data
    is written to this copy.
    """
    page_bytes = int.from_bytes(source[16:18], "big")
    with image.open("r+b") as file:
        pages = image.stat().st_size // page_bytes
        for page in {1, *_schema_pages(source, page_bytes)}:
            file.seek((page - 1) * page_bytes)
            file.write(source[(page - 1) * page_bytes : page * page_bytes])
        file.seek(28)
        file.write(pages.to_bytes(4, "big") + bytes(8))
        # The size above is valid only if these two agree; journal mode, since the image has no write-ahead log.
        file.seek(24)
        file.write(bytes(4))
        file.seek(92)
        file.write(bytes(4))
        file.seek(18)
        file.write(b"\x01\x01")


def _schema_pages(source: bytes, page_bytes: int) -> list[int]:
    """Return the child pages of page 1, if the schema does not fit into page 1."""
    if source[100] != 5:  # an inner page of a table
        return []
    cells = int.from_bytes(source[103:105], "big")
    pointers = [int.from_bytes(source[112 + 2 * n : 114 + 2 * n], "big") for n in range(cells)]
    below = [int.from_bytes(source[108:112], "big"), *(int.from_bytes(source[p : p + 4], "big") for p in pointers)]
    return [page for page in below if 0 < page <= len(source) // page_bytes]


def image_of(path: Path) -> Path:
    """Return the path of the repaired copy of a damaged database."""
    return path.with_name(f"{path.name}.image")


@contextmanager
def readable(
    path: Path, check_schema: Callable[[sqlite3.Connection], None], empty_database: Callable[[int], bytes]
) -> Iterator[sqlite3.Connection]:
    """Open a damaged database for reading; if its log or schema is damaged, open a repaired copy.

    Args:
        path: The database; it is not changed.
        check_schema: Raises an SQLite error if the schema is damaged.
        empty_database: Returns an empty database with the same schema, with pages of so many bytes; 0: unknown.
    """
    image, found = image_of(path), read_log(path)
    whole = (found is None or found.damage is None) and _is_right(path, check_schema)
    try:
        if not whole:
            rebuild(path, found, image)
            if not _is_right(image, check_schema):
                lend_schema(image, empty_database(_page_bytes_of(image)))
        with closing(open_read_only(path if whole else image)) as source:
            yield source
    finally:
        delete_database(image)


def _is_right(path: Path, check_schema: Callable[[sqlite3.Connection], None]) -> bool:
    with closing(open_read_only(path)) as source:
        try:
            check_schema(source)
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True
