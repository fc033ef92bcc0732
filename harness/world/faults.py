"""Faults by seed: a list by name, and their end; among them a second manager of the same meters (I7, I8)."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.records import Log
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S, MeterId
from commonwatt.protocol.commands import Epoch, Kind
from commonwatt.protocol.meter_messages import Put
from commonwatt.protocol.topics import BATCHES, RECORDS, gateway_up, meter_up
from commonwatt.town.registry import RegisteredMeter
from gateway.control.manager import Manager
from gateway.store.changes import Change, Setting
from gateway.store.store import Store
from harness.surroundings.messages import a_record
from harness.world.network import Broker, Link, device
from harness.world.stage import CALM, Weather
from utility.outbox.changes import OpenCommand
from utility.outbox.store import add_command

if TYPE_CHECKING:
    from harness.world.gateway import GatewayNode
    from harness.world.utility import UtilityNode
    from harness.world.world import World

EPOCHS: tuple[Epoch, ...] = ((0, 1), (0, 7), (1, 1), (2, 1))
"""Epochs of a manager before the gateway's first epoch, which is (1, 0), and of managers after it."""

WANTED: tuple[tuple[Kind, str], ...] = (
    (Kind.SHARING, "on"),
    (Kind.SHARING, "off"),
    (Kind.REDUCING, "on"),
    (Kind.ISOLATED, "on"),
    (Kind.AGGREGATION, "lossy"),
    (Kind.AGGREGATION, "none"),
)


class Rival:
    """A real manager with its own store, which ignores all messages."""

    wanted = WANTED  # the states that it commands

    def __init__(
        self, world: "World", settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter], broker: Broker
    ) -> None:
        self.name = f"{settings.microgrid}-rival"
        self.up = True
        self._acted = False
        self._world = world
        self._rng: random.Random = world.rng
        self._microgrid = settings.microgrid
        self._meters = list(meters)
        store = Store.open(Path(":memory:"))
        store.commit([Setting("epoch", ",".join(map(str, self._rng.choice(EPOCHS))))])
        self._manager = Manager(settings, settings.microgrid, store, meters)
        store.close()
        self._link = Link(
            world, self.name, self, broker, device(settings.microgrid, DeviceRole.GATEWAY, settings.microgrid)
        )
        self._link.reconnect()

    def connected(self, link: Link) -> None:
        """Not listen."""

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Not listen."""

    def act(self) -> None:
        """Send a command, and again some time later, as managers do."""
        self._acted = True
        kind, value = self._rng.choice(self.wanted)
        trust = self._rng.choice((Trust.NONE, Trust.NETWORK))
        now = Now(self._world.clock(), trust)
        until = now + self._rng.randrange(30, 1800) if value in ("on", "lossy") else None
        self._do(self._manager.order(self._rng.choice(self._meters), kind, value, until, now))
        for after_s in (15, 60, 400):
            self._world.after(after_s, lambda: self._do(self._manager.resend(Now(self._world.clock(), trust))))

    def collect(self) -> None:
        """Request its meters' records every minute: a gateway requests none of a meter that obeys another."""
        if self._acted:
            asked = [(meter, what) for meter in self._meters for what in ("records", "events")]
            self._do([self._manager.command(meter, "get", what=what) for meter, what in asked])
            self._world.after(60, self.collect)

    def _do(self, effects: list[Effect[Change]]) -> None:
        for effect in effects:
            if isinstance(effect, Publish):
                meter = int(effect.topic.split("/")[2])
                self._link.send(effect, self._world.link_of(self._microgrid, meter))


MAX_POINTS = 6  # number of points from which a crash is drawn: before a commit, after it, after each message
METERS_AHEAD_S = (-86_400, -3600, -900, 600, 3600, 86_400)  # errors of a meter's clock, seconds
# A forged but plausible reading, which no meter measured; an implausible one would be quarantined.
FORGED_READING = 4_321


Kinds = Mapping[str, tuple[Callable[[], None], tuple[float | None, ...]]]
"""By name: what a fault does, and mean seconds between two, of which a world has one; ``None``: none happens."""

ONCE = 1e9  # mean seconds between two of what happens at the start alone
AT_START = ("weather", "slow disks", "wrong clocks")  # kinds that happen at the start, too


@dataclass(frozen=True)
class Strike:
    """A fault that happens once."""

    at: float  # seconds after the start
    name: str  # its kind and its number among those of its kind
    act: Callable[[], None]  # what it does


class Faults:
    """The faults of one world: a list by name, each with chances of its own, so that any may be left out."""

    def __init__(self, world: "World") -> None:
        self.struck: list[str] = []  # the names of those that happened
        self._world = world
        self._rng = random.Random()  # the chances of the one that happens now
        self._until = 0.0
        self._numbers = 0

    def begin(self, for_s: float, only: Sequence[str] | None = None) -> None:
        """Let faults happen for a while; ``only`` those of these names."""
        self._until = self._world.time + for_s
        for strike in self._strikes(for_s):
            if only is None or strike.name in only:
                self._world.after(strike.at, partial(self._strike, strike))

    def _strikes(self, for_s: float) -> Iterator[Strike]:
        for kind, (act, means) in self.kinds().items():
            rng = random.Random(f"{self._world.seed}/{kind}")
            mean_s = rng.choice(means)
            if mean_s is None:
                continue
            at = 0.0 if kind in AT_START else rng.expovariate(1 / mean_s)
            for number in count(1):
                if at >= for_s:
                    break
                yield Strike(at, f"{kind} {number}", act)
                at += rng.expovariate(1 / mean_s)

    def _strike(self, strike: Strike) -> None:
        self.struck.append(strike.name)
        self._world.tell("fault", strike.name)
        self._rng = random.Random(f"{self._world.seed}/{strike.name}")
        strike.act()

    def kinds(self) -> Kinds:
        """Return each kind of fault."""
        return {
            "weather": (self._weather, (900,)),
            "slow disks": (self._slow_disks, (None, None, ONCE)),
            "wrong clocks": (self._wrong_clocks, (None, None, ONCE)),
            "crash": (self._crash, (240, 600, 1800)),
            "broker": (self._broker, (900, 2400)),
            "partition": (self._partition, (300, 1200)),
            "stall": (self._stall, (600, 2400)),
            "meter off": (self._power, (400, 1500)),
            "memory lost": (self._memory, (2400, 7200)),
            "order": (self._order, (600, 1500)),
            "utility's store lost": (self._utility_store, (3600, 20_000)),
            "gateway's store lost": (self._gateway_store, (None, 5000, 15_000)),
            "full disk": (self._disk, (None, 1200, 3600)),
            "rot": (self._rot, (None, None, 1200)),
            "clock jumps": (self._jump, (None, None, 900)),
            "meter's clock jumps": (self._meter_jump, (None, None, 1500)),
            "rival": (self._rival, (None, None, 400)),
            "forgery": (self._forge, (1800,)),
            "database goes back": (self._snapshot, (None, None, 900, 1800)),
        }

    def _snapshot(self) -> None:
        """Copy the utility's store, and put it back later, under the running service or while it is down."""
        utility, rng = self._world.utility, self._rng
        copied = utility.branch, utility.image(), self._world.ledger.snapshot()
        crashes = rng.random() < 0.5

        def strike() -> None:
            branch, image, snapshot = copied
            # A restore needs space; and on a full disk nothing was stored from which the store could go back.
            if utility.disk.full or utility.branch != branch or self._world.time >= self._until:
                return
            if crashes and utility.up:
                utility.crash(5)
            utility.go_back(image, snapshot)

        self._world.after(rng.uniform(30, 2400), strike)

    def heal(self) -> None:
        """End all faults; processes that are down restart at their time."""
        world = self._world
        world.tell("world", "ALL FAULTS HEAL")
        world.weather, world.slow, world.wrong_clocks = CALM, 0.0, 0.0
        for broker in (world.head_end, *world.brokers.values()):
            for link in broker.links:
                link.heal()
        for rival in world.rivals.values():
            rival.collect()
        for node in world.nodes:
            node.doom = None
            node.empty()
            lost = node.disk.rotten or world.ledger.has_lost(node.name)
            if node.up and (node.offset or node.jumped or lost):
                node.crash(5)
        for fleet in world.fleets.values():
            if any(fleet.ahead.values()):
                fleet.ahead.clear()
                if fleet.up:
                    fleet.crash(5)

    def _down_s(self) -> float:
        """Return the duration of an outage: mostly short, sometimes long, never beyond the healing."""
        longest = self._rng.choice((5, 20, 60, 300, 1500))
        return max(1.0, min(self._rng.uniform(1, longest), self._until - self._world.time))

    def _weather(self) -> None:
        rng = self._rng
        self._world.weather = Weather(
            loss=rng.choice((0, 0.02, 0.1, 0.4)),
            double=rng.choice((0, 0.05, 0.3)),
            repeated=rng.choice((0, 0.1)),
            late=rng.choice((0, 0.05, 0.3)),
            held=rng.choice((0, 0.01, 0.1)),
        )
        self._world.tell("world", f"{self._world.weather}")

    def _slow_disks(self) -> None:
        self._world.slow = 0.02

    def _wrong_clocks(self) -> None:
        self._world.wrong_clocks = 0.7

    def _crash(self) -> None:
        node = self._rng.choice(self._world.nodes)
        node.strike(self._rng.randrange(MAX_POINTS), self._down_s())

    def _broker(self) -> None:
        self._rng.choice((self._world.head_end, *self._world.brokers.values())).crash(self._down_s())

    def _partition(self) -> None:
        broker = self._rng.choice((self._world.head_end, *self._world.brokers.values()))
        self._rng.choice(broker.links).partition(self._down_s())

    def _stall(self) -> None:
        fleet = self._rng.choice(list(self._world.fleets.values()))
        self._rng.choice(fleet.links).stall(min(self._rng.uniform(60, 2400), self._until - self._world.time))

    def _power(self) -> None:
        fleet = self._rng.choice(list(self._world.fleets.values()))
        fleet.guarded(lambda: fleet.fail(self._rng.choice(list(fleet.meters)), self._down_s()))

    def _memory(self) -> None:
        fleet = self._rng.choice(list(self._world.fleets.values()))
        if fleet.up:
            fleet.guarded(lambda: fleet.forget(self._rng.choice(list(fleet.meters))))

    def _utility_store(self) -> None:
        utility = self._world.utility
        if utility.up:
            utility.crash(self._down_s())
            utility.lose_store()

    def _gateway_store(self) -> None:
        gateway = self._rng.choice(list(self._world.gateways.values()))
        if gateway.up and not gateway.store.closed:
            gateway.lose_store(self._down_s())

    def _disk(self) -> None:
        self._rng.choice(self._world.nodes).fill(self._down_s())

    def _rot(self) -> None:
        """Flip a bit on a gateway's card."""
        self._rng.choice(list(self._world.gateways.values())).rot()

    def _jump(self) -> None:
        services: list[UtilityNode | GatewayNode] = [self._world.utility, *self._world.gateways.values()]
        node = self._rng.choice(services)
        if node.up:
            node.jump(self._rng.choice((0, *node.wrong_s)))

    def _meter_jump(self) -> None:
        fleet = self._rng.choice(list(self._world.fleets.values()))
        fleet.guarded(lambda: fleet.jump_one(self._rng.choice(list(fleet.meters)), self._rng.choice(METERS_AHEAD_S)))

    def _rival(self) -> None:
        self._rng.choice(list(self._world.rivals.values())).act()

    def _forge(self) -> None:
        """Let a meter forge another's messages, on its topic or in own records; let a gateway do the same."""
        world, rng = self._world, self._rng
        microgrid, fleet = rng.choice(list(world.fleets.items()))
        who, victim = rng.sample(list(fleet.meters), 2)
        end = world.clock() // SLOT_S * SLOT_S
        record = a_record(end - SLOT_S, FORGED_READING, end=end, meter=victim, account=fleet.account(victim)).pack()
        world.ledger.forged.add(record)
        put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=1, records=(record,)).pack()
        world.tell("intruder", f"meter {who} speaks for meter {victim}")
        gateway = world.gateways[microgrid]
        for topic in (meter_up(microgrid, victim, RECORDS), meter_up(microgrid, who, RECORDS)):
            world.link_of(microgrid, who).send(Publish(topic, put), gateway.local)
        other = rng.choice([name for name in world.gateways if name != microgrid])
        gateway.head_end.send(Publish(gateway_up(other, BATCHES), b""), world.utility.link)

    def _order(self) -> None:
        """Let an operator command an aggregation, at meters or gateway, or request data sent before."""
        rng, now = self._rng, self._world.clock()
        controller = rng.choice(list(self._world.gateways))
        kind = rng.choice(("aggregate", "aggregate", "aggregate", "deaggregate", "get"))
        fields: dict[str, object] = {"cmd": kind}
        if kind == "get":
            fields |= {"first_quarter": now // 900 - rng.randrange(4), "last_quarter": now // 900}
        else:
            fields["at"] = rng.choice(("meters", "gateway"))
        if kind == "aggregate":
            fields |= {"mode": rng.choice(("lossless", "lossy")), "for_s": rng.choice((600, 2400, 4800))}
        self._command(controller, fields)

    def _command(self, controller: str, fields: Mapping[str, object]) -> None:
        """Let the utility send a command to a controller."""
        now = self._world.clock()
        self._numbers += 1
        message = json.dumps({"v": 1, "id": f"order-{self._numbers}", "until": now + 900, **fields})
        self._world.tell("people", f"order {controller} {message}")
        order = OpenCommand(id=f"order-{self._numbers}", controller=controller, message=message, until=now + 900)
        self._world.utility.trying(lambda: self._add(order, now))

    def _add(self, order: OpenCommand, now: int) -> None:
        with self._world.utility.database.writes.begin() as connection:
            add_command(connection, order, now)
