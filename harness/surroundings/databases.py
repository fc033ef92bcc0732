"""Databases of tests: what closes each after the test that made it, and an error for one that stays open."""

import sqlite3
import sys
import warnings
from collections.abc import Callable
from functools import partial
from sqlite3 import dbapi2
from types import FrameType

opened: list[Callable[[], object]] = []


def close_opened() -> None:
    """Close them all."""
    while opened:
        opened.pop()()


class Watched(sqlite3.Connection):
    """A connection that knows who opened it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._opener: str | None = None
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._opener = _opener(sys._getframe(1))

    def close(self) -> None:
        """Close it."""
        super().close()
        self._opener = None

    def __del__(self) -> None:
        """Warn if it is still open; tests make each warning an error."""
        if self._opener is not None:
            warnings.warn(
                f"a database opened at {self._opener} was not closed", ResourceWarning, stacklevel=1, source=self
            )


def _opener(frame: FrameType | None) -> str:
    """Return the first three places of this project on the way to a frame."""
    found: list[str] = []
    while frame is not None and len(found) < 3:
        if "site-packages" not in frame.f_code.co_filename:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return " of ".join(found)


def watch() -> None:
    """Watch all databases that this process opens from now on."""
    sqlite3.connect = dbapi2.connect = partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment] # it is overloaded
