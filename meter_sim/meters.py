"""The emulated meters of one microgrid: cores, connections, store, own batteries (M1-M9, K2).

They work in turns. A turn feeds the cores the received messages, the due timers and at most one slot of the world;
makes one commit for the whole microgrid; then publishes the messages (``commonwatt.device.shell``).
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from commonwatt.clique.cliques import installed, warm_meters
from commonwatt.clique.revocation import check_of
from commonwatt.config.meters import InstalledBroker, MetersSettings
from commonwatt.device.changes import Description, new_meter, under_token
from commonwatt.device.commands import Commanded
from commonwatt.device.meter import MeterCore, MeterLimits, Timers
from commonwatt.device.records import Tally
from commonwatt.device.sessions import Brokers, MeterBroker, Sessions
from commonwatt.device.shell import DeviceShell, OtherBroker
from commonwatt.device.store import DeviceStore
from commonwatt.identity.devices import broker_token, digest
from commonwatt.model.control import return_delay_s
from commonwatt.model.effects import Effect, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import State
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MilliwattHours
from commonwatt.network.tls import meter_tls
from commonwatt.protocol.commands import Kind
from commonwatt.runtime.watchdog import WorkProgress
from commonwatt.town.town import Function, Microgrid
from meter_sim.faults import (
    BoundarySwitch,
    FalseReadings,
    Faults,
    FaultsFile,
    KeptSwitch,
    MeterFault,
    newest,
    percent_at,
)
from meter_sim.fleet_clock import FleetClock
from meter_sim.metrics import FleetFigures
from meter_sim.physics import Circumstances, PhysicsStep
from meter_sim.store import FleetChange, Slot, cold_places, dark_since, has_slot, kept_switch, last_slot
from meter_sim.world import Failures

RUNS_S = 48 * 3600
"""Seconds for which a meter runs without voltage. When the voltage returns, its battery is full at once."""


class Backup:
    """Since when meters have had no voltage."""

    def __init__(self, since: Mapping[MeterId, EpochSeconds]) -> None:
        self.since = dict(since)  # the beginning of the first slot without voltage, by meter; absent: it has voltage

    def step(self, at: EpochSeconds, dark: Collection[MeterId]) -> bool:
        """Take the meters without voltage in the slot that starts at ``at``; return whether anything changed."""
        if self.since.keys() == set(dark):
            return False
        self.since = {meter: self.since.get(meter, at) for meter in dark}
        return True

    def dead(self, at: EpochSeconds) -> frozenset[MeterId]:
        """Return the meters that are dead in the slot that starts at ``at``."""
        return frozenset(meter for meter, since in self.since.items() if at - since >= RUNS_S)


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A slot of the world that the meters measure."""

    slot_end: EpochSeconds  # end of the slot
    step: PhysicsStep  # what happened in it
    bits: State  # what the boundary's meters sense
    dead: frozenset[MeterId]  # meters whose own battery is empty
    dark: Mapping[MeterId, EpochSeconds] | None  # since when meters have had no voltage, if that changed
    switch: KeptSwitch  # what the boundary switch keeps
    faults: Mapping[str, MeterFault]  # faults of meters
    cut: bool  # whether no meter reaches its controller


# Most slots that wait for a store which can't be written: a day. Of more, the oldest are lost, and counted.
MAX_WAITING = 86_400 // SLOT_S
LOSS = 1 / 3  # part of the messages that a lossy network loses
STUCK_AFTER_S = 1.0  # real seconds of a commit after which the other microgrids do not wait for this one

_log = logging.getLogger(__name__)

Effects = list[Effect[FleetChange]]


class MicrogridMeters:
    """The emulated meters of a microgrid."""

    def __init__(
        self,
        *,
        settings: MetersSettings,
        microgrid: Microgrid,
        seed: int,
        tokens: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
        clock: FleetClock,
        store: DeviceStore,
        tally: Tally,
        faults: FaultsFile | None = None,
    ) -> None:
        """Take its settings; ``faults``: of this microgrid alone."""
        # The cores by id; after a failure the old core stays until it is built again from the store.
        self.meters: dict[MeterId, MeterCore] = {}
        self._sessions: dict[MeterId, Sessions] = {}
        self.tally = tally  # event counts of all meters, by kind and result
        self.last = last_slot(store)  # the last slot in the store at the start; ``None`` in a new store
        self.cold = cold_places(store)  # for how long places were still cold then (``PhysicsStep.cold``)
        self.slot_end: EpochSeconds = 0  # end of the last slot of the meters
        self._start = Slot(0, {})
        self._settings = settings
        self._microgrid = microgrid
        self._clock = clock
        self._store = store
        self._limits = MeterLimits(resolution=settings.resolution_mwh, log_records=settings.log_records)
        # Reproducible random numbers, not secrets. Connections have their own, so that they don't change the failures.
        rng = random.Random(f"{seed}/{microgrid.id}/links")  # noqa: S311
        self._failures = Failures(
            settings.failures_per_day,
            random.Random(f"{seed}/{microgrid.id}/failures"),  # noqa: S311
        )
        self._failing = Timers()
        self._down: set[MeterId] = set()
        self._timers = Timers()
        self._waiting: deque[Passed | EpochSeconds] = deque()
        self._busy_since: float | None = None
        self._descriptions = {m.id: m for m in microgrid.meters if m.emulated}
        self._digests: dict[MeterId, str] = {}
        self._boundary = {m.id for m in microgrid.meters if m.emulated and m.function is Function.BOUNDARY}
        self._faults = faults
        self._wrong: Mapping[str, MeterFault] = {}
        self._cut = False
        self._lossy_until: EpochSeconds = 0
        self._backup = Backup(dark_since(store))
        self._false = FalseReadings()
        self._dead: frozenset[MeterId] = frozenset()
        self._silent: frozenset[MeterId] = frozenset()
        self._delay_s = partial(return_delay_s, microgrid.id, is_public=microgrid.kind == "public")
        self._switch = BoundarySwitch(self._delay_s, KeptSwitch(is_open=False))
        self._written: KeptSwitch | None = None
        self._shell = DeviceShell(microgrid.id, store, self.tally)
        self._shell.loses = self._loses
        self._losses = random.Random(f"{seed}/{microgrid.id}/losses")  # noqa: S311
        self._is_signed = check_of(settings.authority)
        self._home = MeterBroker(name=microgrid.id, rank=settings.broker_rank)
        inside = {i: meter.battery is not None for i, meter in self._descriptions.items() if i not in self._boundary}
        self._warm = frozenset(warm_meters(inside))
        self._install(tokens, secrets or {}, rng)

    def _install(self, tokens: Mapping[str, str], secrets: Mapping[str, str], rng: random.Random) -> None:
        """Give each meter its brokers, with its token at each."""
        settings = self._settings
        for meter in self._descriptions:
            token = tokens.get(str(meter))
            if token is None:
                raise ConfigError(f"meter {meter} has no token; write a new token file: commonwatt utility register")
            self._digests[meter] = digest(token.encode())
            others = self._others(meter, secrets)
            far = bool(others.keys() - set(settings.clique or others))
            tls = meter_tls(settings.broker_ca, settings.certificates, meter, settings.broker_revoked)
            self._shell.add(meter, broker=settings.broker, token=token, tls=tls, rng=rng, others=others, far=far)

    def _others(self, meter: MeterId, secrets: Mapping[str, str]) -> dict[str, OtherBroker]:
        """Return a meter's further brokers, with its tokens there."""
        if len(self._brokers_of(meter)) == 1:
            return {}
        if (secret := secrets.get(str(meter))) is None:
            raise ConfigError(f"meter {meter} has no secret of brokers; write the files: commonwatt utility register")
        return {b.name: OtherBroker(b.address, broker_token(secret, b.name), b.warm) for b in self._further(meter)}

    def _brokers_of(self, meter: MeterId) -> list[MeterBroker]:
        """Return a meter's brokers; the boundary's are a part of the controller's place, and have it alone."""
        is_warm = meter in self._warm
        further = (MeterBroker(name=b.name, rank=b.rank, warm=b.warm and is_warm) for b in self._further(meter))
        return [self._home, *further]

    def _further(self, meter: MeterId) -> list[InstalledBroker]:
        every = {b.name: b for b in self._settings.brokers}
        clique = self._settings.clique or tuple(every)
        mine = installed((self._home.name, *(n for n in clique if n in every)), tuple(every), meter)
        return [] if meter in self._boundary else [every[name] for name in mine if name in every]

    @property
    def writing(self) -> WorkProgress:
        """The commit in progress, for the watchdog."""
        return self._shell.writing

    @property
    def waiting(self) -> int:
        """Slots that wait; 0 while a commit fails or hangs, so that no other microgrid waits for this one."""
        stuck = self._busy_since is not None and _real_time() - self._busy_since > STUCK_AFTER_S
        return 0 if stuck else len(self._waiting)

    @property
    def offsets_s(self) -> Iterable[float]:
        """The offsets of the gateway's time that meters received."""
        return (meter.state.offset_s for meter in self.meters.values() if meter.state.trust)

    def load(self) -> None:
        """Load the meters from the store."""
        now = self._clock.machine()
        for meter, description in self._descriptions.items():
            self._build(meter, description, now)
        was_open = any(self.meters[meter].state.bits & State.SWITCH_OPEN for meter in self._boundary)
        self._switch = BoundarySwitch(self._delay_s, kept_switch(self._store) or KeptSwitch(was_open))

    def start_after(self, slot_end: EpochSeconds, levels: dict[MeterId, MilliwattHours]) -> None:
        """Start after the slots up to ``slot_end`` passed unmeasured."""
        self.slot_end = slot_end
        self._written = self._switch.kept
        self._start = Slot(slot_end, levels, dark=dict(self._backup.since), switch=self._written)

    async def boot(self) -> None:
        """Boot the meters."""
        effects: Effects = [Write(self._start)]
        slot_end = self._start.slot_end
        self._dead = self._backup.dead(slot_end)
        self._connect(self._dead)
        for meter, core in self.meters.items():
            if meter not in self._dead:
                effects += self._boot(meter, power_lost=core.state.last_slot < slot_end)
        await self._shell.perform(effects)
        passed = 0 if self.last is None else max(0, slot_end - self.last.slot_end) // SLOT_S
        _log.info("%s: %d meters, %d slots passed unmeasured", self._microgrid.id, len(self.meters), passed)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; all measured slots are committed when it returns.

        Raises:
            StoreError: The store can't be read or written.
        """
        async with self._shell.running(stop):
            self._busy_since = _real_time()
            await self.boot()
            effects: Effects = []
            while not stop.is_set():
                self._busy_since = _real_time()
                with self._store.reading():
                    effects += self.turn(self._clock.machine())
                # A meter that is down is built again from the store.
                if self._down or not _can_wait(effects):
                    await self._shell.perform(effects)
                    effects = []
                self._busy_since = None
                await self._shell.rest(self._wait_s())
            await self._shell.perform(effects)

    def close(self) -> None:
        """Close the store; the meters do not run any more."""
        self._store.close()

    def figures(self) -> FleetFigures:
        """Return the present figures; safe in any thread, since it only reads single values."""
        meters = list(self.meters.values())
        by_meter = [list(each.values()) for each in list(self._shell.links.values())]
        links = [link for each in by_meter for link in each]
        return FleetFigures(
            time=int(self._clock.time()),
            lag_s=self._clock.lag_s(self.slot_end),
            meters=len(self._shell.links),
            connected=sum(any(link.connected for link in each) for each in by_meter),
            made=sum(meter.state.made for meter in meters),
            acknowledged=sum(meter.state.acknowledged for meter in meters),
            events_made=sum(meter.state.next_event - 1 for meter in meters),
            events_held=sum(len(meter.events.rows) for meter in meters),
            gaps=sum(meter.state.gaps for meter in meters),
            # The boundary's meters have the voltage of both sides.
            dark=bool(self._boundary) and self._boundary <= self._backup.dead(self.slot_end),
            sharing=tuple(meter.description.id for meter in meters if meter.state.bits & State.SHARING),
            dropped=self._shell.dropped + sum(link.dropped for link in links),
            retained=sum(link.retained for link in links),
            without_broker=sum(each.brokers.are_all_left for each in list(self._sessions.values())),
        )

    # The world.

    def circumstances(
        self, at: EpochSeconds, around: Circumstances, shared: Faults, *, measured: bool
    ) -> Circumstances:
        """Step the boundary switch; return what holds for the microgrid in the slot that starts at ``at``.

        Args:
            at: Start of the slot.
            around: What is outside the microgrid.
            shared: The faults of all microgrids of the fleet.
            measured: Whether the meters are up, and execute commands.
        """
        own = Faults() if self._faults is None else self._faults.read()
        self._wrong = {**shared.meters, **own.meters}
        self._cut = at < max(own.lte_dead_until, shared.lte_dead_until)
        self._lossy_until = max(own.lte_lossy_until, shared.lte_lossy_until)
        voltage = around.voltage and at >= own.feeder_dead_until
        held = [self.meters[meter].desired_states.held.get(Kind.ISOLATED) for meter in self._boundary]
        self._switch.step(voltage=voltage, held=newest(held), at=at)
        cores = self.meters.items() if measured else ()
        dead = self._down | self._backup.dead(at)
        commanded = {meter: _commanded(core, at, is_up=meter not in dead) for meter, core in cores}
        for meter in self._boundary:
            commanded[meter] = replace(commanded.get(meter, Commanded()), isolated=self._switch.is_open)
        return replace(
            around,
            voltage=voltage,
            sun_percent=percent_at(own.sun, at) * around.sun_percent // 100,
            demand_percent=percent_at(own.demand, at) * around.demand_percent // 100,
            commanded=commanded,
        )

    def happened(self, slot_end: EpochSeconds, step: PhysicsStep, *, measured: bool) -> None:
        """Queue a slot for the meters; of an unmeasured one, only note where the voltage was gone."""
        changed = self._backup.step(slot_end - SLOT_S, step.dark)
        if not measured:
            return
        if len(self._waiting) >= MAX_WAITING:
            if not self.tally["slot", "lost"]:
                _log.error("%s: the store can't be written for a day; the oldest slots are lost", self._microgrid.id)
            self.tally["slot", "lost"] += 1
            self._waiting.popleft()
        self._waiting.append(
            Passed(
                slot_end=slot_end,
                step=step,
                bits=self._switch.bits,
                dead=self._backup.dead(slot_end - SLOT_S),
                dark=dict(self._backup.since) if changed else None,
                switch=self._switch.kept,
                faults=self._wrong,
                cut=self._cut,
            )
        )
        self._shell.wake()

    def set_back(self, slot_end: EpochSeconds) -> None:
        """Continue after this slot, since the fleet's clock was ahead."""
        self._waiting.append(slot_end)
        self._shell.wake()

    # A turn.

    def turn(self, now: float) -> Effects:
        """Feed the cores all received messages and due timers, and one slot."""
        effects: Effects = []
        for meter in self._failing.due(now):
            effects += self._recover(meter, now) if meter in self._down else self._fail(meter, now)
        for arrived in self._shell.take():
            if arrived.meter not in self._down and arrived.meter not in self._dead:
                effects += self._sessions[arrived.meter].handle(arrived, now)
                self._fed(arrived.meter)
        if self._waiting:
            effects += self._slot(self._waiting.popleft())
        for meter in self._timers.due(now):
            if meter not in self._down and meter not in self._dead:
                effects += self._sessions[meter].tick(now)
                self._fed(meter)
        return effects

    def _slot(self, passed: Passed | EpochSeconds) -> Effects:
        """Measure a slot; a late fleet measures every slot, in order."""
        if isinstance(passed, EpochSeconds):
            self.slot_end = passed
            return [e for meter in self.meters.values() for e in meter.set_back(passed)]
        self.slot_end, at = passed.slot_end, passed.slot_end - SLOT_S
        switch = None if passed.switch == self._written else passed.switch
        self._written = passed.switch
        effects: Effects = [Write(Slot(passed.slot_end, passed.step.levels, passed.step.energy(), passed.dark, switch))]
        effects += self._die_and_return(passed.dead)
        self._be_silent(passed, at)
        off = self._down | self._dead
        for meter in self._boundary - off:
            sessions = self._sessions[meter]
            effects += sessions.routed(sessions.meter.sense(passed.bits, self._clock.machine()))
            self._timers.set(meter, sessions.wake_at)
        if has_slot(self._store, passed.slot_end):
            return effects  # recorded while the clock was ahead; a slot is recorded once
        for meter, core in self.meters.items():
            if meter not in off:
                fault = passed.faults.get(str(meter))
                readings = self._false.of(meter, passed.step.readings[meter], fault, at)
                effects += self._sessions[meter].routed(core.measure(passed.slot_end, readings))
        return effects

    # Power.

    def _boot(self, meter: MeterId, *, power_lost: bool) -> Effects:
        now = self._clock.machine()
        effects: Effects = [*self.meters[meter].boot(now, power_lost=power_lost)]
        self._fed(meter)
        fails_at = self._failures.next_after(now)
        stop_at = self._clock.stop_at
        # After the last slot the meters only deliver: they don't fail any more.
        self._failing.set(meter, None if fails_at is None or (stop_at and fails_at >= stop_at) else fails_at)
        return effects

    def _fail(self, meter: MeterId, now: float) -> Effects:
        """Cut a meter's power: it receives, measures and sends nothing."""
        self._down.add(meter)
        self._timers.set(meter, None)
        self._failing.set(meter, now + self._failures.duration_s())
        self._connect([meter])
        self.tally["failure", "failed"] += 1
        return []

    def _recover(self, meter: MeterId, now: float) -> Effects:
        """Build a meter again from its stored state."""
        self._down.discard(meter)
        self._build(meter, self._descriptions[meter], now)
        self._connect([meter])
        self.tally["failure", "recovered"] += 1
        return self._boot(meter, power_lost=True)

    def _build(self, meter: MeterId, description: Description, now: float) -> None:
        """Build a meter from its stored state."""
        stored = under_token(self._store.load(meter) or new_meter(meter, now), self._digests[meter])
        core = self.meters[meter] = MeterCore(description, self._limits, stored, self.tally)
        installed = self._brokers_of(meter)
        clique = self._settings.clique if len(installed) > 1 else ()
        brokers = Brokers(meter, installed, clique, stored.order, stored.revoked)
        self._sessions[meter] = Sessions(core, brokers, self._is_signed)

    def _fed(self, meter: MeterId) -> None:
        """Set a meter's timer, and hold its sessions, after it was fed."""
        self._timers.set(meter, self._sessions[meter].wake_at)
        self._connect([meter])

    def _die_and_return(self, dead: frozenset[MeterId]) -> Effects:
        """Switch off the meters whose own battery is empty, and boot those whose place has voltage again (T9)."""
        died, returned = dead - self._dead, self._dead - dead
        self._dead = dead
        for meter in died:
            self._down.discard(meter)
            self._timers.set(meter, None)
            self._failing.set(meter, None)
            self.tally["failure", "battery_empty"] += 1
        self._connect(died)
        return [effect for meter in sorted(returned) for effect in self._recover(meter, self._clock.machine())]

    def _be_silent(self, passed: Passed, at: EpochSeconds) -> None:
        """Cut the connections of silent meters, or of all while the LTE is cut."""
        faults = passed.faults.items()
        silent = frozenset(int(meter) for meter, fault in faults if fault.what == "silent" and at < fault.until)
        silent = frozenset(self.meters) if passed.cut else silent & self.meters.keys()
        changed, self._silent = silent ^ self._silent, silent
        self._connect(changed)

    def _loses(self) -> bool:
        """Whether a message to or from a meter is lost now."""
        return self.slot_end < self._lossy_until and self._losses.random() < LOSS

    def _connect(self, meters: Iterable[MeterId]) -> None:
        """Connect meters, or cut the connections of those that are off or silent."""
        for meter in meters:
            is_cut = meter in self._down or meter in self._dead or meter in self._silent
            self._shell.hold(meter, () if is_cut else self._sessions[meter].brokers.sessions)

    def _wait_s(self) -> float | None:
        """Return the real seconds until the next slot, timer or failure; ``None``: none is due."""
        if self._waiting:
            return 0.0
        times = [time for time in (self._timers.next, self._failing.next) if time is not None]
        return self._clock.real_s_until(min(times)) if times else None


def _commanded(core: MeterCore, at: EpochSeconds, *, is_up: bool) -> Commanded:
    """Return a place's desired states: without its meter a battery shares nothing; an open switch stays open."""
    commanded = core.commanded(at)
    return commanded if is_up else replace(commanded, sharing=False)


def _can_wait(effects: Effects) -> bool:
    """Whether all changes may wait for the next commit: nobody is told of them, and no slot is among them."""
    return all(isinstance(effect, Write) and not isinstance(effect.change, Slot) for effect in effects)


def _real_time() -> float:
    return asyncio.get_running_loop().time()
