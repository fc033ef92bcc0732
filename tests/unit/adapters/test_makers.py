"""Each preset's command moves an emulated device of its maker, also in random worlds (M5, M8)."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping.readers import known_presets
from adapters.store import CHANNELS
from commonwatt.config.adapter import WILL_S, AdapterCommand
from commonwatt.device.store import DeviceStore, open_store
from commonwatt.protocol.commands import Kind
from harness.foreign.commanded import LATE_S, MAKERS, WATTS, Commanded, Habit, Message
from tests.unit.adapters.test_core import Bench, T

SETTLED = T + 105  # when a world is ready for commands
OWN = "cw1/"  # the beginning of Commonwatt's topics
COMMANDS: dict[tuple[str, str], AdapterCommand] = {
    (preset.name, found.kind): found for preset in known_presets().values() for found in preset.commands
}
BY_TIMER = [key for key, found in COMMANDS.items() if found.failsafe == "watchdog"]
BY_WILL = [key for key, found in COMMANDS.items() if found.failsafe == "will"]
FRESH = {key: found.confirm.fresh_s for key, found in COMMANDS.items() if found.confirm and found.confirm.fresh_s}
REFUSED = ("refused", "disobeys")
STATES = {"share": "sharing", "reduce": "reducing"}


class World:
    """An adapter and one device, with a virtual clock."""

    def __init__(self, store: DeviceStore, key: tuple[str, str], habit: Habit = Habit.OBEYS) -> None:
        preset, self.kind = key
        self.settings, maker = COMMANDS[key], MAKERS[key]
        self.device = Commanded(maker, habit)
        meter: dict[str, Any] = {
            "preset": preset,
            "source": maker.source,
            "channel": maker.channel,
            "obeys": [self.kind],
        }
        meter |= {"capacity_wh": 10_000, "watts": WATTS} if self.kind == "share" else {}
        self.bench = Bench(store, **meter)
        self.bench.adapter.commands.armed = frozenset({(77, Kind(STATES[self.kind]))})
        self.now = T
        self.told: list[tuple[int, str, str]] = []  # time, topic and payload of each message to the device
        self.seen: list[Message] = []  # what the device published
        self.outcomes: list[tuple[str, str, str | None]] = []  # result, stage and finding of each answer
        self._sequence = 0
        self.bench.do(self.bench.adapter.reconnected("", 0, T))
        # The states that the broker kept, or the time in which one is awaited before any command.
        for message in self.device.state(T) if maker.retain and habit is not Habit.DEAD else ():
            self.bench.hear(message.topic, message.payload, T, retained=True)
        self.pass_s(SETTLED - T)

    def order(self, state: str) -> None:
        """Command the meter."""
        self._sequence += 1
        until = {"for_s": 900} if state == "on" else {}
        self.bench.command(f"{self.kind}_power_{state}", self.now, seq=self._sequence, **until)
        self._deliver()

    def pass_s(self, seconds: int, *, adapter: bool = True) -> None:
        """Let time pass; without the adapter only for the device."""
        for _ in range(seconds):
            self.now += 1
            self._hear(self.device.run(self.now), adapter=adapter)
            if adapter:
                self.bench.adapter.commands.heard_at = self.now  # the gateway acknowledges puts
                self.bench.do(self.bench.adapter.tick(self.now))
                self._deliver()

    def restart_device(self) -> None:
        self._hear(self.device.restart(self.now))
        self._deliver()

    @property
    def stage(self) -> str:
        return self.bench.adapter.commands.loops[0].stage.value

    @property
    def commands(self) -> list[int]:
        """The times of commands so far."""
        return [at for at, topic, _ in self.told if topic == self.device.maker.told]

    def _hear(self, messages: list[Message], *, adapter: bool = True) -> None:
        self.seen += messages
        for message in messages if adapter else ():
            self.bench.hear(message.topic, message.payload, self.now)

    def _deliver(self) -> None:
        while self.bench.published:
            message = self.bench.published.pop(0)
            if message.topic.startswith(OWN):
                content = json.loads(message.payload) if message.topic.endswith("/out") else {}
                if content:
                    state = content["device"]["states"][STATES[self.kind]]
                    self.outcomes.append((content["result"], state["stage"], state.get("finding")))
            else:
                self.told.append((self.now, message.topic, message.payload.decode()))
                self._hear(self.device.hear(message.topic, message.payload.decode(), self.now))
                self.bench.do(self.bench.adapter.tick(self.now))


Start = Callable[..., World]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    store = open_store(tmp_path / "adapter.db", CHANNELS)
    yield lambda key, habit=Habit.OBEYS: World(store, key, habit)
    store.connection.close()


def shown_as(world: World, value: int) -> str:
    """Return what the loop says that a device with a value shows."""
    shown = world.device.maker.show(value)
    path = world.settings.confirm and world.settings.confirm.path
    if path:
        found = json.loads(shown)[path.replace("{channel}", world.device.maker.channel)]
        shown = str(found).lower() if isinstance(found, bool) else str(found)
    return f"shows {shown!r}"


def test_every_command_of_a_preset_has_an_emulated_device() -> None:
    assert COMMANDS.keys() == MAKERS.keys()


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_obeys_is_done_and_ends_when_told(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(60)
    assert world.outcomes == [("done", "obeys", None)]
    assert world.device.value == world.device.maker.full
    world.order("off")
    world.pass_s(60)
    assert world.outcomes[1:] == [("done", "off", None)]
    assert world.device.value == 0
    assert world.bench.adapter.tally["obedience", "disobeyed"] == 0


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_state_holds_while_it_is_commanded(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(60)
    for _ in range(800):
        world.pass_s(1)
        assert world.device.value == world.device.maker.full
    assert (world.stage, world.bench.adapter.tally["obedience", "ended_by_itself"]) == ("obeys", 0)
    later = [at for at in world.commands if at > SETTLED + world.settings.confirm_s]
    assert {b - a for a, b in itertools.pairwise(later)} <= {world.settings.repeat_s}


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_disobeys_is_told_three_times_and_reported_with_what_it_shows(
    start: Start, key: tuple[str, str]
) -> None:
    world = start(key, Habit.DISOBEYS)
    world.order("on")
    world.pass_s(3 * world.settings.confirm_s)
    ((result, stage, finding),) = world.outcomes
    assert (result, stage, finding) == (*REFUSED, f"should be on, and {shown_as(world, 0)}")
    at = world.settings.confirm_s
    assert [when - world.commands[0] for when in world.commands[:3]] == [0, at, 2 * at]
    assert all(when >= SETTLED + 3 * at for when in world.commands[3:]), "then it is told to end"


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_obeys_by_half_is_reported(start: Start, key: tuple[str, str]) -> None:
    world = start(key, Habit.HALF)
    world.order("on")
    world.pass_s(3 * world.settings.confirm_s)
    if world.device.maker.full == 1:
        assert world.outcomes == [("done", "obeys", None)]
        world.order("off")
        world.pass_s(3 * world.settings.confirm_s + 5)
        assert world.outcomes[1][:2] == (("done", "off") if world.settings.failsafe == "watchdog" else REFUSED)
    else:
        assert world.outcomes == [(*REFUSED, f"should be on, and {shown_as(world, WATTS * 2 // 5)}")]


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_late_device_is_told_once(start: Start, key: tuple[str, str]) -> None:
    world = start(key, Habit.LATE)
    world.order("on")
    world.pass_s(15)
    assert (world.stage, world.outcomes) == ("asked", [])
    world.pass_s(45)
    assert world.outcomes == [("done", "obeys", None)]
    assert [at for at in world.commands if at < SETTLED + 20] == [SETTLED]


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_forgets_at_a_restart_is_told_again(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(70)
    world.restart_device()
    world.pass_s(60)
    assert world.bench.adapter.tally["obedience", "ended_by_itself"] == 1
    assert (world.stage, world.device.value) == ("obeys", world.device.maker.full)


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_shows_an_old_state_is_not_believed_to_obey(start: Start, key: tuple[str, str]) -> None:
    world = start(key, Habit.STALE)
    world.order("on")
    world.pass_s(3 * world.settings.confirm_s)
    assert world.outcomes == [(*REFUSED, f"should be on, and {shown_as(world, 0)}")]
    world.pass_s(400)
    assert world.device.value == 0, "a device that shows an old state is ended"


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_a_device_that_is_dead_is_reported(start: Start, key: tuple[str, str]) -> None:
    world = start(key, Habit.DEAD)
    world.order("on")
    world.pass_s(3 * world.settings.confirm_s)
    assert world.outcomes == [(*REFUSED, "should be on, and shows nothing")]


@pytest.mark.parametrize("key", FRESH, ids="-".join)
def test_a_device_that_dies_while_it_obeys_is_reported(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(100)
    world.device.habit = Habit.DEAD
    world.pass_s(FRESH[key] + 3 * world.settings.confirm_s)
    assert world.outcomes == [("done", "obeys", None), (*REFUSED, "should be on, and shows nothing")]


@pytest.mark.parametrize("key", BY_TIMER, ids="-".join)
def test_without_the_adapter_a_device_with_a_timer_ends_within_its_seconds(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(300)
    silent = world.now - world.commands[-1]
    assert world.settings.failsafe_s is not None
    world.pass_s(world.settings.repeat_s + 5 - silent, adapter=False)
    assert world.device.value, "one lost command ends nothing"
    world.pass_s(world.commands[-1] + world.settings.failsafe_s - world.now, adapter=False)
    assert world.device.value == 0


@pytest.mark.parametrize("key", BY_WILL, ids="-".join)
def test_without_the_adapter_the_will_ends_a_device_without_a_timer(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(60)
    will = world.bench.adapter.commands.wills("")[77, Kind(STATES[world.kind])]
    world.device.hear(will.topic, will.payload.decode(), world.now)
    assert world.device.value == 0
    assert world.settings.ends_within_s == WILL_S


TASMOTA = (
    "Rule3 ON Rules#Timer=8 DO Power ON ENDON ON System#Boot DO Power ON ENDON; Rule3 1; RuleTimer8 170; Power OFF"
)
SHELLY = '{"id":1,"src":"commonwatt","method":"Switch.Set","params":{"id":0,"on":%s}}'
LITERAL = {
    ("tasmota", "reduce"): ("cmnd/boiler/Backlog", TASMOTA, "RuleTimer8 0; Rule3 0; Power ON"),
    ("shelly-pm", "reduce"): (
        "shellyplus1pm-a0/rpc",
        SHELLY % 'false,"toggle_after":170',
        SHELLY % "true",
    ),
    ("shelly-gen1-plug", "reduce"): ("shellies/shellyplug-s-7A6D/relay/0/command", "off", "on"),
    ("zigbee2mqtt", "reduce"): ("zigbee2mqtt/cellar/heat pump/set", '{"state":"OFF"}', '{"state":"ON"}'),
    ("zigbee2mqtt-channel", "reduce"): ("zigbee2mqtt/strip/set", '{"state_l1":"OFF"}', '{"state_l1":"ON"}'),
    ("esphome", "reduce"): ("washer/switch/relay/command", "OFF", "ON"),
    ("homeassistant-statestream", "share"): ("homeassistant/number/battery_discharge/set", "2000", "0"),
    ("homeassistant-statestream", "reduce"): ("homeassistant/switch/boiler/set", "off", "on"),
    ("openwb", "reduce"): ("openWB/set/chargepoint/4/set/manual_lock", "true", "false"),
    ("evcc", "share"): ("evcc/site/batteryMode/set", "discharge", "unknown"),
    ("zendure", "share"): ("Zendure/number/HOA1NPN4N1/outputLimit/set", "2000", "0"),
    ("sunspec", "share"): (
        "cellar/battery/704/set",
        '{"WSetRvrtTms":170,"WSetMod":"WATTS","WSet":2000,"WSetEna":"ENABLED"}',
        '{"WSetEna":"DISABLED"}',
    ),
    ("victron", "share"): ("W/c0619ab1/vebus/276/Hub4/L1/AcPowerSetpoint", '{"value":-2000}', '{"value":0}'),
}


@pytest.mark.parametrize("key", COMMANDS, ids="-".join)
def test_topics_and_payloads_are_the_makers(start: Start, key: tuple[str, str]) -> None:
    world = start(key)
    world.order("on")
    world.pass_s(70)
    world.order("off")
    topic, on, off = LITERAL[key]
    assert next((t, p) for _, t, p in world.told if t == topic) == (topic, on)
    assert world.told[-1][1:] == (topic, off)


def test_a_victron_is_kept_publishing_from_the_connection_on_and_not_while_its_broker_is_gone(start: Start) -> None:
    world = start(("victron", "share"))
    assert world.told == [(T + at, "R/c0619ab1/keepalive", "") for at in (1, 26, 51, 76, 101)]
    world.bench.adapter.commands.reached = frozenset()
    world.pass_s(60)
    assert len(world.told) == 5
    assert world.bench.adapter.commands.wake_at is None


STATE_KINDS = {"share": Kind.SHARING, "reduce": Kind.REDUCING}
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


class RandomWorld:
    """An adapter, a device and their broker, with one clock."""

    def __init__(self, store: DeviceStore, key: tuple[str, str], seed: int) -> None:
        self.rng = random.Random(f"{key} {seed}")
        self.settings, self.maker, self.kind = COMMANDS[key], MAKERS[key], STATE_KINDS[key[1]]
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
        world = RandomWorld(open_one(seed), key, seed)
        try:
            world.pass_s(LASTS_S)
            end(world)
        except AssertionError as error:
            error.add_note(f"seed {seed}, {world.device.habit}, at {world.now - T} s, told {world.told[-5:]}")
            raise


def end(world: RandomWorld) -> None:
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
