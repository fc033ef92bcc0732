"""Values that all browsers share, so that fifty of them cost what one costs."""

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from threading import Lock, Thread
from typing import Generic, TypeVar

from commonwatt.model.units import EpochSeconds

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(eq=False)
class Shared(Generic[_T]):
    """A value that is computed at most once in some seconds, and only while somebody asks for it.

    A request that finds it a little old gets it as it is, and has the next one computed beside; the first request, and
    one that finds it too old, wait.
    """

    compute: Callable[[], _T]  # computes it
    _: KW_ONLY
    every_s: int  # seconds for which a value is good
    at_most_s: int  # the age that a value may have while the next one is computed
    now: Callable[[], EpochSeconds]  # returns the machine's epoch seconds
    _lock: Lock = field(default_factory=Lock)
    _made: tuple[EpochSeconds, _T] | None = None

    def get(self) -> _T:
        """Return the value; computing it may take long."""
        made = self._made
        found = self.recent()
        return self._waited_for(made) if found is None else found

    def recent(self) -> _T | None:
        """Return the value without a wait; ``None``: it is too old, or was never computed."""
        made = self._made
        if made is None:
            return None
        age_s = self.now() - made[0]
        if 0 <= age_s < self.every_s:
            return made[1]
        if not 0 <= age_s <= self.at_most_s:
            return None
        if self._lock.acquire(blocking=False):
            Thread(target=self._beside, name="shared value", daemon=True).start()
        return made[1]

    def _waited_for(self, made: tuple[EpochSeconds, _T] | None) -> _T:
        with self._lock:
            # Another request may have computed it while this one waited.
            if self._made is None or self._made is made:
                self._made = (self.now(), self.compute())
            return self._made[1]

    def _beside(self) -> None:
        """Compute the next value; the lock is taken."""
        try:
            self._made = (self.now(), self.compute())
        except Exception:
            # The requests that then find the value too old meet the fault themselves.
            log.exception("a value of the pages could not be computed")
        finally:
            self._lock.release()
