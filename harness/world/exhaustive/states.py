"""Keys and copies of the states that the parts of the small world take."""

import io
import pickle
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import BaseModel

from commonwatt.config.settings import GatewaySettings
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Meter as Description
from gateway.store.store import Store

FORGOTTEN = frozenset({"counts", "heard", "notes", "_tally", "_store", "_number", "known", "raises", "own_clock"})
"""Attributes without effect on a part's behaviour: figures for people, and commands' names that are never compared; a
meter's raises of its epoch, which stay far below a hundred a day."""


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
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name != 'epoch_raise'"
    )
    return tuple(
        (name, tuple(sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)))
        for (name,) in sorted(tables.fetchall())
    )


_PLAIN = frozenset({type(None), bool, int, float, str, bytes})

Known = dict[int, tuple[object, object]]
"""The objects of a core that have a key already, by ``id``: many of them refer to each other."""

_Way = Callable[[Any, Known], object]


def canonical(value: Any) -> object:
    """Return a hashable key that is equal for values with equal behaviour."""
    return _canonical(value, {})


def _canonical(value: Any, known: Known) -> object:
    return value if type(value) in _PLAIN else _way(type(value))(value, known)  # type: ignore[arg-type] # types are hashable


@cache
def _way(kind: type) -> _Way:
    """Return the function that makes the key of a value of a type."""
    if issubclass(kind, int | str | bytes | float | Enum):
        return lambda value, _: value
    if issubclass(kind, np.ndarray):
        return lambda value, _: (value.dtype.str, value.shape, value.tobytes())
    if issubclass(kind, GatewaySettings | RegisteredMeter | Description | ZoneInfo):
        return lambda value, _: id(value)  # never changes, and is shared
    if issubclass(kind, BaseModel):
        return lambda value, _: value.model_dump_json()
    if issubclass(kind, dict):
        return lambda value, known: (_each(value, known), _each(value.values(), known))
    if issubclass(kind, set | frozenset):
        return lambda value, known: tuple(sorted(_each(value, known), key=repr))
    if issubclass(kind, Store):
        return lambda *_: None
    if issubclass(kind, tuple | list | deque):
        return _each
    if fields := getattr(kind, "__dataclass_fields__", None):
        names = tuple(name for name in fields if name not in FORGOTTEN)
        return _once(lambda value, known: (kind.__name__, _each([getattr(value, name) for name in names], known)))
    return _once(
        lambda value, known: (
            kind.__name__,
            tuple((name, _canonical(one, known)) for name, one in vars(value).items() if name not in FORGOTTEN),
        )
    )


def _once(way: _Way) -> _Way:
    """Return a way that makes the key of each object once."""

    def of(value: Any, known: Known) -> object:
        if id(value) not in known:
            known[id(value)] = value, way(value, known)
        return known[id(value)][1]

    return of


def _each(values: Iterable[Any], known: Known) -> tuple[object, ...]:
    return tuple([one if type(one) in _PLAIN else _canonical(one, known) for one in values])
