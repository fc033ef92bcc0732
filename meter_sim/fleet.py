"""The shell of a fleet: every emulated meter of one microgrid on one asyncio loop (M1-M9, K2).

One worker feeds the cores and does what they return, in turns: what has arrived, what is due, at most one slot; then
one commit for the whole fleet; then what is to be published. Connections only put what arrives into a queue.
"""

import asyncio
import logging
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

from commonwatt.config.settings import MetersSettings
from commonwatt.device.changes import MeterState, Orders, Stored
from commonwatt.device.delivery import Tally
from commonwatt.device.desired_states import Commanded
from commonwatt.device.meter import Limits, Meter
from commonwatt.device.store import DeviceStore
from commonwatt.model.effects import Effect, Publish, Write, perform
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import State
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls, client_tls
from commonwatt.protocol import topics
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import Work
from commonwatt.town.town import Function, Microgrid, Town
from meter_sim.metrics import Figures
from meter_sim.physics import MicrogridPhysics
from meter_sim.truth import Change, has_slot, last_slot
from meter_sim.world import Failures, Timers, World

MAX_ARRIVED = 10_000
"""Messages waiting for the worker; more are dropped and counted, and their senders repeat them."""

CONNECT_EVERY_S = 0.005
"""Real seconds between the first connections of two meters."""

COMMIT_RETRY_S = 1.0
"""Real seconds until a commit is tried again, when the disk is full for example."""

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
        writing: The commit on its way, for a watchdog to see.
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
        self.writing = Work()
        self._settings = settings
        self._microgrid = microgrid
        self._clock = clock
        self._store = store
        self._limits = Limits(resolution=settings.resolution_mwh, log_records=settings.log_records)
        # Chance that anyone can repeat, not secrets; the connections' own, so that they don't change what fails when.
        seed = f"{town.table.seed}/{microgrid.id}"
        self._rng = random.Random(f"{seed}/links")  # noqa: S311
        self._failures = Failures(settings.failures_per_day, random.Random(f"{seed}/failures"))  # noqa: S311
        self._failing = Timers()
        self._down: set[MeterId] = set()
        self._timers = Timers()
        self._world = World(MicrogridPhysics(town, microgrid), microgrid, last_slot(store), clock.now())
        self._ahead_s = 0.0
        self._arrived: deque[tuple[MeterId, str, bytes]] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._fault: BaseException | None = None
        # One thread: a store is used by one at a time, and a commit must not hold up the connections.
        self._committer = ThreadPoolExecutor(1, "commit")
        self._descriptions = {m.id: m for m in microgrid.meters if m.function is not Function.FOREIGN}
        self._links = {meter: self._link(meter, settings.broker, tokens) for meter in self._descriptions}

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; everything measured is committed then."""
        self._stop = stop
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        try:
            await self._start(stop)
            tasks += [asyncio.create_task(self._connect(n, link)) for n, link in enumerate(self._links.values())]
            for task in tasks:
                task.add_done_callback(self._ended)
            while not stop.is_set():
                await self._perform(self._turn(self._clock.now()))
                await self._rest()
                if self._fault is not None:
                    raise self._fault
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._committer.shutdown()

    def _ended(self, task: asyncio.Task[object]) -> None:
        """Let the worker see that a task ended: it was told to stop, or a connection failed for a reason of ours."""
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._wake.set()

    def figures(self) -> Figures:
        """Return the fleet's figures now; safe to call from another thread, which only reads single values."""
        now = self._clock.now() - self._ahead_s
        if self._clock.meters_stop_at is not None:
            now = min(now, self._clock.meters_stop_at)
        meters = list(self.meters.values())
        links = self._links.values()
        return Figures(
            time=int(self._clock.now() - self._ahead_s),
            lag_s=round(max(0.0, now - self._world.slot_end - SLOT_S), 3),
            meters=len(self._links),
            connected=sum(link.connected for link in links),
            made=sum(meter.state.made for meter in meters),
            acknowledged=sum(meter.state.acknowledged for meter in meters),
            events_made=sum(meter.state.next_event - 1 for meter in meters),
            events_held=sum(len(meter.events.rows) for meter in meters),
            gaps=sum(meter.state.gaps for meter in meters),
            sharing=tuple(meter.description.id for meter in meters if meter.state.bits & State.SHARING),
            dropped=self._dropped + sum(link.dropped for link in links),
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
        await self._perform(effects)
        _log.info(
            "%s: %d meters, %d slots passed unmeasured",
            self._microgrid.id,
            len(self.meters),
            (self._world.slot_end - last) // SLOT_S,
        )

    async def _pass_unmeasured(self, stop: asyncio.Event) -> None:
        """Step the physics through the slots nobody measured, up to now, which goes on meanwhile."""
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
        for _ in range(len(self._arrived)):
            meter, leaf, payload = self._arrived.popleft()
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
        self._links[meter].pause()
        self._timers.set(meter, None)
        self._failing.set(meter, now + self._failures.duration_s())
        self.tally["failure", "failed"] += 1
        return []

    def _recover(self, meter: MeterId, now: float) -> Effects:
        """Build a meter again from what its store has."""
        self._down.discard(meter)
        stored = self._store.load(meter) or _new(meter, now)
        self.meters[meter] = Meter(self._descriptions[meter], self._limits, stored, self.tally)
        self._links[meter].resume()
        self.tally["failure", "recovered"] += 1
        return self._boot(meter, power_lost=True)

    async def _rest(self) -> None:
        """Wait until something arrives or is due."""
        times = [time for time in (self._timers.next, self._failing.next) if time is not None]
        if self._clock.meters_stop_at is None or self._world.slot_end + SLOT_S <= self._clock.meters_stop_at:
            times.append(self._world.slot_end + SLOT_S + self._ahead_s)
        wait_s = self._clock.real_s_until(min(times)) if times else None
        try:
            await asyncio.wait_for(self._wake.wait(), wait_s)
        except TimeoutError:
            return
        self._wake.clear()

    # What the cores want done.

    async def _perform(self, effects: Effects) -> None:
        await perform(effects, self._commit, self._publish)

    async def _commit(self, changes: list[Change]) -> None:
        """Commit in a thread of its own. While the disk is full nothing else happens, and nothing is lost."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                with self.writing.step():
                    return await loop.run_in_executor(self._committer, self._store.commit, changes)
            except sqlite3.OperationalError as error:
                if self._stop.is_set():
                    raise StoreError(f"{self._microgrid.id}: can't write the store: {error}") from error
                _log.warning("%s: can't write the store, trying again: %s", self._microgrid.id, error)
                self.tally["commit", "failed"] += 1
                await asyncio.sleep(COMMIT_RETRY_S)

    def _publish(self, message: Publish) -> None:
        topic = topics.parse_meter_up(message.topic)
        assert topic is not None
        self._links[topic.meter].publish(message)

    # Connections.

    def _link(self, meter: MeterId, broker: str, tokens: Mapping[str, str]) -> MqttLink:
        token = tokens.get(str(meter))
        if token is None:
            raise ConfigError(f"meter {meter} has no token; make the token file again: commonwatt utility register")

        def arrived(topic: str, payload: bytes) -> None:
            if len(self._arrived) >= MAX_ARRIVED:
                self._dropped += 1
                return
            self._arrived.append((meter, topic.rpartition("/")[2], payload))
            self._wake.set()

        return MqttLink(
            address=broker,
            identity=str(meter),
            token=token,
            subscribe=topics.meter_down(self._microgrid.id, meter, "+"),
            on_message=arrived,
            on_connect=lambda: None,
            rng=self._rng,
            tls=self._tls(meter),
        )

    def _tls(self, meter: MeterId) -> ClientTls | None:
        settings = self._settings
        own = None if settings.certificates is None else settings.certificates / f"{meter}.pem"
        return client_tls(settings.broker_ca, own, settings.broker_revoked)

    @staticmethod
    async def _connect(number: int, link: MqttLink) -> None:
        """Connect after those before, so that a fleet does not fall upon its broker all at once."""
        await asyncio.sleep(number * CONNECT_EVERY_S)
        await link.run()


def _new(meter: MeterId, now: float) -> Stored:
    """Return a meter new to its store; if it lost an older one, its generation is higher than that one's."""
    return Stored(state=MeterState(meter=meter, generation=int(now)), orders=Orders(meter, (0, 0), {}))
