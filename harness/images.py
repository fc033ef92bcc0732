"""What several tests begin with is made once a process, and put into each one's database as an image."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

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
