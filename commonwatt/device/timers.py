"""The timers of many meters on one loop."""

import heapq

from commonwatt.model.ids import MeterId


class Timers:
    """One timer for each meter."""

    def __init__(self) -> None:
        self._at: dict[MeterId, float | None] = {}
        self._heap: list[tuple[float, MeterId]] = []

    def set(self, meter: MeterId, at: float | None) -> None:
        """Replace a meter's timer; ``None``: remove it."""
        if self._at.get(meter) != at:
            self._at[meter] = at
            if at is not None:
                heapq.heappush(self._heap, (at, meter))

    @property
    def next(self) -> float | None:
        """The time of the first timer; ``None``: no timer is set."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[MeterId]:
        """Remove and return the meters whose timers are due."""
        meters = []
        while (at := self.next) is not None and at <= now:
            meter = heapq.heappop(self._heap)[1]
            self._at[meter] = None
            meters.append(meter)
        return meters
