"""Random worlds of one device of each maker: orders, habits, lost connections, restarts; checked each second (M5)."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping.presets import known_presets
from adapters.store import CHANNELS
from commonwatt.config.adapter_commands import AdapterCommand
from commonwatt.device.store import DeviceStore, open_store
from commonwatt.protocol.commands import Kind
from harness.foreign.commanded import LATE_S, MAKERS, WATTS, Commanded, Habit, Message
from tests.unit.adapters.test_core import Bench, T

COMMANDS: dict[tuple[str, str], AdapterCommand] = {
    (preset.name, found.kind): found for preset in known_presets().values() for found in preset.commands
}
STATES = {"share": Kind.SHARING, "reduce": Kind.REDUCING}
SEEDS = 16  # of each maker
LASTS_S = 420  # of each world, before its quiet end
BACK_S = 240  # until a device does what is ordered, in the quiet end
WILLING = (Habit.OBEYS, Habit.OBEYS, Habit.LATE)
HABITS = (*WILLING, Habit.DISOBEYS, Habit.HALF, Habit.STALE, Habit.DEAD)


Open = Callable[[int], DeviceStore]


@pytest.fixture
def open_one(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def one(seed: int) -> DeviceStore:
            store = open_store(Path(":memory:"), CHANNELS)
            stack.callback(store.connection.close)
            store.connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")
            return store

        yield one


class World:
    """An adapter, a device and their broker, with one clock."""

    def __init__(self, store: DeviceStore, key: tuple[str, str], seed: int) -> None:
        self.rng = random.Random(f"{key} {seed}")
        self.settings, self.maker, self.kind = COMMANDS[key], MAKERS[key], STATES[key[1]]
        self.verb = f"{key[1]}_power"
        self.device = Commanded(self.maker, self.rng.choice(HABITS))
        meter: dict[str, Any] = {"preset": key[0], "source": self.maker.source, "channel": self.maker.channel}
        meter |= {"capacity_wh": 10_000, "watts": WATTS} if self.kind is Kind.SHARING else {}
        self.bench = Bench(store, obeys=[key[1]], **meter)
        self.now, self.sequence, self.session = T, 0, 0
        self.kept: dict[str, str] = {}  # what the broker retains
        self.late: list[tuple[str, str]] = []  # what paho sends after its next connection
        self.will: tuple[str, str] | None = None  # the will at the broker
        self.will_at = 0  # when it is there at the earliest
        self.up, self.connected, self.back_at = True, False, 0
        self.woken = True  # whether something has arrived, or a connection began or ended
        self.silent_until = 0
        self.told: list[tuple[int, int]] = []  # when the device was told which value, since the adapter's start
        self.shown_on: bool | None = None  # what the adapter heard last
        self.asked: dict[str, bool] = {}  # the orders, by their id: whether they are on
        self.settled_at = T  # since when nothing but the device's own habits is in the way
        self.wished_off_at = T  # since when nothing is wished
        self.outcomes: list[str] = []
        self.connect()

    # The network.

    def connect(self) -> None:
        self.connected, self.woken, self.settled_at = True, True, self.now
        self.session += 1
        late, self.late = self.late, []
        for topic, payload in late:
            self.to_device(topic, payload)
        self.commands.reached = frozenset({""})
        self.bench.do(self.bench.adapter.reconnected("", self.session, self.now))
        if self.maker.shown in self.kept:
            self.to_adapter(Message(self.maker.shown, self.kept[self.maker.shown], retain=True), retained=True)

    def disconnect(self) -> None:
        self.connected, self.woken = False, True
        self.commands.reached = frozenset()
        self.back_at = self.now + self.rng.randrange(1, 120)

    def to_adapter(self, message: Message, *, retained: bool = False) -> None:
        if message.retain:
            self.kept[message.topic] = message.payload
        if not (self.up and self.connected):
            return
        self.woken = True
        for _ in range(1 + (self.rng.random() < 0.05)):
            self.bench.hear(message.topic, message.payload, self.now, retained=retained)
        loop = self.commands.loops[0]
        self.shown_on = loop.shows.on if loop.shows else None

    def to_device(self, topic: str, payload: str) -> None:
        for _ in range(1 + (self.rng.random() < 0.05)):
            for message in self.device.hear(topic, payload, self.now):
                self.to_adapter(message)

    def fire_will(self) -> None:
        """Let the broker publish the will, as its connection is gone."""
        if self.will is not None:
            will, self.will, self.woken = self.will, None, True
            self.to_device(*will)

    # The adapter.

    @property
    def commands(self) -> Any:
        return self.bench.adapter.commands

    def keep_wills(self) -> None:
        wanted = self.commands.wills("")
        if not wanted:
            self.will, self.will_at = None, self.now + self.rng.randrange(1, 4)
        elif self.will is None and self.now >= self.will_at and self.rng.random() < 0.5:
            ((_, message),) = wanted.items()
            self.will, self.woken = (message.topic, message.payload.decode()), True

    def arm(self) -> None:
        self.commands.armed = frozenset({(77, self.kind)} if self.will else ())

    def turn(self) -> None:
        self.woken = False
        while True:
            self.arm()
            self.bench.do(self.bench.adapter.tick(self.now))
            self.keep_wills()
            if not self.bench.published:
                return
            for message in self.bench.published:
                if message.topic.endswith("/out"):
                    self.judge_outcome(json.loads(message.payload))
                elif not message.topic.startswith("cw1/"):
                    self.publish(message.topic, message.payload.decode())
            self.bench.published.clear()

    def publish(self, topic: str, payload: str) -> None:
        if not self.connected:
            return  # lost since the turn began
        if topic == self.maker.told:
            order = self.maker.read(payload)
            assert order is not None
            before = self.told[-1][0] if self.told else 0
            assert self.now - before >= self.settings.at_most_each_s, "relays wear"
            if order.value and self.settings.failsafe == "will":
                assert self.will, "nothing would end it"
            self.told.append((self.now, order.value))
        if self.rng.random() < 0.01:
            self.disconnect()
            self.late += [(topic, payload)] * (self.rng.random() < 0.5)
        else:
            self.to_device(topic, payload)

    def judge_outcome(self, outcome: dict[str, Any]) -> None:
        self.outcomes.append(outcome["result"])
        if outcome["result"] == "done" and self.asked.get(outcome["id"]):
            assert self.shown_on, "done, but it was not seen"

    def restart(self) -> None:
        self.bench.start(self.now)
        self.up, self.told = True, []
        self.connect()

    # The gateway.

    def order(self, value: str, for_s: int = 900) -> None:
        self.sequence += 1
        name = str(self.sequence)
        self.asked[name] = value == "on"
        ends = {"for_s": for_s} if value == "on" else {}
        if self.up:
            self.woken = True
            self.arm()
            self.bench.command(f"{self.verb}_{value}", self.now, seq=self.sequence, id=name, **ends)

    # Time.

    def pass_s(self, seconds: int, *, calm: bool = False) -> None:
        for _ in range(seconds):
            self.now += 1
            for message in self.device.run(self.now):
                self.to_adapter(message)
            if not calm:
                self.happen()
            if not self.up and self.now >= self.back_at:
                self.restart()
            if self.up and not self.connected and self.now >= self.back_at:
                self.connect()
            if not self.up:
                continue
            if self.now % 30 == 0 and self.now >= self.silent_until:
                self.woken = True
                self.bench.do(self.bench.adapter.receive(77, "a", b"", self.now))
            self.keep_wills()
            wake_at = self.bench.adapter.wake_at
            if self.woken or (wake_at is not None and self.now >= wake_at):
                self.turn()
            self.check()

    def happen(self) -> None:
        match self.rng.randrange(1500):
            case n if n < 20 and self.now >= self.silent_until:
                self.order("on", self.rng.choice((30, 120, 600)))
            case n if n < 30 and self.now >= self.silent_until:
                self.order("off")
            case 30 | 31 | 32 if self.up and self.connected:
                self.disconnect()
            case 33 if self.up:
                self.up, self.connected, self.back_at = False, False, self.now + self.rng.randrange(1, 100)
                self.bench.published.clear()
                self.fire_will()
            case 34 | 35:
                self.settled_at = self.now
                for message in self.device.restart(self.now):
                    self.to_adapter(message)
            case 36 | 37:
                self.fire_will()
                self.will_at = self.now + self.rng.randrange(1, 30)
            case 38:
                self.silent_until = self.now + self.rng.randrange(1, 400)
            case _:
                pass

    def check(self) -> None:
        loop = self.commands.loops[0]
        assert sum(each.in_flight(self.now) for each in self.commands.loops) <= 1
        if loop.wish.on or not self.connected:
            self.wished_off_at = self.now
        if self.device.habit not in WILLING:
            return
        bound = self.settings.confirm_s + self.settings.at_most_each_s + LATE_S + self.maker.interval_s + 2
        since = max(self.wished_off_at, self.settled_at)
        assert not self.device.value or self.now - since <= bound, "it goes on"
        if self.told and self.told[-1][1] and self.device.value and self.settings.failsafe == "will":
            assert (77, self.kind) in self.commands.wills(""), "nothing would end it"


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_in_random_worlds_a_device_does_what_is_wished_and_nothing_else(open_one: Open, key: tuple[str, str]) -> None:
    for seed in range(SEEDS):
        world = World(open_one(seed), key, seed)
        try:
            world.pass_s(LASTS_S)
            end(world)
        except AssertionError as error:
            error.add_note(f"seed {seed}, {world.device.habit}, at {world.now - T} s, told {world.told[-5:]}")
            raise


def end(world: World) -> None:
    """Let nothing happen but two orders, and see them done."""
    world.silent_until = 0
    world.pass_s(120, calm=True)
    willing = world.device.habit in WILLING
    world.order("on", BACK_S + 60)
    world.pass_s(BACK_S, calm=True)
    refused = world.outcomes[-1:] == ["refused"]
    assert not willing or refused or world.device.value == world.maker.full
    world.order("off")
    world.pass_s(BACK_S, calm=True)
    assert not willing or not world.device.value
