"""Keys and copies of the states that the parts of the small world take."""

import io
import pickle
import sqlite3
from collections.abc import Sequence
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import BaseModel

from commonwatt.config.settings import GatewaySettings
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Meter as Description
from gateway.store.store import Store

FORGOTTEN = frozenset({"counts", "heard", "notes", "_tally", "_store", "_number", "known"})
"""Attributes without effect on a part's behaviour: figures for people, and commands' names that are never compared."""


class _Writer(pickle.Pickler):
    """Pickles a core, and leaves out what its copies share with it."""

    def __init__(self, file: io.BytesIO, shared: Sequence[object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = {id(one): place for place, one in enumerate(shared)}

    def persistent_id(self, value: object) -> int | None:
        """Return the place of a shared object."""
        return self._places.get(id(value))


class _Reader(pickle.Unpickler):
    """Makes a copy of a pickled core."""

    def __init__(self, pickled: bytes, shared: Sequence[object]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._shared = shared

    def persistent_load(self, place: int) -> object:
        """Return the shared object at a place."""
        return self._shared[place]


def pickled(core: object, shared: Sequence[object]) -> bytes:
    """Return a core as bytes, without what its copies share with it."""
    file = io.BytesIO()
    _Writer(file, shared).dump(core)
    return file.getvalue()


def copied(core: bytes, shared: Sequence[object]) -> Any:
    """Make a copy of a pickled core, in a tenth of the time that ``copy.deepcopy`` takes."""
    return _Reader(core, shared).load()


def rows_of(connection: sqlite3.Connection) -> tuple[object, ...]:
    """Return the whole content of a store."""
    # A row's number only gives the order of arrival.
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return tuple(
        (name, tuple(sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)))
        for (name,) in sorted(tables.fetchall())
    )


_PLAIN = {type(None), bool, int, float, str, bytes}


def canonical(value: Any) -> object:
    """Return a hashable key that is equal for values with equal behaviour."""
    if type(value) in _PLAIN or isinstance(value, int | str | bytes | float | Enum):
        return value
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, GatewaySettings | RegisteredMeter | Description | ZoneInfo):
        return id(value)  # never changes, and is shared
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, dict):
        return tuple((canonical(k), canonical(v)) for k, v in value.items())
    if isinstance(value, set | frozenset):
        return tuple(sorted((canonical(one) for one in value), key=repr))
    if isinstance(value, tuple | list):
        return tuple(canonical(one) for one in value)
    if isinstance(value, Store):
        return None
    if hasattr(value, "maxlen"):
        return tuple(canonical(one) for one in value)
    names = getattr(value, "__dataclass_fields__", None) or vars(value)
    return type(value).__name__, tuple(
        (name, canonical(getattr(value, name))) for name in names if name not in FORGOTTEN
    )
