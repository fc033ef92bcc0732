"""What is around a fleet's meters: the physics of its microgrids and the plant by slot; random failures (M9, P 3)."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from commonwatt.energy.physics.plant import PlantStep
from commonwatt.energy.physics.town import PlantInputs
from commonwatt.model.ids import MeterId
from commonwatt.model.units import SLOT_S, EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.town import Microgrid
from meter_sim.metrics import Power
from meter_sim.physics.metered import MeteredTown
from meter_sim.physics.microgrid import Circumstances, Step
from meter_sim.truth import Slot

MAX_CATCH_UP_S = 7 * 86_400  # longest stop that the physics steps through; of a longer one, only its last 7 days


@dataclass(frozen=True, kw_only=True)
class Happened:
    """What happened in one slot."""

    slot_end: EpochSeconds  # end of the slot
    steps: Mapping[MicrogridId, Step]  # the result of each microgrid
    plant: PlantStep | None  # the plant's result; ``None``: there is no plant


class World:
    """The physics of a fleet's microgrids, up to the end of the last slot."""

    def __init__(
        self,
        physics: MeteredTown,
        slot_end: EpochSeconds,
        levels: Mapping[MicrogridId, Mapping[MeterId, MilliwattHours]],
        cold: Mapping[MicrogridId, Mapping[str, int]],
    ) -> None:
        self.slot_end = slot_end  # end of the last slot
        # Levels of each microgrid's batteries at that time.
        self.levels = {name: dict(each) for name, each in levels.items()}
        self.cold = dict(cold)  # for how long the places of each microgrid are still cold (``Step.cold``)
        self._physics = physics

    def step(self, circumstances: Mapping[MicrogridId, Circumstances], told: PlantInputs | None = None) -> Happened:
        """Step the physics by one slot."""
        here = {name: replace(one, cold=self.cold.get(name, {})) for name, one in circumstances.items()}
        steps, plant = self._physics.step(self.slot_end, self.levels, here, told)
        self.levels = {name: step.levels for name, step in steps.items()}
        self.cold = {name: step.cold for name, step in steps.items()}
        self.slot_end += SLOT_S
        return Happened(slot_end=self.slot_end, steps=steps, plant=plant)

    def skip_to(self, until: EpochSeconds) -> None:
        """Skip all slots older than ``MAX_CATCH_UP_S`` before ``until``; the levels stay."""
        nearest = (until - MAX_CATCH_UP_S) // SLOT_S * SLOT_S
        self.slot_end = max(self.slot_end, nearest)


def levels_after(
    slot: Slot | None, microgrid: Microgrid, initial: Mapping[MeterId, MilliwattHours]
) -> dict[MeterId, MilliwattHours]:
    """Return the levels after a stored slot; without one, the initial levels.

    The town file may have changed: a new battery has its initial level, a smaller one is at most full. Without a
    battery the level of an outgoing meter is 0.
    """
    if slot is None:
        return dict(initial)
    capacity = {meter.id: meter.battery.capacity for meter in microgrid.meters if meter.battery}
    return {meter: min(slot.levels.get(meter, level), capacity.get(meter, 0)) for meter, level in initial.items()}


def power_of(steps: Iterable[Step]) -> Power:
    """Return the mean power of microgrids in a slot."""
    load = sun = imported = 0
    for step in steps:
        load += sum(step.served.values())
        sun += step.generated
        imported += step.imported
    return Power(load_w=_watts(load), sun_w=_watts(sun), import_w=_watts(imported))


def _watts(energy: MilliwattHours) -> int:
    return round(energy * 3600 / SLOT_S / 1000)


class Failures:
    """Random failures of meters, of 10 to 15 s each (P 3)."""

    def __init__(self, per_day: float, rng: random.Random) -> None:
        self._per_s = per_day / 86_400
        self._rng = rng

    def next_after(self, now: float) -> float | None:
        """Return the time at which a meter that is up at ``now`` fails; ``None``: never."""
        return now + self._rng.expovariate(self._per_s) if self._per_s else None

    def duration_s(self) -> float:
        """Return the duration of a failure, seconds."""
        return 10.0 + 5.0 * self._rng.random()
