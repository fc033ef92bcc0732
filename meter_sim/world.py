"""What lies around the core meters of a fleet: the physics slot by slot, timers, and failures by chance (M9, P 3)."""

import heapq
import random
from collections.abc import Mapping

from commonwatt.device.desired_states import Commanded
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId
from commonwatt.town.town import Microgrid
from meter_sim.physics import MicrogridPhysics, Step
from meter_sim.truth import Slot

MAX_CATCH_UP_S = 7 * 86_400
"""After a longer stop the batteries' levels jump to now instead of being stepped through it."""


class World:
    """The physics of the fleet's microgrid, up to the end of the last slot.

    Attributes:
        slot_end: End of the last slot.
        levels: Levels of the batteries then.
    """

    def __init__(self, physics: MicrogridPhysics, microgrid: Microgrid, slot: Slot | None, now: float) -> None:
        self.slot_end = int(now) // SLOT_S * SLOT_S if slot is None else slot.slot_end
        self._physics = physics
        self.levels = physics.initial_levels(self.slot_end)
        if slot is not None:
            # The town file may have changed since: a new battery starts as new, a smaller one is full at most.
            capacity = {meter.id: meter.battery.capacity for meter in microgrid.meters if meter.battery}
            self.levels = {
                meter: min(slot.levels.get(meter, level), capacity[meter]) for meter, level in self.levels.items()
            }

    def step(self, commanded: Mapping[MeterId, Commanded]) -> Step:
        """Go on by one slot."""
        step = self._physics.step(self.levels, self.slot_end, commanded)
        self.levels = step.levels
        self.slot_end += SLOT_S
        return step

    def skip_to(self, until: EpochSeconds) -> None:
        """Jump so near to ``until`` that the rest can be stepped through."""
        nearest = (until - MAX_CATCH_UP_S) // SLOT_S * SLOT_S
        self.slot_end = max(self.slot_end, nearest)

    def slot(self) -> Slot:
        """Return what is to be kept of it."""
        return Slot(self.slot_end, self.levels)


class Timers:
    """When which meter is due."""

    def __init__(self) -> None:
        self._at: dict[MeterId, float | None] = {}
        self._heap: list[tuple[float, MeterId]] = []

    def set(self, meter: MeterId, at: float | None) -> None:
        """Replace a meter's timer; ``None``: it has none."""
        if self._at.get(meter) != at:
            self._at[meter] = at
            if at is not None:
                heapq.heappush(self._heap, (at, meter))

    @property
    def next(self) -> float | None:
        """When the first is due."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[MeterId]:
        """Take out the meters that are due."""
        meters = []
        while (at := self.next) is not None and at <= now:
            meter = heapq.heappop(self._heap)[1]
            self._at[meter] = None
            meters.append(meter)
        return meters


class Failures:
    """Draws when meters fail, and for how long: 10 to 15 s at a time (P 3)."""

    def __init__(self, per_day: float, rng: random.Random) -> None:
        self._per_s = per_day / 86_400
        self._rng = rng

    def next_after(self, now: float) -> float | None:
        """Return when a meter that is up at ``now`` fails; ``None``: never."""
        return now + self._rng.expovariate(self._per_s) if self._per_s else None

    def duration_s(self) -> float:
        """Return how long it stays down."""
        return 10.0 + 5.0 * self._rng.random()
