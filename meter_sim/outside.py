"""What the world does to the microgrids of a fleet in a slot: a person's faults, and a scenario that is played."""

import logging
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from commonwatt.energy.physics.plant import price_factor
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import GROUPS, Scenario
from commonwatt.town.town import Town
from meter_sim.faults import Faults, FaultsFile, percent_at
from meter_sim.physics.microgrid import Circumstances
from meter_sim.weather import Weather

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
