"""What is around a fleet's meters: physics and plant by slot, random failures (M9, P 3), set faults, a scenario."""

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from zoneinfo import ZoneInfo

from commonwatt.energy.plant import PlantStep, price_factor
from commonwatt.energy.step import PlantInputs
from commonwatt.model.control import SupplyState
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.town.scenario import GROUPS, Conditions, Scenario
from commonwatt.town.town import Microgrid, Town
from meter_sim.faults import Faults, FaultsFile, percent_at
from meter_sim.load import Weather
from meter_sim.metrics import SlotPower
from meter_sim.physics import Circumstances, MeteredTown, PhysicsStep
from meter_sim.store import Slot

MAX_CATCH_UP_S = 7 * 86_400  # longest stop that the physics steps through; of a longer one, only its last 7 days


@dataclass(frozen=True, kw_only=True)
class Happened:
    """What happened in one slot."""

    slot_end: EpochSeconds  # end of the slot
    steps: Mapping[MicrogridId, PhysicsStep]  # the result of each microgrid
    plant: PlantStep | None  # the plant's result; ``None``: there is no plant


class FleetWorld:
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
        self.cold = dict(cold)  # for how long the places of each microgrid are still cold (``PhysicsStep.cold``)
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


def power_of(steps: Iterable[PhysicsStep]) -> SlotPower:
    """Return the mean power of microgrids in a slot."""
    load = sun = imported = 0
    for step in steps:
        load += sum(step.served.values())
        sun += step.generated
        imported += step.imported
    return SlotPower(load_w=_watts(load), sun_w=_watts(sun), import_w=_watts(imported))


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


NOT_PLAYED = ("broadband", "controller")
"""Outages that the meters' process can't make: those of the utility's network and of controllers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Region:
    """The regional grid in a slot."""

    supply: SupplyState  # the state of its supply
    line_alive: bool  # whether its line to the plant has voltage
    price_permille: int  # its price, thousandths of the price outside peak hours


class Sky(Weather):
    """A town's weather with the clouds of a scenario."""

    def __init__(self, town: Town, overcast: str) -> None:
        super().__init__(town.table)
        self._overcast = overcast

    def overcast(self, day: date) -> bool:
        """Whether a local day is overcast."""
        return super().overcast(day) if self._overcast == "as usual" else self._overcast == "always"


class OutsideWorld:
    """The world around a fleet."""

    def __init__(self, town: Town, file: FaultsFile | None) -> None:
        self._town = town
        self._file = file
        self._weather = Weather(town.table)
        self._scenario: Scenario | None = None
        self._conditions: Conditions | None = None
        self._sky: Weather = self._weather
        residential = [name for name, grid in town.microgrids.items() if grid.kind == "residential"]
        self._order = {name: number for number, name in enumerate(residential)}

    def weather(self, at: EpochSeconds) -> Weather:
        """Return the weather of a slot."""
        return self._sky if self._played(self.faults(), at) is not None else self._weather

    def around(self, name: MicrogridId, at: EpochSeconds) -> Circumstances:
        """Return what holds for a microgrid, without the desired states of its meters."""
        faults = self.faults()
        voltage = at >= faults.feeder_dead_until
        demand = percent_at(faults.demand, at)
        conditions = self._played(faults, at)
        drop = None
        if conditions is not None:
            kind = self._town.microgrids[name].kind
            percent = conditions.demand_percent(GROUPS[kind], at)
            demand = demand if percent is None else round(demand * percent / 100)
            drop = conditions.drop(at) if kind == "residential" else None
            voltage = voltage and name not in conditions.named("feeder", at)
            if kind == "residential" and any(one.what == "feeder" for one in conditions.scenario.outage):
                voltage = voltage and not conditions.out("feeder", at, len(self._order))[self._order[name]]
        return Circumstances(
            voltage=bool(voltage),
            sun_percent=percent_at(faults.sun, at),
            demand_percent=demand,
            drop=drop,
            number=self._order.get(name, 0),
        )

    def level_percent(self, at: EpochSeconds) -> int | None:
        """Return the mean level of batteries that are new at a time, by the scenario; ``None``: none is played."""
        conditions = self._played(self.faults(), at)
        return None if conditions is None else conditions.scenario.level_percent

    def region(self, at: EpochSeconds) -> Region:
        """Return the regional grid."""
        faults = self.faults()
        supply, alive = faults.supply_at(at), at >= faults.line_dead_until
        conditions = self._played(faults, at)
        if conditions is not None:
            supply = max(supply, conditions.supply(at), key=list(SupplyState).index)
            alive = alive and not conditions.is_out("town_line", at)
        return Region(supply=supply, line_alive=alive, price_permille=self.price_permille(at))

    def price_permille(self, at: EpochSeconds) -> int:
        """Return the regional price at a time, thousandths of the price outside peak hours."""
        conditions = self._played(self.faults(), at)
        if conditions is None or not conditions.scenario.peak:
            return round(price_factor(self._town, at) * 1000)
        return conditions.price_percent(at, self._town.table) * 10

    def faults(self) -> Faults:
        """Return the faults that a person set for all microgrids of the fleet."""
        return Faults() if self._file is None else self._file.read()

    def _played(self, faults: Faults, at: EpochSeconds) -> Conditions | None:
        """Return the conditions of the scenario that is played at a time."""
        if faults.scenario is not self._scenario:
            self._scenario, self._conditions = faults.scenario, None
            if faults.scenario is not None:
                table = self._town.table
                self._conditions = Conditions(scenario=faults.scenario, zone=ZoneInfo(table.timezone), seed=table.seed)
                self._sky = Sky(self._town, faults.scenario.overcast)
                _log.info("playing: %s", faults.scenario.title)
        if self._conditions is None or not self._conditions.begin <= at < self._conditions.end():
            return None
        return self._conditions
