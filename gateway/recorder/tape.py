"""What the core reads outside of itself, recorded and played: stores, and its members of cliques."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast

from commonwatt.model.exceptions import CommonwattError
from commonwatt.sqlite.damage import SqliteError
from gateway.recorder.pickled import dumps, loads
from gateway.stored import Stored
from gateway.takeover.member import Member

T = TypeVar("T", Stored, Member)
Read: TypeAlias = bytes | tuple[str, Any]  # what was read, with its name; in bytes what may change later

_UNCHANGING = {bool, int, str, bytes, float, type(None)}


class DiffersError(CommonwattError):
    """The core reads something else than it read when it was recorded."""


class StoreFailedError(SqliteError):
    """A read of the store that failed when it was recorded."""


@dataclass(frozen=True)
class Failed:
    """A failed read as it is recorded: how exceptions are pickled, other libraries may change."""

    why: str  # the error's text


def noted(read: Read) -> tuple[str, Any]:
    """Return the name and the value of a read."""
    return loads(read) if isinstance(read, bytes) else read


class Tape:
    """The reads of the event that is handled; without one, reads pass unrecorded."""

    def __init__(self) -> None:
        self.reads: list[Read] | None = None
        self.failed: Exception | None = None  # why a read could not be recorded

    def of(self, real: T) -> T:
        """Return a store, or a member of a clique, whose reads are recorded."""
        return cast("T", Taped(self, real))

    def note(self, name: str, value: object) -> None:
        """Record what was read, as it is now."""
        if self.reads is not None:
            try:
                self.reads.append((name, value) if type(value) in _UNCHANGING else dumps((name, value)))
            except Exception as error:  # The recorder tells it; the core goes on.
                self.failed = error


class Taped:
    """Stands for something that the core reads, and records what it reads."""

    def __init__(self, tape: Tape, real: object) -> None:
        self._tape, self._real = tape, real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not _is_method(name):
            found = getattr(self._real, name)
            self._tape.note(name, found)
            return found

        def call(*arguments: object, **options: object) -> object:
            try:
                value = getattr(self._real, name)(*arguments, **options)
                value = list(value) if isinstance(value, Iterator) else value
            except SqliteError as error:
                self._tape.note(name, Failed(str(error)))
                raise
            self._tape.note(name, value)
            return value

        self.__dict__[name] = call  # It is made once.
        return call

    def __reduce__(self) -> Any:
        return Taped, ()


class Player:
    """Stands for everything that was ``Taped``, and returns what was read then."""

    def __init__(self) -> None:
        self.reads: list[Read] = []  # the reads of the event that is handled, in order

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return (lambda *_, **__: self._next(name)) if _is_method(name) else self._next(name)

    def __reduce__(self) -> Any:
        return Taped, ()

    def _next(self, name: str) -> object:
        recorded, value = noted(self.reads.pop(0)) if self.reads else ("nothing more", None)
        if recorded != name:
            raise DiffersError(f"the core reads {name}; when it was recorded it read {recorded}")
        if isinstance(value, Failed):
            raise StoreFailedError(value.why)
        return value


@cache
def _is_method(name: str) -> bool:
    return callable(getattr(Stored, name, None) or getattr(Member, name, None))
