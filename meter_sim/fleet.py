"""A fleet: every emulated meter of one microgrid on one asyncio loop (M1-M9, K2).

Its loop works in turns. It feeds the cores the received messages, the due timers and at most one slot; makes one commit
for the whole fleet; then publishes the messages (``commonwatt.device.shell``).
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from commonwatt.config.meters import MetersSettings
from commonwatt.device.changes import DesiredStates, MeterState, Stored
from commonwatt.device.delivery import Tally
from commonwatt.device.desired_states import Commanded
from commonwatt.device.meter import Limits, Meter
from commonwatt.device.shell import DeviceShell
from commonwatt.device.store import DeviceStore
from commonwatt.device.timers import Timers
from commonwatt.model.effects import Effect, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.return_delay import return_delay_s
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.network.tls import ClientTls, client_tls
from commonwatt.protocol.commands import Epoch, Held, Kind
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import Work
from commonwatt.town.town import Function, Microgrid, Town
from meter_sim.faults import FaultsFile, path_of
from meter_sim.metrics import Figures
from meter_sim.physics.microgrid import Grid, MicrogridPhysics, Step
from meter_sim.switch import BoundarySwitch
from meter_sim.truth import Change, has_slot, last_slot
from meter_sim.world import Failures, World

SLEW_S = 1.5
"""Change of a slot's length while the fleet's clock is slewed to the gateway's time, seconds."""

SLEW_AT_MOST_S = 60
"""A larger clock error is corrected at once. Ahead: slot by slot; back: slots already recorded stay as they are."""

_STEPS_AT_ONCE = 50

_log = logging.getLogger(__name__)

Effects = list[Effect[Change]]


class Fleet:
    """The emulated meters of a microgrid, their connections and the physics behind them.

    Attributes:
        meters: The cores by id; after a failure the old core stays until it is built again from the store.
        tally: Event counts of all meters, by kind and result.
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
        # Reproducible random numbers, not secrets. Connections have their own, so that they don't change the failures.
        seed = f"{town.table.seed}/{microgrid.id}"
        rng = random.Random(f"{seed}/links")  # noqa: S311
        self._failures = Failures(settings.failures_per_day, random.Random(f"{seed}/failures"))  # noqa: S311
        self._failing = Timers()
        self._down: set[MeterId] = set()
        self._timers = Timers()
        self._world = World(MicrogridPhysics(town, microgrid), microgrid, last_slot(store), clock.now())
        self._ahead_s = 0.0
        self._descriptions = {m.id: m for m in microgrid.meters if m.emulated}
        self._boundary = {m.id for m in microgrid.meters if m.emulated and m.function is Function.BOUNDARY}
        self._faults = FaultsFile(path_of(settings.store))
        self._switch = BoundarySwitch(0, is_open=False)
        self._shell = DeviceShell(microgrid.id, store, self.tally)
        for meter in self._descriptions:
            token = tokens.get(str(meter))
            if token is None:
                raise ConfigError(f"meter {meter} has no token; write a new token file: commonwatt utility register")
            self._shell.add(meter, broker=settings.broker, token=token, tls=self._tls(meter), rng=rng)

    @property
    def writing(self) -> Work:
        """The commit in progress, for the watchdog."""
        return self._shell.writing

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; all measured slots are committed when it returns."""
        try:
            await self._start(stop)
            async with self._shell.running(stop):
                while not stop.is_set():
                    await self._shell.perform(self._turn(self._clock.now()))
                    await self._shell.rest(self._wait_s())
        finally:
            self._shell.close()

    def figures(self) -> Figures:
        """Return the fleet's present figures; safe in any thread, since it only reads single values."""
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
        """Load the meters, skip the slots since the last recorded one without measuring, and boot the meters."""
        now = self._clock.now()
        for meter, description in self._descriptions.items():
            stored = self._store.load(meter) or _new(meter, now)
            self.meters[meter] = Meter(description, self._limits, stored, self.tally)
        was_open = any(self.meters[meter].state.bits & State.SWITCH_OPEN for meter in self._boundary)
        delay_s = return_delay_s(self._microgrid.id, is_public=self._microgrid.kind == "public")
        self._switch = BoundarySwitch(delay_s, is_open=was_open)
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
        """Step the physics through the unmeasured slots up to the present time."""
        self._world.skip_to(self._last_moment())
        steps = 0
        while self._world.slot_end + SLOT_S <= self._last_moment() and not stop.is_set():
            self._step({})
            steps += 1
            if steps % _STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _last_moment(self) -> EpochSeconds:
        """Return the present time, or the time at which the meters stop if that is earlier."""
        now = int(self._clock.now() - self._ahead_s)
        return now if self._clock.meters_stop_at is None else min(now, self._clock.meters_stop_at)

    def _told_s(self) -> float:
        """Return the lag of the fleet's clock behind the gateway's time: the median of the offsets sent to meters."""
        told = [meter.state.offset_s for meter in self.meters.values() if meter.state.trust]
        return median(told) if told else 0.0

    def _keep_time(self) -> Effects:
        """Correct the clock that slots are measured by, if it is wrong by more than ``SLEW_AT_MOST_S``."""
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
        # After the last slot the meters only deliver: they don't fail any more.
        self._failing.set(meter, None if fails_at is None or (stop_at and fails_at >= stop_at) else fails_at)
        return effects

    # A turn.

    def _turn(self, now: float) -> Effects:
        """Feed the cores all received messages and due timers, and one slot."""
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
        """Step the physics by one slot and measure it; a late fleet makes every slot, in order."""
        at = self._world.slot_end
        step = self._step({meter: self._commanded(meter, core, at) for meter, core in self.meters.items()})
        effects: Effects = [Write(self._world.slot(step))]
        for meter in self._boundary - self._down:
            effects += self.meters[meter].sense(self._switch.bits, self._clock.now())
            self._timers.set(meter, self.meters[meter].wake_at)
        # Slew the clock by a part of this slot, so that no slot is lost or comes twice.
        self._ahead_s += max(-SLEW_S, min(SLEW_S, -self._ahead_s - self._told_s()))
        if has_slot(self._store, self._world.slot_end):
            return effects  # recorded while the clock was ahead; a slot is recorded once
        for meter, core in self.meters.items():
            if meter not in self._down:
                effects += core.measure(self._world.slot_end, step.readings[meter])
        return effects

    def _step(self, commanded: Mapping[MeterId, Commanded]) -> Step:
        """Step the boundary switch, then the physics, by one slot."""
        at = self._world.slot_end
        voltage = at >= self._faults.read().feeder_dead_until
        held = [self.meters[meter].desired_states.held.get(Kind.ISOLATED) for meter in self._boundary]
        self._switch.step(voltage=voltage, held=max(filter(None, held), key=_pair, default=None), at=at)
        switch = dict.fromkeys(self._boundary, Commanded(isolated=self._switch.is_open))
        return self._world.step({**commanded, **switch}, Grid(voltage=voltage))

    def _commanded(self, meter: MeterId, core: Meter, at: EpochSeconds) -> Commanded:
        commanded = core.commanded(at)
        # Without its meter a battery shares nothing; an open switch stays open.
        return replace(commanded, sharing=False) if meter in self._down else commanded

    def _fail(self, meter: MeterId, now: float) -> Effects:
        """Cut a meter's power: it receives, measures and sends nothing."""
        self._down.add(meter)
        self._shell.links[meter].pause()
        self._timers.set(meter, None)
        self._failing.set(meter, now + self._failures.duration_s())
        self.tally["failure", "failed"] += 1
        return []

    def _recover(self, meter: MeterId, now: float) -> Effects:
        """Build a meter again from its stored state."""
        self._down.discard(meter)
        stored = self._store.load(meter) or _new(meter, now)
        self.meters[meter] = Meter(self._descriptions[meter], self._limits, stored, self.tally)
        self._shell.links[meter].resume()
        self.tally["failure", "recovered"] += 1
        return self._boot(meter, power_lost=True)

    def _wait_s(self) -> float | None:
        """Return the real seconds until the next slot, timer or failure; ``None``: none is due."""
        times = [time for time in (self._timers.next, self._failing.next) if time is not None]
        if self._clock.meters_stop_at is None or self._world.slot_end + SLOT_S <= self._clock.meters_stop_at:
            times.append(self._world.slot_end + SLOT_S + self._ahead_s)
        return self._clock.real_s_until(min(times)) if times else None

    def _tls(self, meter: MeterId) -> ClientTls | None:
        settings = self._settings
        own = None if settings.certificates is None else settings.certificates / f"{meter}.pem"
        return client_tls(settings.broker_ca, own, settings.broker_revoked)


def _pair(held: Held) -> tuple[Epoch, int]:
    return held.epoch, held.seq


def _new(meter: MeterId, now: float) -> Stored:
    """Return the state of a meter that is new in the store; its generation is higher than in any store lost before."""
    return Stored(state=MeterState(meter=meter, generation=int(now)), desired_states=DesiredStates(meter, (0, 0), {}))
