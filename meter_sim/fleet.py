"""A fleet: its settings, and emulated meters of any number of microgrids on one loop, with one physics (M1-M9, K2)."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

from prometheus_client.metrics_core import Metric

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.records import Tally
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.metric_families import register_process, registry_of
from commonwatt.runtime.service import until_stopped
from commonwatt.runtime.watchdog import Watchdog
from commonwatt.town.town import Town
from meter_sim.faults import Faults, FaultsFile, path_of
from meter_sim.fleet_clock import SLEW_AT_MOST_S, FleetClock
from meter_sim.meters import MicrogridMeters
from meter_sim.metrics import FleetFigures, SlotPower, TownFigures, fleet_metrics, town_metrics
from meter_sim.physics import Circumstances, MeteredTown
from meter_sim.plant import EmulatedPlant
from meter_sim.world import FleetWorld, Happened, OutsideWorld, levels_after, power_of

LOOK_EVERY_S = 1.0  # most real seconds until the world's clock is looked at again
MAX_AHEAD = 4  # slots that the world is ahead of a microgrid's meters before it waits for them
OPENED_AT_ONCE = 8  # stores that are opened at the same time
REOPEN_AFTER_S = 5.0  # real seconds until a store that failed is opened again

_STEPS_AT_ONCE = 50

_log = logging.getLogger(__name__)

Open = Callable[[MicrogridId, FleetClock, Tally], MicrogridMeters]
"""Opens a microgrid's store, and returns its meters, which count their events; raises ``StoreError``."""


class Fleet:
    """The emulated meters of some or all microgrids of a town."""

    def __init__(
        self,
        *,
        town: Town,
        microgrids: tuple[MicrogridId, ...],
        open_meters: Open,
        clock: Clock,
        open_plant: Callable[[FleetClock, OutsideWorld], EmulatedPlant] | None = None,
        faults: FaultsFile | None = None,
        levels: Mapping[MeterId, MilliwattHours] | None = None,
    ) -> None:
        """Take the microgrids of a town.

        Args:
            open_plant: Opens the plant; ``None``: there is none.
            faults: Those of all microgrids.
            levels: The levels of batteries at the first start, by meter; others begin near 75 %.

        Raises:
            StoreError: No microgrid's store can be opened.
        """
        self.clock = FleetClock(clock)  # the clock by which slots are measured
        self.members: dict[MicrogridId, MicrogridMeters] = {}  # the meters of each microgrid whose store is open
        # Event counts of each microgrid's meters, by kind and result.
        self.tallies: dict[MicrogridId, Tally] = {name: Counter() for name in microgrids}
        self._outside = OutsideWorld(town, faults)
        self._town = town
        self._microgrids = [town.microgrids[name] for name in microgrids]
        self._open_meters = open_meters
        self._levels = levels or {}
        # The town's plant; ``None``: the town gives and takes whatever the boundaries let pass.
        self.plant = None if open_plant is None else open_plant(self.clock, self._outside)
        self._physics = MeteredTown(town, self._microgrids, plant=None if self.plant is None else self.plant.physical)
        # A new store waits for its disk several times.
        with ThreadPoolExecutor(OPENED_AT_ONCE, "open") as pool:
            opening = {name: pool.submit(open_meters, name, self.clock, self.tallies[name]) for name in microgrids}
        for name, opened in opening.items():
            try:
                self.members[name] = opened.result()
            except StoreError as error:
                if len(microgrids) == 1 or (name == microgrids[-1] and not self.members):
                    if self.plant is not None:
                        self.plant.close()
                    raise
                _log.error("%s", error)
        self._world = self._world_so_far()
        self._happened: Happened | None = None

    @property
    def slot_end(self) -> EpochSeconds:
        """End of the world's last slot."""
        return self._world.slot_end

    def figures(self, name: MicrogridId) -> FleetFigures:
        """Return a microgrid's present figures; safe in any thread. They are 0 while its store can't be opened."""
        member = self.members.get(name)
        return FleetFigures(time=int(self.clock.time())) if member is None else member.figures()

    def power(self, name: MicrogridId | None = None) -> SlotPower:
        """Return the mean power of a microgrid, or of all, in the world's last slot."""
        if self._happened is None:
            return SlotPower()
        steps = self._happened.steps
        return power_of(steps.values() if name is None else [steps[name]])

    def town_figures(self) -> TownFigures:
        """Return the present figures of all microgrids together; safe in any thread."""
        return TownFigures(
            time=int(self.clock.time()),
            lag_s=self.clock.lag_s(self._world.slot_end),
            microgrids=len(self._microgrids),
            closed=len(self._microgrids) - len(self.members),
            power=self.power(),
            sun_percent=round(100 * self._physics.surroundings.weather.solar(self._world.slot_end - SLOT_S), 1),
            plant=None if self.plant is None else self.plant.figures(),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; all measured slots are committed when it returns."""
        await self.start(stop)
        tasks = [asyncio.create_task(self._keep(grid.id, stop), name=grid.id) for grid in self._microgrids]
        tasks.append(asyncio.create_task(self._pass_time(stop), name="the world"))
        if self.plant is not None:
            tasks.append(asyncio.create_task(self.plant.run(stop), name="the plant"))
        try:
            await until_stopped(stop, tasks)
        finally:
            stop.set()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def close(self) -> None:
        """Close all stores."""
        if self.plant is not None:
            self.plant.close()
        for member in self.members.values():
            member.close()

    # The start.

    async def start(self, stop: asyncio.Event) -> None:
        """Load the meters, and step the world to the present time without measuring."""
        for member in self.members.values():
            member.load()
        self._world.skip_to(self.clock.last_moment())
        steps = 0
        while self.clock.has_ended(self._world.slot_end) and not stop.is_set():
            self._step(measured=False)
            steps += 1
            if steps % _STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)
        for name, member in self.members.items():
            member.start_after(self._world.slot_end, self._world.levels[name])

    def _world_so_far(self) -> FleetWorld:
        """Return the world after the newest slot in a store; microgrids with an older slot are stepped up to it."""
        last = {name: member.last for name, member in self.members.items()}
        cold: dict[MicrogridId, Mapping[str, int]] = {name: member.cold for name, member in self.members.items()}
        now = int(self.clock.machine()) // SLOT_S * SLOT_S
        ends = [slot.slot_end for slot in last.values() if slot is not None]
        newest = max(ends, default=now)
        levels = {}
        for grid in self._microgrids:
            slot = last.get(grid.id)
            physics = self._physics.microgrids[grid.id]
            begins = physics.initial_levels(newest, self._outside.level_percent(newest))
            begins |= {meter: level for meter, level in self._levels.items() if meter in begins}
            initial = begins if slot is None else physics.initial_levels(slot.slot_end)
            levels[grid.id] = levels_after(slot, grid, initial)
            if slot is not None and slot.slot_end < newest:
                # Its last slots were not committed when the fleet was killed.
                alone = FleetWorld(MeteredTown(self._town, [grid]), slot.slot_end, {grid.id: levels[grid.id]}, cold)
                alone.skip_to(newest)
                while alone.slot_end < newest:
                    alone.step({grid.id: Circumstances()})
                levels[grid.id] = alone.levels[grid.id]
                cold[grid.id] = alone.cold[grid.id]
        return FleetWorld(self._physics, newest, levels, cold)

    # The world.

    async def _pass_time(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _stopped(stop, 0.0 if self.pass_slot() else self._wait_s())

    def pass_slot(self) -> bool:
        """Correct the clock; step the world by one slot if one is over; return whether it was."""
        told_s = self._told_s()
        if told_s is not None:
            self._correct(told_s)
        if not self.clock.has_ended(self._world.slot_end) or self._is_ahead():
            return False
        self._step(measured=True)
        if told_s is not None:
            self.clock.slew(told_s)
        return True

    def _correct(self, told_s: float) -> None:
        """Correct the clock; go back if the world is ahead of it, now or since a start with a wrong clock."""
        wrong_s = self.clock.correct(told_s)
        if wrong_s:
            _log.warning("the clock was wrong by %+.0f s", wrong_s)
            self._world.skip_to(self.clock.last_moment())
        back_to = self.clock.last_moment() // SLOT_S * SLOT_S
        if back_to + (0 if wrong_s else SLEW_AT_MOST_S) < self._world.slot_end:
            self._world.slot_end = back_to
            for member in self.members.values():
                member.set_back(back_to)

    def _step(self, *, measured: bool) -> None:
        at = self._world.slot_end
        self._physics.surroundings.weather = self._outside.weather(at)
        faults = self._outside.faults()
        circumstances = {
            grid.id: self._circumstances(grid.id, at, faults, measured=measured) for grid in self._microgrids
        }
        told = None if self.plant is None else self.plant.told(at, self._outside.region(at))
        happened = self._happened = self._world.step(circumstances, told)
        if self.plant is not None and happened.plant is not None:
            self.plant.happened(happened.slot_end, happened.plant, measured=measured)
        for name, member in self.members.items():
            member.happened(happened.slot_end, happened.steps[name], measured=measured)

    def _circumstances(self, name: MicrogridId, at: EpochSeconds, faults: Faults, *, measured: bool) -> Circumstances:
        around, member = self._outside.around(name, at), self.members.get(name)
        if member is None:
            return around
        return member.circumstances(at, around, faults, measured=measured)

    def _told_s(self) -> float | None:
        """Return the lag of the machine's clock behind the gateways' time: the median of the offsets sent to meters."""
        # ``None``: no meter was sent one since its start, so the clock stays as it is.
        told = [offset_s for member in self.members.values() for offset_s in member.offsets_s]
        return median(told) if told else None

    def _is_ahead(self) -> bool:
        """Whether the world must wait for meters; never for those whose store fails or hangs."""
        return any(member.waiting >= MAX_AHEAD for member in self.members.values())

    def _wait_s(self) -> float:
        """Return the real seconds until the next slot, or the next look at the clock."""
        if self._is_ahead():
            return 0.01
        until_s = self.clock.real_s_until_slot(self._world.slot_end)
        return LOOK_EVERY_S if until_s is None else min(until_s, LOOK_EVERY_S)

    # The microgrids.

    async def _keep(self, name: MicrogridId, stop: asyncio.Event) -> None:
        """Run a microgrid's meters; of several microgrids, open the store again if it failed."""
        while not stop.is_set():
            member = self.members.get(name)
            if member is not None:
                try:
                    await member.run(stop)
                except StoreError as error:
                    if stop.is_set() or len(self._microgrids) == 1:
                        raise
                    _log.error("%s; the other microgrids go on", error)
                    del self.members[name]
                    member.close()
            if not await _stopped(stop, REOPEN_AFTER_S):
                self._reopen(name)

    def _reopen(self, name: MicrogridId) -> None:
        try:
            member = self._open_meters(name, self.clock, self.tallies[name])
        except StoreError as error:
            _log.error("%s", error)
            return
        member.load()
        member.start_after(self._world.slot_end, self._world.levels[name])
        self.members[name] = member


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    """Wait for ``stop``; return whether it was set within some real seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), within_s)
    return stop.is_set()


BEHIND_S = 60  # seconds of lag from which a microgrid's meters are behind
WORST = 5  # most microgrids that the status of several names as behind


def hosted(config: Path, settings: MetersSettings) -> dict[MicrogridId, MetersSettings]:
    """Return the settings of each microgrid of a fleet: its own file, or for several the files that it names.

    Raises:
        ConfigError: A file is wrong, or of another microgrid, town or clock.
    """
    if settings.microgrid is not None:
        return {settings.microgrid: settings}
    found = {}
    for name in settings.microgrids:
        path = _file_of(config, name)
        one = of_one(path)
        if one.microgrid != name:
            raise ConfigError(f"{path}: is of microgrid {one.microgrid}, but {config} names it for {name}")
        for key in ("town", "clock"):
            theirs, ours = (getattr(each, key) for each in (one, settings))
            if (theirs and theirs.resolve()) != (ours and ours.resolve()):
                raise ConfigError(f"{path}: {key} differs from that of {config}: one process has one {key}")
        found[name] = one
    return found


def _file_of(config: Path, microgrid: MicrogridId) -> Path:
    return (config.parent / f"../{microgrid}/meters.toml").resolve()


def of_one(config: Path) -> MetersSettings:
    """Read the file of one microgrid's meters."""
    settings = load_settings(config, "meters", MetersSettings)
    if settings.microgrid is None:
        path = _file_of(config, settings.microgrids[0])
        raise ConfigError(f"{config}: is of several microgrids; name the file of one, such as {path}")
    return settings


def faults_path(config: Path, settings: MetersSettings) -> Path:
    """Return the file of the faults of a fleet: beside its store, or for several microgrids beside its settings."""
    return path_of(config.resolve() if settings.microgrids else settings.store)


def servers(
    settings: MetersSettings, files: Mapping[MicrogridId, MetersSettings], fleet: Fleet, watchdog: Watchdog
) -> Iterator[HttpServer]:
    """Start and yield the HTTP servers of a fleet: one for each microgrid with an address, one for all of several."""
    alone = settings.microgrid is not None
    for name, one in files.items():
        if one.http is not None:
            registry = registry_of(partial(_metrics, fleet, name))
            if alone:
                register_process(registry, "meters", watchdog)
            server = HttpServer(one.http, registry, partial(_status, fleet, name), one.http_hosts)
            yield _started(server, watchdog, "" if alone else name)
    if settings.microgrids and settings.http is not None:
        registry = registry_of(lambda: town_metrics(fleet.town_figures()))
        register_process(registry, "meters", watchdog)
        server = HttpServer(settings.http, registry, partial(_town_status, fleet), settings.http_hosts)
        yield _started(server, watchdog, "")


def _metrics(fleet: Fleet, name: MicrogridId) -> Iterator[Metric]:
    return fleet_metrics(fleet.figures(name), fleet.tallies[name])


def _started(server: HttpServer, watchdog: Watchdog, name: str) -> HttpServer:
    watchdog.thread(f"http {name}".strip(), server.start())
    return server


def _status(fleet: Fleet, name: MicrogridId) -> dict[str, object]:
    now = fleet.figures(name)
    return {
        "microgrid": name,
        "time": now.time,
        "lag_s": now.lag_s,
        "made": now.made,
        "acknowledged": now.acknowledged,
        "held": now.held,
        "events_made": now.events_made,
        "events_held": now.events_held,
        "sharing": [str(meter) for meter in now.sharing],
        "meters": now.meters,
        "connected": now.connected,
        "without_broker": now.without_broker,
        "dark": now.dark,
        "power": asdict(fleet.power(name)),
    }


def _town_status(fleet: Fleet) -> dict[str, object]:
    now = fleet.town_figures()
    by_name = {name: fleet.figures(name) for name in fleet.tallies}
    figures = by_name.values()
    behind = {name: round(one.lag_s) for name, one in by_name.items() if one.lag_s > BEHIND_S}
    worst = sorted(behind, key=behind.__getitem__, reverse=True)[:WORST]
    return {
        "time": now.time,
        "lag_s": now.lag_s,
        "made": sum(one.made for one in figures),
        "acknowledged": sum(one.acknowledged for one in figures),
        "held": sum(one.held for one in figures),
        "events_held": sum(one.events_held for one in figures),
        "behind": len(behind),
        "worst": {name: behind[name] for name in worst},
        "meters": sum(one.meters for one in figures),
        "connected": sum(one.connected for one in figures),
        "microgrids": list(fleet.tallies),
        "closed": [name for name in fleet.tallies if name not in fleet.members],
        "power": asdict(now.power),
        "sun_percent": now.sun_percent,
        "plant": None if now.plant is None else asdict(now.plant),
    }
