"""A meter that gets other orders of brokers at any moment: no record is lost, doubled, or changed on the way (A1, R13).

Seeded worlds: the meter is the product's, with five brokers that come and go, and messages that are late or lost.
"""

import os
import random
from functools import partial

import pytest

from commonwatt.device.brokers import Brokers, Installed
from commonwatt.device.meter import Effects
from commonwatt.device.sessions import CONNECTED, LOST, Arrived, Sessions
from commonwatt.model.effects import Publish
from commonwatt.model.records import Log
from commonwatt.protocol import topics
from commonwatt.protocol.meter_messages import unpack_put
from harness.worlds.later import Later
from harness.worlds.meters import ack_of
from tests.unit.device.test_meter import METER, Bench, T, command

NAMES = ("r001", "r002", "r003", "r004", "r005")  # its clique, then two collectors
CLIQUE = NAMES[:3]
INSTALLED = [Installed(name=name, rank=n + 1 if name in CLIQUE else None) for n, name in enumerate(NAMES)]
BUSY_S = 1_200  # seconds in which everything happens
CALM_S = 2_400  # seconds after which all is delivered


class Moving(Later):
    """The world of one seed.

    Args:
        seed: Of every chance.
        dead: Brokers that never live.
    """

    def __init__(self, seed: int, dead: tuple[str, ...] = ()) -> None:
        super().__init__(float(T))
        self.chance = random.Random(seed)
        self.bench = Bench()
        self.sessions = Sessions(
            self.bench.meter, Brokers(METER, INSTALLED, CLIQUE), lambda text, signature: signature == f"by {text}"
        )
        self.dead = set(dead)  # brokers that take nothing now
        self.calm = False
        self.stored: dict[tuple[Log, int], set[bytes]] = {}  # what any store acknowledged, or may have, by id
        self.moves = 0  # puts that went to another broker than the one before
        self._last = ""
        self._open: set[str] = set()

    def begin(self) -> None:
        self.after(1, self._second)
        self.after(15, self._slot)

    def _second(self) -> None:
        wake = self.sessions.wake_at
        if wake is not None and wake <= self.now:
            self.perform(self.sessions.tick(self.now))
        self._connect()
        self.after(1, self._second)

    def _slot(self) -> None:
        if not self.calm:
            self.bench.slots(1)
        self.after(15, self._slot)

    def _connect(self) -> None:
        """Sessions begin with brokers that live, and end with the others; a dead one may stay half-open."""
        for name in self.sessions.brokers.sessions - self._open - self.dead:
            self._open.add(name)
            self.perform(self.sessions.handle(Arrived(METER, name, CONNECTED), self.now))
        for name in sorted(self._open - self.sessions.brokers.sessions):
            self._lose(name)

    def _lose(self, name: str) -> None:
        self._open.discard(name)
        self.perform(self.sessions.handle(Arrived(METER, name, LOST), self.now))

    def perform(self, effects: Effects) -> None:
        for message in self.bench.do(effects):
            self.send(message)

    def send(self, message: Publish) -> None:
        leaf = message.topic.rpartition("/")[2]
        if leaf not in (topics.RECORDS, topics.EVENTS) or message.via not in self._open:
            return
        self.moves += message.via != self._last
        self._last = message.via
        if not self.is_lost():
            self.after(self.chance.uniform(0.02, 20), lambda: self._take(message.via, message.payload))

    def is_lost(self) -> bool:
        return not self.calm and self.chance.random() < 0.2

    def _take(self, name: str, payload: bytes) -> None:
        """A broker's gateway stores a put and acknowledges it; a dead one does neither."""
        if name in self.dead:
            return
        put = unpack_put(payload)
        for place, record in enumerate(put.records):
            self.stored.setdefault((put.log, put.first_id + place), set()).add(record)
        if self.is_lost():
            return
        ack = ack_of(put, int(self.now)).pack()
        self.after(self.chance.uniform(0.02, 20), lambda: self._answered(name, ack))

    def _answered(self, name: str, ack: bytes) -> None:
        if name in self._open:
            self.perform(self.sessions.handle(Arrived(METER, name, topics.ACKS, ack), self.now))

    def order(self, *names: str) -> None:
        """Let the manager of the clique that lives name another order."""
        for rank, manager in enumerate(CLIQUE, 1):
            if manager in self._open and manager not in self.dead:
                told = command("initialize", epoch=[1, rank], issuer=manager, brokers=list(names))
                self.perform(self.sessions.handle(Arrived(METER, manager, topics.COMMANDS, told), self.now))

    def revoke(self, name: str) -> None:
        text = f"1 {name}:{NAMES.index(name) + 1}"
        told = command("revoked", epoch=[0, 0], revoked=text, signature=f"by {text}")
        for via in sorted(self._open):
            self.perform(self.sessions.handle(Arrived(METER, via, topics.COMMANDS, told), self.now))

    def trouble(self, *, with_revocation: bool) -> None:
        """Let orders change, brokers die for a while, and perhaps one be revoked, at any moment."""
        self.begin()
        for _ in range(self.chance.randint(4, 12)):
            names = self.chance.sample(NAMES, self.chance.randint(1, 5))
            self.after(self.chance.uniform(30, BUSY_S), partial(self.order, *names))
        for _ in range(self.chance.randint(0, 4)):
            name, at = self.chance.choice(NAMES), self.chance.uniform(30, BUSY_S)
            self.after(at, partial(self.dead.add, name))
            self.after(at + self.chance.uniform(5, 300), partial(self.dead.discard, name))
        if with_revocation:
            self.after(self.chance.uniform(30, BUSY_S), partial(self.revoke, self.chance.choice(NAMES[1:])))

    def end(self) -> None:
        """All but what is gone for good heals; every record is in a store, once and unchanged."""
        self.calm = True
        self.run(CALM_S)
        assert self.left == 0, f"{self.left} records are still at the meter"
        doubled = {key for key, contents in self.stored.items() if len(contents) > 1}
        assert doubled == set(), "an id has two contents"
        for log in (self.bench.meter.history, self.bench.meter.events):
            ids = {number for of, number in self.stored if of is log.log}
            assert ids == set(range(1, log.next_id)), "a record is in no store"

    @property
    def left(self) -> int:
        """Records that the meter still has."""
        return len(self.bench.meter.history.rows) + len(self.bench.meter.events.rows)


@pytest.mark.parametrize("part", range(int(os.environ.get("MOVES", "3"))))
def test_no_record_is_lost_or_doubled_while_orders_change_in_the_middle_of_puts(part: int) -> None:
    moves = 0
    for seed in range(100 * part, 100 * part + 100):
        world = Moving(seed)
        world.trouble(with_revocation=seed % 4 == 0)
        world.run(BUSY_S)
        world.dead.clear()
        world.end()
        moves += world.moves
    assert moves > 100, "these worlds are not quiet"


def test_a_pin_on_a_dead_controller_delays_the_data_and_loses_none() -> None:
    world = Moving(1, dead=("r005",))
    world.begin()
    world.after(40, lambda: world.order("r005", "r002", "r001"))
    world.run(BUSY_S)
    assert world.sessions.brokers.order[0] == "r005"
    assert world.sessions.brokers.data in ("r001", "r002"), "the next ones in use"
    world.end()


def test_with_a_neighbourhood_all_dead_the_meter_keeps_its_records_until_one_is_back() -> None:
    world = Moving(2)
    world.begin()
    world.run(100)
    world.dead = set(NAMES)
    world.run(BUSY_S)
    assert world.left > 0
    world.dead = set(NAMES) - {"r003"}
    world.end()


def test_a_controller_revoked_in_mid_move_gets_nothing_more_and_nothing_is_lost() -> None:
    world = Moving(3)
    world.begin()
    world.run(70)
    world.order("r004", "r005")
    world.run(1)
    world.revoke("r004")
    world.run(BUSY_S)
    assert "r004" not in world.sessions.brokers.sessions
    assert world.sessions.brokers.data == "r005"
    world.end()
