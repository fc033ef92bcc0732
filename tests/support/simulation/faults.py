"""Faults by seed: what fails when, and until when everything heals."""

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.support.simulation.network import CALM, Weather
from utility.store.known import OpenCommand, add_command

if TYPE_CHECKING:
    from tests.support.simulation.world import World

MAX_POINTS = 6
"""A crash comes at one of so many points from a moment on: before a commit, behind it, behind each message."""


class Faults:
    """The faults of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/faults")
        self._until = 0.0
        self._numbers = 0

    def begin(self, for_s: float) -> None:
        """Let it rain for a while: each kind of fault comes at its own rate, which is the seed's."""
        world, rng = self._world, self._rng
        self._until = world.time + for_s
        world.slow = rng.choice((0, 0, 0.02))
        world.wrong_clocks = rng.choice((0, 0, 0.7))
        self._weather()
        kinds: tuple[tuple[Callable[[], None], float], ...] = (
            (self._weather, 900),
            (self._crash, rng.choice((240, 600, 1800))),
            (self._broker, rng.choice((900, 2400))),
            (self._partition, rng.choice((300, 1200))),
            (self._stall, rng.choice((600, 2400))),
            (self._power, rng.choice((400, 1500))),
            (self._memory, rng.choice((2400, 7200))),
            (self._order, rng.choice((600, 1500))),
            (self._utility, rng.choice((3600, 20_000))),
        )
        for kind, mean_s in kinds:
            self._again(kind, mean_s)

    def _again(self, kind: Callable[[], None], mean_s: float) -> None:
        delay = self._rng.expovariate(1 / mean_s)

        def strike() -> None:
            kind()
            self._again(kind, mean_s)

        if self._world.time + delay < self._until:
            self._world.after(delay, strike)

    def heal(self) -> None:
        """End all faults; who is down comes back at its time."""
        world = self._world
        world.tell("world", "ALL FAULTS HEAL")
        world.weather, world.slow, world.wrong_clocks = CALM, 0.0, 0.0
        for broker in (world.head_end, *world.brokers.values()):
            for link in broker.links:
                link.heal()
        for node in world.nodes:
            node.doom = None
            if node.up and node.offset:
                node.crash(5)

    def _down_s(self) -> float:
        """Return how long something is down: mostly short, sometimes long, never beyond the healing."""
        longest = self._rng.choice((5, 20, 60, 300, 1500))
        return max(1.0, min(self._rng.uniform(1, longest), self._until - self._world.time))

    def _weather(self) -> None:
        rng = self._rng
        self._world.weather = Weather(
            loss=rng.choice((0, 0.02, 0.1, 0.4)),
            double=rng.choice((0, 0.05, 0.3)),
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

    def _utility(self) -> None:
        utility = self._world.utility
        if utility.up:
            utility.crash(self._down_s())
            utility.lose_store()

    def _order(self) -> None:
        """Let the utility's people order an aggregation, at meters or gateway, or ask for what was sent before."""
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
        with self._world.utility.database.writes.begin() as connection:
            add_command(connection, order, now)
