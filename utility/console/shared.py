"""Values that all browsers share, so that fifty of them cost what one costs."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from commonwatt.model.units import EpochSeconds

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """A value that is computed at most once in some seconds, by the request that needs it.

    Meanwhile others get the value before, up to an age; then they wait.

    Args:
        compute: Computes the value.
        every_s: Seconds for which a value is good.
        at_most_s: The age that a value may have while the next one is computed.
        now: Returns the machine's epoch seconds.
    """

    def __init__(
        self, compute: Callable[[], _T], *, every_s: int, at_most_s: int, now: Callable[[], EpochSeconds]
    ) -> None:
        self._compute = compute
        self._every_s = every_s
        self._at_most_s = at_most_s
        self._now = now
        self._lock = Lock()
        self._made: tuple[EpochSeconds, _T] | None = None

    def get(self) -> _T:
        """Return the value."""
        made, now = self._made, self._now()
        if made is not None and 0 <= now - made[0] < self._every_s:
            return made[1]
        is_old = made is None or not 0 <= now - made[0] <= self._at_most_s
        if not self._lock.acquire(blocking=is_old):
            assert made is not None
            return made[1]
        try:
            # Another request may have computed it while this one waited.
            if self._made is not None and self._made is not made:
                return self._made[1]
            self._made = (now, self._compute())
            return self._made[1]
        finally:
            self._lock.release()
