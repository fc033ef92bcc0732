"""Records all operations on files, and computes the files that a power cut may leave.

The model is a disk behind a page cache, as adversarial as one without write barriers may be below a sync:

- The content and the length of a file at its last successful sync are certain.
- Each sector of 512 bytes that was written since is on disk as it was after any of the writes to it, or
  as it was at the sync: writes are torn, and reordered, within a file and between files. The length, which is
  metadata and kept in order, is any that the file had since. Where the length grew without the data, there are zeros.
- Names (made, renamed, linked, removed) are metadata too: changes since the folder's last sync survive up to a point.
  A sync of a file does not sync its name.
- After a failed sync, the page cache marks unwritten pages as clean (as Linux does): reads return them, no later sync
  writes them, only another write of the same sector does. Which of them reached the disk is decided at that moment.
"""

import itertools
import random
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from harness.real.parts import real_part

SECTOR = 512
_HEAD = struct.Struct("=IIQQII")
_MAGIC = 0x54435750


class Kind(IntEnum):
    """The operations, with the numbers of ``recorder.c``."""

    OPENED = 1
    WRITTEN = 2
    CUT = 3
    SYNCED = 4
    SYNC_FAILED = 5
    RENAMED = 6
    LINKED = 7
    UNLINKED = 8
    FOLDER_SYNCED = 9


class Record(NamedTuple):
    """One operation on a file."""

    kind: Kind
    inode: int
    offset: int
    path: str
    data: bytes


def records(trace: bytes) -> Iterator[tuple[int, Record]]:
    """Yield (end position in the trace, record), without an incomplete last record."""
    at = 0
    while at + _HEAD.size <= len(trace):
        magic, kind, inode, offset, path_bytes, data_bytes = _HEAD.unpack_from(trace, at)
        assert magic == _MAGIC, f"the trace is damaged at {at}"
        data_at = at + _HEAD.size + path_bytes
        at_end = data_at + data_bytes
        if at_end > len(trace):
            return
        path = trace[at + _HEAD.size : data_at].decode()
        yield at_end, Record(kind=Kind(kind), inode=inode, offset=offset, path=path, data=trace[data_at:at_end])
        at = at_end


class File:
    """One file: the content for reads, the certain content on disk, and the possible one."""

    def __init__(self, content: bytes = b"") -> None:
        self.seen = bytearray(content)  # what reads see
        self._disk = bytearray(content)
        self._lengths = [len(content)]
        self._cuts: list[tuple[int, int]] = []
        self._versions: dict[int, list[tuple[int, bytes]]] = {}

    def write(self, offset: int, data: bytes) -> None:
        """Write, as far as the page cache."""
        if offset > len(self.seen):
            self.seen.extend(bytes(offset - len(self.seen)))
        self.seen[offset : offset + len(data)] = data
        step = self._step()
        for sector in range(offset // SECTOR, -(-(offset + len(data)) // SECTOR)):
            self._versions.setdefault(sector, []).append((step, self._sector(sector)))

    def cut(self, length: int) -> None:
        """Set the file's length."""
        grown = length - len(self.seen)
        if grown >= 0:
            self.seen.extend(bytes(grown))
            self._step()
            return
        del self.seen[length:]
        step = self._step()
        self._cuts.append((step, length))
        if length % SECTOR:
            self._versions.setdefault(length // SECTOR, []).append((step, self._sector(length // SECTOR)))

    def sync(self) -> None:
        """Put everything on disk."""
        del self._disk[min([len(self._disk), *(length for _, length in self._cuts)]) :]
        self._disk.extend(bytes(max(0, len(self.seen) - len(self._disk))))
        for sector in self._versions:
            content = self._sector(sector)
            self._disk[sector * SECTOR : sector * SECTOR + len(content)] = content
        del self._disk[len(self.seen) :]
        self._settle()

    def fail_sync(self, rng: random.Random) -> None:
        """Drop data that is not on disk from later syncs; reads still see it."""
        self._disk = bytearray(self._disk) if rng.random() < 0.5 else bytearray(self.after_cut(rng))
        self._settle()

    def after_cut(self, rng: random.Random) -> bytes:
        """Return one of the possible contents after a power cut."""
        steps = len(self._lengths) - 1
        # Nothing, all, all up to a moment, or each sector separately.
        how = rng.choice(("nothing", "all", "moment", "sectors"))
        until = {"nothing": 0, "all": steps}.get(how, rng.randint(0, steps))
        left = bytearray(self._disk)
        for step, length in self._cuts:
            if step <= until:
                # Whole sectors are removed; the zeros in the rest of the last sector are a normal write.
                del left[-(-length // SECTOR) * SECTOR :]
        length = self._lengths[until]
        left.extend(bytes(max(0, length - len(left))))
        for sector, versions in self._versions.items():
            emptied = max((s for s, at in self._cuts if s <= until and at <= sector * SECTOR), default=0)
            possible = [
                content for step, content in versions if step >= emptied and (how == "sectors" or step <= until)
            ]
            number = rng.randint(-1, len(possible) - 1) if how == "sectors" else len(possible) - 1
            if number >= 0:
                left.extend(bytes(max(0, sector * SECTOR - len(left))))
                left[sector * SECTOR : sector * SECTOR + len(possible[number])] = possible[number]
        del left[length:]
        return bytes(left)

    def _step(self) -> int:
        self._lengths.append(len(self.seen))
        return len(self._lengths) - 1

    def _sector(self, number: int) -> bytes:
        """Return a sector as it is written: all of it, zeros behind the end of the file."""
        return bytes(self.seen[number * SECTOR : (number + 1) * SECTOR]).ljust(SECTOR, b"\0")

    def _settle(self) -> None:
        self._lengths = [len(self._disk)]
        self._cuts.clear()
        self._versions.clear()


class Disk:
    """The files of a folder, computed from the operations on them.

    Args:
        base: The files on disk before the first record, by absolute path.
        seed: Seed of the losses of failed syncs.
    """

    def __init__(self, base: dict[str, bytes], seed: int) -> None:
        self._names = {path: File(content) for path, content in base.items()}
        self._certain = dict(self._names)
        self._renamed: list[dict[str, File]] = []
        self._inodes: dict[int, File] = {}
        self._rng = random.Random(seed)

    def feed(self, record: Record) -> None:
        """Apply the next operation."""
        match record.kind:
            case Kind.OPENED:
                self._open(record)
            case Kind.WRITTEN:
                self._inodes[record.inode].write(record.offset, record.data)
            case Kind.CUT:
                self._inodes[record.inode].cut(record.offset)
            case Kind.SYNCED:
                self._inodes[record.inode].sync()
            case Kind.SYNC_FAILED:
                self._inodes[record.inode].fail_sync(self._rng)
            case Kind.FOLDER_SYNCED:
                self._certain = dict(self._names)
                self._renamed.clear()
            case _:
                self._rename(record)

    def seen(self) -> dict[str, bytes]:
        """Return the files as reads see them."""
        return {path: bytes(file.seen) for path, file in self._names.items()}

    def after_cut(self, rng: random.Random) -> dict[str, bytes]:
        """Return the files as a power cut at this moment may leave them."""
        states = [self._certain, *self._renamed]
        names = rng.choice((states[0], states[-1], rng.choice(states)))
        left = {id(file): file.after_cut(rng) for file in {id(f): f for f in names.values()}.values()}
        return {path: left[id(file)] for path, file in names.items()}

    def _open(self, record: Record) -> None:
        if record.path not in self._names:
            self._names[record.path] = File()
            self._renamed.append(dict(self._names))
        self._inodes[record.inode] = self._names[record.path]

    def _rename(self, record: Record) -> None:
        path, _, new = record.path.partition("\0")
        if record.kind is Kind.UNLINKED:
            del self._names[path]
        else:
            self._names[new] = self._names[path]
            if record.kind is Kind.RENAMED:
                del self._names[path]
        self._renamed.append(dict(self._names))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a recorded folder; it has no subfolders."""
    return {str(path): path.read_bytes() for path in folder.resolve().iterdir() if not path.name.endswith("-shm")}


SOURCE = Path(__file__).with_name("recorder.c")


def build(folder: Path) -> Path:
    """Compile the recorder into ``folder``; return the library."""
    library = folder / "recorder.so"
    subprocess.run(
        [real_part("cc"), "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"],
        check=True,
    )
    return library


class Recorder:
    """Record one process's operations on one folder, from its present content on.

    Args:
        library: The recorder.
        folder: The recorded folder.
        trace: The file of the trace.
    """

    def __init__(self, library: Path, folder: Path, trace: Path) -> None:
        self.failing = trace.with_suffix(".failing")  # while this file exists, syncs of recorded files fail
        self.base = read_folder(folder)  # the content of the folder before
        self._library = library
        self._folder = folder
        self._trace = trace

    def environment(self) -> dict[str, str]:
        """Return the additions to the process's environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "POWERCUT_FOLDER": str(self._folder),
            "POWERCUT_TRACE": str(self._trace),
            "POWERCUT_FAILING": str(self.failing),
        }

    def position(self) -> int:
        """Return the length of the trace; it includes all earlier commits."""
        return self._trace.stat().st_size

    def trace(self) -> bytes:
        """Return the trace."""
        return self._trace.read_bytes()

    def opened_after_failure(self) -> bool:
        """Return whether a database was opened after a failed sync."""
        done = (record for _, record in records(self.trace()))
        after = itertools.dropwhile(lambda record: record.kind is not Kind.SYNC_FAILED, done)
        return any(record.kind is Kind.OPENED and record.path.endswith(".db") for record in after)

    def content(self) -> dict[str, bytes]:
        """Return the present content of the folder."""
        return read_folder(self._folder)
