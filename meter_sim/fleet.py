"""A fleet: every emulated meter of one microgrid on one asyncio loop (M1-M9, K2).

Its loop feeds the cores in turns: what has arrived, what is due, at most one slot; then one commit for the whole fleet;
then what is to be published (``commonwatt.device.shell``).
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from commonwatt.config.settings import MetersSettings
from commonwatt.device.changes import DesiredStates, MeterState, Stored
from commonwatt.device.delivery import Tally
from commonwatt.device.desired_states import Commanded
from commonwatt.device.meter import Limits, Meter
from commonwatt.device.shell import DeviceShell
from commonwatt.device.store import DeviceStore
from commonwatt.model.effects import Effect, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import State
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId
from commonwatt.network.tls import ClientTls, client_tls
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import Work
from commonwatt.town.town import Function, Microgrid, Town
from meter_sim.metrics import Figures
from meter_sim.physics import MicrogridPhysics
from meter_sim.truth import Change, has_slot, last_slot
from meter_sim.world import Failures, Timers, World

SLEW_S = 1.5
"""By so much a slot is longer or shorter while the fleet's clock is brought nearer to the right time."""

SLEW_AT_MOST_S = 60
"""What it is further off is made good at once: ahead slot by slot, back to where it was not recorded yet."""

_STEPS_AT_ONCE = 50

_log = logging.getLogger(__name__)

Effects = list[Effect[Change]]


class Fleet:
    """The emulated meters of a microgrid, their connections and the physics behind them.

    Attributes:
        meters: The cores by id; one that failed stays until it is built again from the store.
        tally: How often what happened, over all meters.
    """

    def __init__(
        self,
        *,
        settings: MetersSettings,
        town: Town,
        microgrid: Microgrid,
        tokens: Mapping[str, str],
        clock: Clock,
        store: DeviceStore,
    ) -> None:
        self.meters: dict[MeterId, Meter] = {}
        self.tally: Tally = Counter()
        self._settings = settings
        self._microgrid = microgrid
        self._clock = clock
        self._store = store
        self._limits = Limits(resolution=settings.resolution_mwh, log_records=settings.log_records)
        # Chance that anyone can repeat, not secrets; the connections' own, so that they don't change what fails when.
        seed = f"{town.table.seed}/{microgrid.id}"
        rng = random.Random(f"{seed}/links")  # noqa: S311
        self._failures = Failures(settings.failures_per_day, random.Random(f"{seed}/failures"))  # noqa: S311
        self._failing = Timers()
        self._down: set[MeterId] = set()
        self._timers = Timers()
        self._world = World(MicrogridPhysics(town, microgrid), microgrid, last_slot(store), clock.now())
        self._ahead_s = 0.0
        self._descriptions = {m.id: m for m in microgrid.meters if m.function is not Function.FOREIGN}
        self._shell = DeviceShell(microgrid.id, store, self.tally)
        for meter in self._descriptions:
            token = tokens.get(str(meter))
            if token is None:
                raise ConfigError(f"meter {meter} has no token; make the token file again: commonwatt utility register")
            self._shell.add(meter, broker=settings.broker, token=token, tls=self._tls(meter), rng=rng)

    @property
    def writing(self) -> Work:
        """The commit on its way, for a watchdog to see."""
        return self._shell.writing

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; everything measured is committed then."""
        try:
            await self._start(stop)
            async with self._shell.running(stop):
                while not stop.is_set():
                    await self._shell.perform(self._turn(self._clock.now()))
                    await self._shell.rest(self._wait_s())
        finally:
            self._shell.close()

    def figures(self) -> Figures:
        """Return the fleet's figures now; safe to call from another thread, which only reads single values."""
        now = self._clock.now() - self._ahead_s
        if self._clock.meters_stop_at is not None:
            now = min(now, self._clock.meters_stop_at)
        meters = list(self.meters.values())
        links = self._shell.links.values()
        return Figures(
            time=int(self._clock.now() - self._ahead_s),
            lag_s=round(max(0.0, now - self._world.slot_end - SLOT_S), 3),
            meters=len(self._shell.links),
            connected=sum(link.connected for link in links),
            made=sum(meter.state.made for meter in meters),
            acknowledged=sum(meter.state.acknowledged for meter in meters),
            events_made=sum(meter.state.next_event - 1 for meter in meters),
            events_held=sum(len(meter.events.rows) for meter in meters),
            gaps=sum(meter.state.gaps for meter in meters),
            sharing=tuple(meter.description.id for meter in meters if meter.state.bits & State.SHARING),
            dropped=self._shell.dropped + sum(link.dropped for link in links),
            retained=sum(link.retained for link in links),
        )

    # The start.

    async def _start(self, stop: asyncio.Event) -> None:
        """Load the meters, let the time since the last slot pass unmeasured, and boot them."""
        now = self._clock.now()
        for meter, description in self._descriptions.items():
            stored = self._store.load(meter) or _new(meter, now)
            self.meters[meter] = Meter(description, self._limits, stored, self.tally)
        last = self._world.slot_end
        await self._pass_unmeasured(stop)
        effects: Effects = [Write(self._world.slot())]
        for meter, core in self.meters.items():
            effects += self._boot(meter, power_lost=core.state.last_slot < self._world.slot_end)
        await self._shell.perform(effects)
        _log.info(
            "%s: %d meters, %d slots passed unmeasured",
            self._microgrid.id,
            len(self.meters),
            (self._world.slot_end - last) // SLOT_S,
        )

    async def _pass_unmeasured(self, stop: asyncio.Event) -> None:
        """Step the physics through the slots that were not measured, up to the present time."""
        self._world.skip_to(self._last_moment())
        steps = 0
        while self._world.slot_end + SLOT_S <= self._last_moment() and not stop.is_set():
            self._world.step({})
            steps += 1
            if steps % _STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _last_moment(self) -> EpochSeconds:
        """Return now, or when the meters stop if that was before."""
        now = int(self._clock.now() - self._ahead_s)
        return now if self._clock.meters_stop_at is None else min(now, self._clock.meters_stop_at)

    def _told_s(self) -> float:
        """Return by how much the meters were told that the fleet's clock, which all of them have, is behind."""
        told = [meter.state.offset_s for meter in self.meters.values() if meter.state.trust]
        return median(told) if told else 0.0

    def _keep_time(self) -> Effects:
        """Bring the clock by which slots are measured nearer to what the meters were told."""
        wrong_s = self._ahead_s + self._told_s()
        if abs(wrong_s) <= SLEW_AT_MOST_S:
            return []
        self._ahead_s -= wrong_s
        _log.warning("%s: the clock was wrong by %+.0f s", self._microgrid.id, wrong_s)
        back_to = self._last_moment() // SLOT_S * SLOT_S
        if back_to >= self._world.slot_end:
            return []
        self._world.slot_end = back_to
        return [e for meter in self.meters.values() for e in meter.set_back(back_to)]

    def _boot(self, meter: MeterId, *, power_lost: bool) -> Effects:
        now = self._clock.now()
        effects: Effects = [*self.meters[meter].boot(now, power_lost=power_lost)]
        self._timers.set(meter, self.meters[meter].wake_at)
        fails_at = self._failures.next_after(now)
        stop_at = self._clock.meters_stop_at
        # After the last slot the meters only deliver.
        self._failing.set(meter, None if fails_at is None or (stop_at and fails_at >= stop_at) else fails_at)
        return effects

    # A turn.

    def _turn(self, now: float) -> Effects:
        """Feed the cores everything that has arrived or is due, and one slot."""
        effects: Effects = []
        for meter in self._failing.due(now):
            effects += self._recover(meter, now) if meter in self._down else self._fail(meter, now)
        for meter, leaf, payload in self._shell.take():
            if meter not in self._down:
                effects += self.meters[meter].receive(leaf, payload, now)
                self._timers.set(meter, self.meters[meter].wake_at)
        effects += self._keep_time()
        if self._world.slot_end + SLOT_S <= self._last_moment():
            effects += self._slot()
        for meter in self._timers.due(now):
            if meter not in self._down:
                effects += self.meters[meter].tick(now)
                self._timers.set(meter, self.meters[meter].wake_at)
        return effects

    def _slot(self) -> Effects:
        """Let one slot pass and measure it; a fleet that is late makes every slot, in order."""
        step = self._world.step(
            {meter: self._commanded(meter, core, self._world.slot_end) for meter, core in self.meters.items()}
        )
        effects: Effects = [Write(self._world.slot())]
        # Nearer to the right time by a part of this slot, so that none is lost or comes twice.
        self._ahead_s += max(-SLEW_S, min(SLEW_S, -self._ahead_s - self._told_s()))
        if has_slot(self._store, self._world.slot_end):
            return effects  # by a clock that was ahead; a slot is recorded once
        for meter, core in self.meters.items():
            if meter not in self._down:
                effects += core.measure(self._world.slot_end, step.readings[meter])
        return effects

    def _commanded(self, meter: MeterId, core: Meter, at: EpochSeconds) -> Commanded:
        commanded = core.commanded(at)
        # Without its meter a battery shares nothing, while a switch that is open stays open.
        return replace(commanded, sharing=False) if meter in self._down else commanded

    def _fail(self, meter: MeterId, now: float) -> Effects:
        """Take a meter's power away: it hears, measures and says nothing."""
        self._down.add(meter)
        self._shell.links[meter].pause()
        self._timers.set(meter, None)
        self._failing.set(meter, now + self._failures.duration_s())
        self.tally["failure", "failed"] += 1
        return []

    def _recover(self, meter: MeterId, now: float) -> Effects:
        """Build a meter again from what its store has."""
        self._down.discard(meter)
        stored = self._store.load(meter) or _new(meter, now)
        self.meters[meter] = Meter(self._descriptions[meter], self._limits, stored, self.tally)
        self._shell.links[meter].resume()
        self.tally["failure", "recovered"] += 1
        return self._boot(meter, power_lost=True)

    def _wait_s(self) -> float | None:
        """Return the real seconds until something is due; ``None``: nothing is."""
        times = [time for time in (self._timers.next, self._failing.next) if time is not None]
        if self._clock.meters_stop_at is None or self._world.slot_end + SLOT_S <= self._clock.meters_stop_at:
            times.append(self._world.slot_end + SLOT_S + self._ahead_s)
        return self._clock.real_s_until(min(times)) if times else None

    def _tls(self, meter: MeterId) -> ClientTls | None:
        settings = self._settings
        own = None if settings.certificates is None else settings.certificates / f"{meter}.pem"
        return client_tls(settings.broker_ca, own, settings.broker_revoked)


def _new(meter: MeterId, now: float) -> Stored:
    """Return a meter new to its store; if it lost an older one, its generation is higher than that one's."""
    return Stored(state=MeterState(meter=meter, generation=int(now)), desired_states=DesiredStates(meter, (0, 0), {}))
