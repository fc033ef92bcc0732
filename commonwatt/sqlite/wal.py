"""The write-ahead log of an SQLite file: detect damage, and read the sound frames around it.

SQLite ends a log silently at the first frame whose checksum does not match: a flipped bit removes every
later transaction. But a frame's checksum starts from the stored checksum of the frame before, so each can be checked by
itself (https://www.sqlite.org/fileformat2.html#walformat).
"""

import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from commonwatt.sqlite.damage import delete_database, open_read_only

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
class Log:
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


def read_log(path: Path) -> Log | None:
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
            return Log([], 0, None)
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


def _look_through(file: BinaryIO, header: _Header) -> Log:
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
    return Log(frames, header.page_bytes, lost if frames else 0)


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


def rebuild(path: Path, log: Log | None, target: Path) -> None:
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
