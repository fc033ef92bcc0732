"""The meters of one microgrid in a world of a clique: each has a broker at each of its controllers."""

from collections import Counter
from typing import TYPE_CHECKING

from commonwatt.device.meter import Effects, MeterCore
from commonwatt.device.sessions import CONNECTED, LOST, BrokerArrival, Brokers, MeterBroker, Sessions
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Publish
from commonwatt.model.units import MeterId
from commonwatt.protocol.commands import RAISES, Command, Epoch, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, OUTCOMES, parse_meter_up
from harness.world.clique.part import NAMES, ORDERS, RANKS, signed
from harness.world.fleet import Fleet
from harness.world.network import Broker, Link, device

if TYPE_CHECKING:
    from harness.world.clique.world import CliqueWorld


class Session(Link):
    """A meter's session with a broker, while it holds it."""

    def __init__(self, fleet: "CliqueFleet", meter: MeterId, via: str, broker: Broker) -> None:
        identity = device(str(meter), DeviceRole.METER, fleet.microgrid)
        super().__init__(fleet.world, f"{meter}@{via}", fleet, broker, identity)
        self.via = via  # the controller with the broker
        self.is_held = False  # whether the meter wants it
        self._fleet = fleet

    def _connect(self) -> None:
        if self.is_held:
            super()._connect()

    def disconnect(self) -> None:
        """End it; the meter notices."""
        if self.connected:
            super().disconnect()
            self._fleet.arrived(self, LOST, b"")

    def hold(self, *, held: bool) -> None:
        """Begin or end it."""
        if held != self.is_held:
            self.is_held = held
            (self.reconnect if held else self.disconnect)()


class CliqueFleet(Fleet):
    """A microgrid's meters."""

    world: "CliqueWorld"
    links_of: dict[MeterId, list[Session]]  # type: ignore[assignment]

    def make_links(self, meter: MeterId, broker: Broker) -> list[Link]:
        """Return the links of a meter, to its brokers."""
        del broker
        self.sessions: dict[MeterId, Sessions] = {}
        self.raises: Counter[tuple[MeterId, int]] = Counter()  # how often each rank raised a meter's epoch
        self.obeyed: list[tuple[float, MeterId, Epoch]] = []  # when each meter first obeyed an epoch
        self.says: dict[MeterId, Epoch] = {}  # epochs that meters make up
        return [Session(self, meter, name, self.world.brokers[name]) for name in ORDERS[self.microgrid]]

    def load(self, meter: MeterId) -> MeterCore:
        """Return a meter as it is in the store, with its sessions."""
        core, stored = super().load(meter), self.store.load(meter)
        order = ORDERS[self.microgrid]
        installed = [MeterBroker(name=name, rank=RANKS[name], warm=name != order[0]) for name in order]
        kept = ((), None) if stored is None else (stored.order, stored.revoked)
        self.sessions[meter] = Sessions(
            core, Brokers(meter, installed, NAMES, *kept), lambda text, by: by == signed(text)
        )
        return core

    def started(self) -> None:
        """Boot every meter, and hold its sessions."""
        for links in self.links_of.values():
            for link in links:
                link.is_held = False
        super().started()
        self._hold()

    def work(self) -> None:
        """Do a turn, then hold the sessions that are wanted."""
        super().work()
        self._hold()

    def _hold(self) -> None:
        for meter, links in self.links_of.items():
            brokers = self.sessions[meter].brokers
            wanted = brokers.sessions if meter not in self.off else ()
            for link in links:
                if link.via in wanted and link.via in brokers.revoked.ranks:
                    self.world.fail(f"I-e: meter {meter} has a session with the revoked controller {link.via}")
                link.hold(held=link.via in wanted)

    def wake_at(self, core: MeterCore) -> float | None:
        """Return when a meter's next tick is due, by its own time."""
        return self.sessions[core.description.id].wake_at

    def tick(self, core: MeterCore, now: float) -> Effects:
        """Let a meter do what is due."""
        return self.sessions[core.description.id].tick(now)

    def connected(self, link: Link) -> None:
        """Let a meter know of a session."""
        self.arrived(link, CONNECTED, b"")

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Queue a message with the broker from which it came."""
        if self.up:
            assert isinstance(link, Session)
            self.put_in(link.device.identity, f"{link.via}/{topic.rpartition('/')[2]}", payload)

    def feed(self, core: MeterCore, topic: str, payload: bytes, now: float) -> Effects:
        """Let a meter handle a message; note a command of a manager in force that it refuses."""
        meter = core.description.id
        via, leaf = topic.split("/")
        if leaf == COMMANDS and (epoch := unpack_json(Command, payload).epoch) > core.desired_states.epoch:
            states = core.desired_states
            if meter not in self.world.spoilt and (why_not := states._guard.why_not(epoch, states.own_clock.own_s)):
                self.world.fail(f"I-e: meter {meter} refuses a command of {via}: {why_not}")
        before = core.desired_states.epoch
        effects = self.sessions[meter].handle(BrokerArrival(meter, via, leaf, payload), now)
        if (epoch := core.desired_states.epoch) != before:
            self.obeyed.append((self.world.monotonic, meter, epoch))
            self.raises[meter, epoch[1]] += 1
            if self.raises[meter, epoch[1]] > RAISES:
                self.world.fail(
                    f"I-h: controller {epoch[1]} raised the epoch of meter {meter} more than {RAISES} times"
                )
        return effects

    def transmit(self, message: Publish) -> None:
        topic = parse_meter_up(message.topic)
        assert topic is not None
        if topic.leaf == OUTCOMES and topic.meter in self.says:
            lie = unpack_json(Outcome, message.payload).model_copy(update={"epoch": self.says[topic.meter]})
            message = Publish(message.topic, lie.pack(), message.qos, via=message.via)
        self.world.ledger.sent_by_meter(topic.meter, topic.leaf, message.payload)
        via = message.via or self.sessions[topic.meter].brokers.data
        self.link_to(topic.meter, via).send(message, self.world.gateways[via].local)

    def link_to(self, meter: MeterId, via: str) -> Session:
        """Return a meter's link to a controller's broker."""
        return next(link for link in self.links_of[meter] if link.via == via)

    def reached(self, name: str) -> int:
        """Return how many meters a controller reaches, or could."""
        on = [meter for meter in self.meters if meter not in self.off]
        links = [self.link_to(m, name) for m in on if name not in self.sessions[m].brokers.revoked.ranks]
        return sum(not link.cut for link in links) if self.up and self.world.brokers[name].up else 0
