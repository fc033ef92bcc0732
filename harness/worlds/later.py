"""A virtual time in which things are done later, in order; for worlds of events."""

import heapq
from collections.abc import Callable


class Later:
    """Does what was planned when its time comes.

    Args:
        now: The time at the beginning, seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now  # the time, seconds
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._count, action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until something holds; return whether it did in time."""
        until = self.now + within_s
        while not holds():
            if not self._events or self._events[0][0] > until:
                self.now = until
                return False
            self.now, _, action = heapq.heappop(self._events)
            action()
        return True
