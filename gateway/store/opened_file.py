"""Checks that an open store is still the file at its path."""

import sqlite3
from pathlib import Path


class GoneError(sqlite3.OperationalError):
    """The store's file was deleted, moved or replaced; the open file still has all committed data."""


class OpenedFile:
    """A store's file, recognised by its inode; a store in memory (``:memory:``) has none.

    Raises:
        OSError: There is no file at ``path``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._found()

    def check(self) -> None:
        """Check that the file is still at its path.

        Raises:
            GoneError: The file was deleted, moved or replaced.
        """
        try:
            same = self._found() == self._inode
        except OSError:
            same = False
        if not same:
            raise GoneError(f"{self._path} was deleted, moved or replaced")

    def _found(self) -> int:
        return 0 if str(self._path) == ":memory:" else self._path.stat().st_ino
