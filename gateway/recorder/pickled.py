"""Values of the core as bytes, and back; a hostile file can build nothing but values of the core's own classes."""

import io
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import zstandard

from commonwatt.config.settings import HouseholdSettings
from commonwatt.model.exceptions import ConfigError

# The rooms whose classes may be built: pure ones, which open, start and ask nothing.
_ROOMS = (
    *(f"commonwatt.{room}." for room in ("model", "codec", "protocol", "cliques", "town")),
    *(f"gateway.{room}." for room in ("collect", "control", "relay", "saving", "takeover")),
)
_MODULES = {
    *("commonwatt.config.settings", "commonwatt.energy.shedding", "commonwatt.runtime.bucket", "gateway.line.line"),
    *(f"gateway.{name}" for name in ("changes", "controller", "core", "events", "marks", "stored", "timekeeper")),
    *("gateway.upkeep", "gateway.household.household", "gateway.household.totals", "gateway.shown.devices"),
    *("gateway.shown.program", "gateway.recorder.tape"),
}
MOST_FRAME_BYTES = 64 * 1024 * 1024  # most bytes of a decompressed frame


class RecordingError(ConfigError):
    """A recording that can't be read: damaged, of another form, or hostile."""


def array(kind: Any, shape: tuple[int, ...], content: bytes) -> Any:
    """Return an array of plain numbers, or without dimensions a number; ``kind`` is what ``numpy.dtype`` takes."""
    if (found := np.dtype(kind)).hasobject:
        raise RecordingError("an array of objects")
    return np.frombuffer(bytearray(content), found).reshape(shape)[()]


_OTHERS: dict[tuple[str, str], Any] = {
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, list, dict, int)},
    ("collections", "Counter"): Counter,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "deque"): deque,
    ("collections", "defaultdict"): defaultdict,
    ("zoneinfo", "ZoneInfo"): ZoneInfo,
    (__name__, "array"): array,
    ("pathlib", "PurePosixPath"): PurePosixPath,
    ("pathlib", "PosixPath"): PurePosixPath,  # A replay opens no file that a recording names.
}


def _as_array(value: Any) -> Any:
    return array, (value.dtype.descr if value.dtype.fields else value.dtype.str, value.shape, value.tobytes())


_WRITTEN: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((np.ndarray, *np.sctypeDict.values()), _as_array),
    ZoneInfo: lambda zone: (ZoneInfo, (zone.key,)),
    HouseholdSettings: lambda value: value.model_copy(update={"password": None}).__reduce_ex__(5),
}
"""How values of a class are written: by a table, since a method would be called for each value."""


class Pickler(pickle.Pickler):
    """Writes values so that ``loads`` can read them."""

    dispatch_table = _WRITTEN


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, tape: object) -> None:
        super().__init__(io.BytesIO(data))
        self._tape = tape

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("gateway.recorder.tape", "Taped"):
            return lambda: self._tape
        if (found := _OTHERS.get((module, name))) is not None:
            return found
        if module in _MODULES or module.startswith(_ROOMS):
            __import__(module)
            kind = getattr(sys.modules[module], name, None)
            if isinstance(kind, type) and kind.__module__ == module:
                return kind
        raise RecordingError(f"it names {module}.{name}, which no recording has")


def dumps(value: object, pickler: type[Pickler] = Pickler) -> bytes:
    """Return a value as bytes; no password is in them."""
    out = io.BytesIO()
    pickler(out, 5).dump(value)
    return out.getvalue()


def loads(data: bytes, tape: object = None) -> Any:
    """Return the value of bytes.

    Args:
        tape: What stands in the value for the store, and for the members of cliques.

    Raises:
        RecordingError: They are damaged, or name what no recording has.
    """
    try:
        return _Unpickler(data, tape).load()
    except RecordingError:
        raise
    except Exception as error:  # What a damaged file makes of constructors can't be listed.
        raise RecordingError(f"not a recording: {type(error).__name__}: {error}") from error


def framed(entries: list[bytes], level: int = 9) -> bytes:
    """Return values that ``dumps`` wrote, compressed together."""
    return zstandard.ZstdCompressor(level=level).compress(pickle.dumps(entries, 5))


def unframed(frame: bytes) -> list[bytes]:
    """Return the values of a frame, for ``loads``.

    Raises:
        RecordingError: It is damaged, or too large.
    """
    try:
        if not 0 <= zstandard.frame_content_size(frame) <= MOST_FRAME_BYTES:
            raise RecordingError("a frame is too large")
        entries: list[bytes] = loads(zstandard.ZstdDecompressor().decompress(frame))
    except zstandard.ZstdError as error:
        raise RecordingError(f"a frame is damaged: {error}") from error
    return entries
