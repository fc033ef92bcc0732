"""The meters of one microgrid in a simulated world: ``meter_sim.fleet`` without sockets, physics and threads."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commonwatt.device.changes import DesiredStates, MeterChange, MeterState, StoredMeter
from commonwatt.device.meter import Effects, MeterCore, MeterLimits, Timers
from commonwatt.device.shell import COMMIT_RETRY_S, MAX_ARRIVED
from commonwatt.device.store import DeviceStore, open_store
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, MeterId, MilliwattHours
from commonwatt.protocol.commands import Command
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, parse_meter_up
from commonwatt.town.town import Meter as Description
from harness.world.network import Broker, Link, device
from harness.world.node import Node
from meter_sim.store import TRUTH

if TYPE_CHECKING:
    from harness.world.world import World


class Fleet(Node[MeterChange]):
    """A microgrid's meters, in one process and one store."""

    world: "World"
    max_waiting = MAX_ARRIVED

    def __init__(
        self, world: "World", microgrid: str, meters: Sequence[Description], broker: Broker, log_records: int
    ) -> None:
        super().__init__(world, f"{microgrid}-m")
        self.meters: dict[MeterId, MeterCore] = {}  # the cores
        self.microgrid = microgrid
        self.off: set[MeterId] = set()  # meters without power
        self.ahead: Counter[MeterId] = Counter()  # error of each meter's own clock; whole slots
        self._stuck: Sequence[Effect[MeterChange]] = ()
        self.store: DeviceStore  # the store, which outlives a crash
        self.open_store()
        self.limits = MeterLimits(resolution=1, log_records=log_records)  # the meters' limits
        self._descriptions = {meter.id: meter for meter in meters}
        self.links_of = {meter.id: self.make_links(meter.id, broker) for meter in meters}  # each meter's
        self.links = [link for links in self.links_of.values() for link in links]
        self._slot_end = world.clock() // SLOT_S * SLOT_S
        self._timers = Timers()
        self._wake_at: float | None = None

    def make_links(self, meter: MeterId, broker: Broker) -> list[Link]:
        """Return the links of a meter."""
        return [Link(self.world, str(meter), self, broker, device(str(meter), DeviceRole.METER, self.microgrid))]

    def build(self) -> None:
        """Load every meter."""
        self.off.clear()
        self._stuck = ()
        self._timers = Timers()
        self.meters = {meter: self.load(meter) for meter in self._descriptions}

    def load(self, meter: MeterId) -> MeterCore:
        """Return a meter as it is in the store."""
        fresh = StoredMeter(
            state=MeterState(meter=meter, generation=int(self.now(meter))),
            desired_states=DesiredStates(meter, (0, 0), {}),
        )
        return MeterCore(self._descriptions[meter], self.limits, self.store.load(meter) or fresh, Counter())

    def started(self) -> None:
        """Boot every meter; the time since its last slot was not measured."""
        self._slot_end = self._last_moment() // SLOT_S * SLOT_S
        self._wake_at = None
        effects: Effects = []
        for core in self.meters.values():
            meter = core.description.id
            effects += self._boot(core, power_lost=core.state.last_slot < self._slot_end + self.ahead[meter])
        self.perform(effects)
        self._arm()

    def _boot(self, core: MeterCore, *, power_lost: bool) -> Effects:
        effects = core.boot(self.now(core.description.id), power_lost=power_lost)
        self._set_timer(core)
        return effects

    def now(self, meter: MeterId) -> float:
        """Return a meter's own time."""
        return self.world.time + self.ahead[meter]

    def _set_timer(self, core: MeterCore) -> None:
        meter, at = core.description.id, self.wake_at(core)
        self._timers.set(meter, None if at is None else at - self.ahead[meter])

    def wake_at(self, core: MeterCore) -> float | None:
        """Return when a meter's next tick is due, by its own time."""
        return core.wake_at

    def feed(self, core: MeterCore, topic: str, payload: bytes, now: float) -> Effects:
        """Let a meter handle a message."""
        return core.receive(topic.rpartition("/")[2], payload, now)

    def tick(self, core: MeterCore, now: float) -> Effects:
        """Let a meter do what is due."""
        return core.tick(now)

    def account(self, meter: MeterId) -> int:
        """Return the account of a meter."""
        return self._descriptions[meter].account

    @property
    def measures_until(self) -> float:
        """The end of the last slot."""
        return self.world.measure_until

    def _last_moment(self) -> int:
        return int(min(self.world.clock(), self.measures_until))

    def open_store(self) -> None:
        self.store = open_store(self.disk.folder / "meters.db", TRUTH)

    def close_store(self) -> None:
        self.store.close()

    # Faults of one meter.

    def jump_one(self, meter: MeterId, ahead: int) -> None:
        """Let a meter's clock jump while it runs."""
        if self.up and ahead != self.ahead[meter]:
            self.world.tell(self.name, f"the clock of meter {meter} JUMPS, its error is {ahead} s")
            self.ahead[meter] = ahead
            if meter not in self.off:
                self._set_timer(self.meters[meter])
                self._arm()

    def fail(self, meter: MeterId, for_s: float) -> None:
        """Switch a meter's power off."""
        if self.up and not self._stuck and meter not in self.off:
            self.world.tell(self.name, f"meter {meter} OFF for {for_s:.0f} s")
            self.off.add(meter)
            self._timers.set(meter, None)
            for link in self.links_of[meter]:
                link.disconnect()
            self.later(for_s, lambda: self._recover(meter))

    def _recover(self, meter: MeterId) -> None:
        if self._stuck:
            self.later(COMMIT_RETRY_S, lambda: self._recover(meter))
            return
        self.off.discard(meter)
        self.meters[meter] = self.load(meter)
        self.world.tell(self.name, f"meter {meter} on")
        for link in self.links_of[meter]:
            link.reconnect()
        self.perform(self._boot(self.meters[meter], power_lost=True))
        self._arm()

    def forget(self, meter: MeterId) -> None:
        """Let a meter lose all its memory; losing data that only the meter had is no violation."""
        if not self.up or self._stuck or self.disk.full or meter in self.off:
            return
        self.world.tell(self.name, f"meter {meter} LOSES ITS MEMORY")
        with self.store.connection as db:
            for table in ("meter", "orders", "record"):
                db.execute(f"DELETE FROM {table} WHERE meter = ?", (meter,))
        self.world.ledger.lost_memory(meter)
        self.meters[meter] = self.load(meter)
        self.perform(self._boot(self.meters[meter], power_lost=True))
        self._arm()

    # A turn.

    def work(self) -> None:
        """Handle messages, one slot and due timers, commit once, then publish; do nothing while a commit is retried."""
        if self._stuck:
            return
        effects = Effects()
        self.waiting, arrived = [], self.waiting
        for name, topic, payload in arrived:
            if name and int(name) not in self.off:
                meter, leaf = int(name), topic.rpartition("/")[2]
                now = self.now(meter)
                core = self.meters[meter]
                command = _command(payload) if leaf == COMMANDS else None
                before, time = dict(core.desired_states.held), int(core.time(now))
                effects += self.feed(core, topic, payload, now)
                if command is not None:
                    self.world.ledger.commanded(core, command, before=before, time=time, now=now)
                self._set_timer(core)
        if self._slot_end + SLOT_S <= self._last_moment():
            self._slot_end += SLOT_S
            effects += self.measured()
        for meter in self._timers.due(self.world.time):
            effects += self.tick(self.meters[meter], self.now(meter))
            self._set_timer(self.meters[meter])
        self.perform(effects)
        for meter, core in self.meters.items():
            if meter not in self.off:
                self.world.ledger.check_meter(core, self.now(meter))
        self._arm()

    def measured(self) -> Effects:
        """Measure the slot that ended."""
        return [
            effect
            for meter, core in self.meters.items()
            if meter not in self.off
            for effect in core.measure(self._slot_end + self.ahead[meter], readings(meter, self._slot_end))
        ]

    def _arm(self) -> None:
        """Wake at the end of the slot, or at the first timer of a core."""
        wake_at = self._timers.next
        if self._slot_end + SLOT_S <= self.measures_until:
            wake_at = min(self._slot_end + SLOT_S, self._slot_end + SLOT_S if wake_at is None else wake_at)
        if wake_at is not None and (self._wake_at is None or wake_at < self._wake_at):
            self._wake_at = wake_at
            self.later(max(0.0, wake_at - self.world.time), lambda: self._wake(wake_at))

    def _wake(self, wake_at: float) -> None:
        if self._wake_at == wake_at:
            self._wake_at = None
            self.put_in("")

    def perform(self, wanted: Sequence[Effect[MeterChange]]) -> None:
        """Perform effects; while the disk is full, wait and lose nothing."""
        try:
            super().perform(wanted)
        except sqlite3.OperationalError as error:
            self.refused(error)
            self._stuck = wanted
            self.later(COMMIT_RETRY_S, self._perform_again)

    def _perform_again(self) -> None:
        self._stuck, wanted = (), self._stuck
        self.perform(wanted)
        if not self._stuck:
            self._arm()
            self.put_in("")

    # Effects.

    def commit(self, changes: Sequence[MeterChange]) -> None:
        self.world.ledger.before_meters(self, changes)
        self.store.commit(changes)

    def note(self, changes: Sequence[MeterChange]) -> None:
        self.world.ledger.after_meters(changes)

    def has(self, changes: Sequence[MeterChange]) -> bool:
        states = {change.meter: change for change in changes if isinstance(change, MeterState)}
        return any((found := self.store.load(meter)) and found.state == last for meter, last in states.items())

    def transmit(self, message: Publish) -> None:
        topic = parse_meter_up(message.topic)
        assert topic is not None
        self.world.ledger.sent_by_meter(topic.meter, topic.leaf, message.payload)
        self.links_of[topic.meter][0].send(message, self.world.gateways[self.microgrid].local)

    def drained(self) -> bool:
        """Return whether all records are acknowledged."""
        return (
            self.up
            and not self.off
            and not self._stuck
            and all(not m.history.rows and not m.events.rows for m in self.meters.values())
        )


def _command(payload: bytes) -> Command | None:
    try:
        return unpack_json(Command, payload)
    except ProtocolError:
        return None


def readings(meter: MeterId, slot_end: int) -> dict[RecordType, MilliwattHours]:
    """Return a meter's readings: flows that repeat now and then, a level that swings around its minimum."""
    step = slot_end // SLOT_S
    flow = (step // 7 * 2_654_435_761 + meter * 97) % 1_999
    swing = abs((step + meter * 31) % 240 - 120)
    through = (step // 3 * 40_503 + meter) % 4_001
    return {
        RecordType.GENERATION: flow if step % 14 < 9 else flow + step % 5,
        RecordType.STORED: 28_800_000 * (10 + swing * 85 // 120) // 100,
        RecordType.THROUGH: through,
    }
