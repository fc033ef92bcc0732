"""The write-ahead log of an SQLite file: found damaged, and read around its damage.

SQLite ends a log at the first frame whose checksum does not match, and says nothing: a flipped bit takes away every
transaction behind it. But a frame's checksum begins with that of the frame before, as stored, so each can be judged by
itself (https://www.sqlite.org/fileformat2.html#walformat).
"""

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class _Frame:
    """A frame that is what was written."""

    page: int
    pages_after_commit: int
    at: int


@dataclass(frozen=True)
class Log:
    """What is sound in a log.

    Attributes:
        frames: All sound frames up to the last commit, in order.
        page_bytes: Size of a page.
        lost_commits: Transactions SQLite would drop without a word, since a frame before them is damaged.
    """

    frames: list[_Frame]
    page_bytes: int
    lost_commits: int


def read_log(path: Path) -> Log | None:
    """Look through the log of the database ``path``; ``None`` if there is no log, or nothing in it.

    A power cut within the last transaction, which was not acknowledged, may look as if that one was lost.
    """
    log = path.with_name(path.name + "-wal")
    data = log.read_bytes() if log.exists() else b""
    if len(data) <= _HEADER.size:
        return None
    magic, _, page_bytes, _, *salts_and_sum = _HEADER.unpack_from(data)
    order = "<" if magic == _MAGIC else ">"
    stored = (salts_and_sum[2], salts_and_sum[3])
    whole = _sum(data[:24], (0, 0), order) == stored and magic | 1 == _MAGIC | 1
    if page_bytes not in {2**n for n in range(9, 17)}:
        return None  # Without it no frame can be found.
    salts = tuple(salts_and_sum[:2])
    frames: list[_Frame] = []
    lost = 0
    for at in range(_HEADER.size, len(data) - _FRAME.size - page_bytes + 1, _FRAME.size + page_bytes):
        page, commit, *rest = _FRAME.unpack_from(data, at)
        before, stored = stored, (rest[2], rest[3])
        if whole and tuple(rest[:2]) != salts and not _follows(data, at, page_bytes, salts):
            break
        content = data[at + _FRAME.size : at + _FRAME.size + page_bytes]
        if tuple(rest[:2]) != salts or _sum(content, _sum(data[at : at + 8], before, order), order) != stored:
            whole = False
            continue
        frames.append(_Frame(page, commit, at + _FRAME.size))
        lost += bool(commit) and not whole
    while frames and not frames[-1].pages_after_commit:
        frames.pop()
    return Log(frames, page_bytes, lost) if frames else None


def _follows(data: bytes, at: int, page_bytes: int, salts: tuple[int, ...]) -> bool:
    """Tell whether the frame after this one is of the same log: then this one's own salt is what is damaged."""
    next_at = at + _FRAME.size + page_bytes
    return len(data) >= next_at + _FRAME.size and tuple(_FRAME.unpack_from(data, next_at)[2:4]) == salts


def _sum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = start
    for x, y in struct.iter_unpack(f"{order}II", data):
        first = (first + x + second) & _MASK
        second = (second + y + first) & _MASK
    return first, second


def rebuild(path: Path, log: Log | None, target: Path) -> None:
    """Write to ``target`` the database with every sound frame of its log, as SQLite would without damage.

    Of a page whose newest frame is damaged the one before stands: rows must be judged by checksums of their own.
    """
    shutil.copyfile(path, target)
    if log is None:
        return
    with path.with_name(path.name + "-wal").open("rb") as source, target.open("r+b") as image:
        for frame in log.frames:
            source.seek(frame.at)
            image.seek((frame.page - 1) * log.page_bytes)
            image.write(source.read(log.page_bytes))
        image.truncate(log.frames[-1].pages_after_commit * log.page_bytes)


def lend_schema(image: Path, source: bytes) -> None:
    """Give a database whose schema or header is damaged those of an empty one, made by the same statements.

    The same statements put the same tables on the same pages. What the header says of free pages is forgotten: nothing
    is to be written any more.
    """
    page_bytes = int.from_bytes(source[16:18], "big")
    with image.open("r+b") as file:
        pages = image.stat().st_size // page_bytes
        for page in {1, *_schema_pages(source, page_bytes)}:
            file.seek((page - 1) * page_bytes)
            file.write(source[(page - 1) * page_bytes : page * page_bytes])
        file.seek(28)
        file.write(pages.to_bytes(4, "big") + bytes(8))
        # The size above counts only if these two agree; a journal, not a log, since the image has none.
        file.seek(24)
        file.write(bytes(4))
        file.seek(92)
        file.write(bytes(4))
        file.seek(18)
        file.write(b"\x01\x01")


def _schema_pages(source: bytes, page_bytes: int) -> list[int]:
    """Return the pages below page 1, where the schema does not fit into that."""
    if source[100] != 5:  # an inner page of a table
        return []
    cells = int.from_bytes(source[103:105], "big")
    pointers = [int.from_bytes(source[112 + 2 * n : 114 + 2 * n], "big") for n in range(cells)]
    below = [int.from_bytes(source[108:112], "big"), *(int.from_bytes(source[p : p + 4], "big") for p in pointers)]
    return [page for page in below if 0 < page <= len(source) // page_bytes]
