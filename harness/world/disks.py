"""Disks of simulated machines: real files of SQLite, of which a power cut leaves what a disk may have of them.

A VFS (sqlite.org/vfs.html) lies over the machine's own, which does the work. It sees each write, cut and sync of a
file in a disk's folder, and feeds it to the model of ``harness.powercut.disk``: after a power cut, writes since the
last sync are torn, in another order, or not there at all.
"""

import ctypes as c
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from harness.powercut.disk import SECTOR, File

OK, FULL = 0, 13  # results of SQLite
_NAME = b"world"  # the name of the VFS


class Disk:
    """The disk of one machine: a folder of real files."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True)
        self.files: dict[Path, File] = {}  # what may be on the disk of each file that is open, or was
        self.syncs = True  # whether a sync makes anything durable
        self.full = False  # whether no file can grow
        self.cut = False  # whether the power is off: what is written now is lost
        self.rotten = False  # whether a bit was flipped since this was set
        self._rng = rng
        self._cut_after: int | None = None
        self._left: dict[Path, bytes] = {}
        _DISKS[str(self.folder)] = self

    def close(self) -> None:
        """Forget the disk."""
        _DISKS.pop(str(self.folder), None)

    def cut_power(self, syncs: int = 0) -> None:
        """Let the power go off, now or in the middle of the sync after ``syncs`` more."""
        if syncs:
            self._cut_after = syncs
        elif not self.cut:
            self.cut, self._cut_after = True, None
            self._left = {path: file.after_cut(self._rng) for path, file in self.files.items() if path.exists()}

    def restore_power(self) -> None:
        """Leave what the power cut left; no file may be open."""
        assert self.cut
        self.empty()
        for path, content in self._left.items():
            path.write_bytes(content)
        self.cut = False

    def empty(self) -> None:
        """Delete all files; none may be open."""
        for path in self.folder.iterdir():
            path.unlink()
        self.files.clear()

    def rot(self) -> str:
        """Flip a bit that was written before, of a file that is not empty; return where, empty: there is none."""
        paths = sorted(path for path in self.folder.iterdir() if path.stat().st_size and path.name[-4:] != "-shm")
        if not paths:
            return ""
        self.rotten = True
        path = self._rng.choice(paths)
        at, bit = self._rng.randrange(path.stat().st_size), self._rng.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit]))
        if path in self.files:
            self.files[path] = File(path.read_bytes())
        return f"bit {bit} of byte {at} of {path.name}"

    # What SQLite does.

    def opened(self, path: Path) -> None:
        """Take in a file; what is in it was synced, or is rewritten by the process that opens it."""
        if path not in self.files or len(self.files[path].seen) != path.stat().st_size:
            self.files[path] = File(path.read_bytes())

    def grows(self, path: Path, end: int) -> bool:
        """Return whether a write that ends there needs space."""
        return -(-end // SECTOR) > -(-len(self.files[path].seen) // SECTOR)

    def synced(self, path: Path) -> None:
        """Sync a file, or let the power go off in the middle."""
        if self._cut_after is not None:
            self._cut_after -= 1
            if not self._cut_after:
                self.cut_power()
        if self.syncs and not self.cut:
            self.files[path].sync()


_DISKS: dict[str, Disk] = {}  # by folder


class _Methods(c.Structure):
    """``sqlite3_io_methods``, of version 3."""

    _fields_ = [("version", c.c_int)] + [
        (name, c.c_void_p)
        for name in (
            *("close", "read", "write", "truncate", "sync", "file_size", "lock", "unlock", "check_reserved_lock"),
            *("file_control", "sector_size", "device_characteristics", "shm_map", "shm_lock", "shm_barrier"),
            *("shm_unmap", "fetch", "unfetch"),
        )
    ]


class _File(c.Structure):
    """``sqlite3_file``."""

    _fields_ = [("methods", c.POINTER(_Methods))]


class _Vfs(c.Structure):
    """``sqlite3_vfs``, to the function that opens a file."""

    _fields_ = [
        ("version", c.c_int),
        ("file_bytes", c.c_int),
        ("path_bytes", c.c_int),
        ("next", c.c_void_p),
        ("name", c.c_char_p),
        ("data", c.c_void_p),
        ("open", c.c_void_p),
        ("others", c.c_void_p * 15),
    ]


# A name is passed on as the address that it has: behind it stand the parameters of its URI.
_OPEN = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_void_p, c.c_int, c.c_void_p)
_CLOSE = c.CFUNCTYPE(c.c_int, c.c_void_p)
_WRITE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_int, c.c_int64)
_TRUNCATE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int64)
_SYNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int)


Calls = dict[str, Callable[..., int]]  # what the machine's VFS does with a file


class _Layer:
    """The VFS, and the files that are open through it."""

    def __init__(self) -> None:
        self._sqlite = c.CDLL("libsqlite3.so.0")
        self._sqlite.sqlite3_vfs_find.restype = c.POINTER(_Vfs)
        self.below = self._sqlite.sqlite3_vfs_find(None)
        self.vfs = _Vfs.from_buffer_copy(self.below.contents)
        self.vfs.name, self.vfs.next = _NAME, None
        self._open_below = _OPEN(self.below.contents.open)
        self._files: dict[int, tuple[Disk, Path, Calls]] = {}
        # What SQLite calls must live as long as it may.
        self._opens = _OPEN(self._open)
        self._calls = {
            "close": _CLOSE(self._close),
            "write": _WRITE(self._write),
            "truncate": _TRUNCATE(self._cut),
            "sync": _SYNC(self._sync),
        }
        self._tables: dict[int, tuple[_Methods, Calls]] = {}
        self.vfs.open = c.cast(self._opens, c.c_void_p)

    def register(self, vfs: Any) -> None:
        """Let SQLite use a VFS for files that it opens later."""
        self._sqlite.sqlite3_vfs_register(c.byref(vfs), 1)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        result: int = self._open_below(c.addressof(self.below.contents), name, file, flags, out)
        del vfs
        path = Path(c.string_at(name).decode()) if name else Path()
        disk = _DISKS.get(str(path.parent))
        if result == OK and disk is not None:
            found = c.cast(file, c.POINTER(_File)).contents
            methods, below = self._over(found.methods)
            disk.opened(path)
            self._files[file] = disk, path, below
            found.methods = c.pointer(methods)
        return result

    def _over(self, below: Any) -> tuple[_Methods, Calls]:
        """Return the methods over those of the machine's VFS, and what those do."""
        at = c.addressof(below.contents)
        if at not in self._tables:
            methods = _Methods.from_buffer_copy(below.contents)
            do: Calls = {name: type(call)(getattr(methods, name)) for name, call in self._calls.items()}
            for name, call in self._calls.items():
                setattr(methods, name, c.cast(call, c.c_void_p))
            self._tables[at] = methods, do
        return self._tables[at]

    def _close(self, file: int) -> int:
        _, _, below = self._files.pop(file)
        return below["close"](file)

    def _write(self, file: int, data: int, size: int, at: int) -> int:
        disk, path, below = self._files[file]
        if disk.full and disk.grows(path, at + size):
            return FULL
        if not disk.cut:
            disk.files[path].write(at, c.string_at(data, size))
        return below["write"](file, data, size, at)

    def _cut(self, file: int, size: int) -> int:
        disk, path, below = self._files[file]
        if not disk.cut:
            disk.files[path].cut(size)
        return below["truncate"](file, size)

    def _sync(self, file: int, flags: int) -> int:
        del flags  # the folder is of memory
        disk, path, _ = self._files[file]
        disk.synced(path)
        return OK


@cache
def _layer() -> _Layer:
    return _Layer()


@contextmanager
def over() -> Iterator[None]:
    """Let SQLite open files through the disks."""
    layer = _layer()
    layer.register(layer.vfs)
    try:
        yield
    finally:
        layer.register(layer.below.contents)
