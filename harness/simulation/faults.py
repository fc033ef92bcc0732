"""Faults by seed: their kinds and times, and their end."""

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from commonwatt.model.effects import Publish
from commonwatt.model.records import Log
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Put
from commonwatt.protocol.topics import BATCHES, RECORDS, gateway_up, meter_up
from harness.simulation.network import CALM, Weather
from harness.worlds.records import a_record
from utility.outbox.changes import OpenCommand
from utility.outbox.store.commands import add_command

if TYPE_CHECKING:
    from harness.simulation.gateway import GatewayNode
    from harness.simulation.utility import UtilityNode
    from harness.simulation.world import World

MAX_POINTS = 6  # number of points from which a crash is drawn: before a commit, after it, after each message
METERS_AHEAD_S = (-86_400, -3600, -900, 600, 3600, 86_400)  # errors of a meter's clock, seconds
# A forged but plausible reading, which no meter measured; an implausible one would be quarantined.
FORGED_READING = 4_321


class Faults:
    """The faults of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/faults")
        self._rng_back = random.Random(f"{world.seed}/back")
        self._until = 0.0
        self._numbers = 0

    def begin(self, for_s: float) -> None:
        """Cause faults for a while: each kind has its own rate, from the seed."""
        world, rng = self._world, self._rng
        self._until = world.time + for_s
        world.slow = rng.choice((0, 0, 0.02))
        world.wrong_clocks = rng.choice((0, 0, 0.7))
        self._weather()
        for kind, mean_s in self.kinds():
            if mean_s is not None:
                self._again(kind, mean_s)

    def kinds(self) -> tuple[tuple[Callable[[], None], float | None], ...]:
        """Return each kind of fault with the mean seconds between two; ``None``: it does not occur in this world."""
        rng = self._rng
        return (
            (self._weather, 900),
            (self._crash, rng.choice((240, 600, 1800))),
            (self._broker, rng.choice((900, 2400))),
            (self._partition, rng.choice((300, 1200))),
            (self._stall, rng.choice((600, 2400))),
            (self._power, rng.choice((400, 1500))),
            (self._memory, rng.choice((2400, 7200))),
            (self._order, rng.choice((600, 1500))),
            (self._utility_store, rng.choice((3600, 20_000))),
            (self._gateway_store, rng.choice((None, 5000, 15_000))),
            (self._disk, rng.choice((None, 1200, 3600))),
            (self._jump, rng.choice((None, None, 900))),
            (self._meter_jump, rng.choice((None, None, 1500))),
            (self._rival, rng.choice((None, None, 400))),
            (self._forge, 1800),
            (self._snapshot, self._rng_back.choice((None, None, 900, 1800))),
        )

    def _snapshot(self) -> None:
        """Copy the utility's store, and put it back later, under the running service or while it is down."""
        utility, rng = self._world.utility, self._rng_back
        copied = utility.branch, utility.image(), self._world.ledger.snapshot()
        crashes = rng.random() < 0.5

        def strike() -> None:
            branch, image, snapshot = copied
            if utility.branch != branch or self._world.time >= self._until:
                return
            if crashes and utility.up:
                utility.crash(5)
            utility.go_back(image, snapshot)

        self._world.after(rng.uniform(30, 2400), strike)

    def _again(self, kind: Callable[[], None], mean_s: float) -> None:
        delay = self._rng.expovariate(1 / mean_s)

        def strike() -> None:
            kind()
            self._again(kind, mean_s)

        if self._world.time + delay < self._until:
            self._world.after(delay, strike)

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
            if node.up and (node.offset or node.jumped or world.ledger.has_lost(node.name)):
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
        if gateway.up:
            gateway.crash(self._down_s())
            gateway.lose_store()

    def _disk(self) -> None:
        self._rng.choice(self._world.nodes).fill(self._down_s())

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
        self._numbers += 1
        controller = rng.choice(list(self._world.gateways))
        fields: dict[str, object] = {"v": 1, "id": f"order-{self._numbers}", "until": now + 900}
        kind = rng.choice(("aggregate", "aggregate", "aggregate", "deaggregate", "get"))
        fields["cmd"] = kind
        if kind == "get":
            fields |= {"first_quarter": now // 900 - rng.randrange(4), "last_quarter": now // 900}
        else:
            fields["at"] = rng.choice(("meters", "gateway"))
        if kind == "aggregate":
            fields |= {"mode": rng.choice(("lossless", "lossy")), "for_s": rng.choice((600, 2400, 4800))}
        message = json.dumps(fields)
        self._world.tell("people", f"order {controller} {message}")
        order = OpenCommand(id=f"order-{self._numbers}", controller=controller, message=message, until=now + 900)
        self._world.utility.trying(lambda: self._add(order, now))

    def _add(self, order: OpenCommand, now: int) -> None:
        with self._world.utility.database.writes.begin() as connection:
            add_command(connection, order, now)
