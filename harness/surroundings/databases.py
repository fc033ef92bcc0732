"""Databases of tests: of both kinds, closed after their test, begun with or put back to an image."""

import sqlite3
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from sqlite3 import dbapi2
from types import FrameType
from typing import TypeVar

import pytest

# A test of a rule runs on SQLite; one round of each store runs on both.
on_both_kinds = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


@pytest.fixture(params=["sqlite", "postgresql"])
def both_kinds(request: pytest.FixtureRequest) -> str:
    """Run a test on every kind of database: a test module of a store with SQL of its own sets its fixture ``kind``."""
    return str(request.param)


MAX_PAGES = 1_073_741_823  # SQLite's default limit


def put_back(connection: sqlite3.Connection, image: bytes) -> None:
    """Restore a database from an image of ``serialize``, and remove its page limit.

    ``deserialize`` is not used: SQLite 3.40 then still uses a freed schema, for functions such as json_each.
    """
    connection.execute(f"PRAGMA max_page_count = {MAX_PAGES}")
    with closing(sqlite3.connect(":memory:")) as kept:
        kept.deserialize(image)
        kept.backup(connection)


T = TypeVar("T")

_made: dict[str, tuple[bytes, object]] = {}


def begun_with(name: str, file: Path, make: Callable[[], T]) -> T:
    """Return what a function returns that fills a database; from the second time on, only copy what it made then.

    Args:
        name: What it makes; the same name makes the same.
        file: The database's file, which may be open.
        make: Fills it; what it returns must not change.
    """
    with closing(sqlite3.connect(file)) as db, closing(sqlite3.connect(":memory:")) as image:
        if name not in _made:
            result = make()
            db.backup(image)
            content = image.serialize()
            # In memory there is no write-ahead log, by which the file was written.
            _made[name] = content[:18] + b"\1\1" + content[20:], result
        else:
            image.deserialize(_made[name][0])
            image.backup(db)
    made: T = _made[name][1]  # type: ignore[assignment] # of the same name
    return made


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
