"""Each preset's command moves an emulated device of its maker, and the loop sees what the device does (M5, M8)."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping.presets import known_presets
from adapters.store import CHANNELS
from commonwatt.config.adapter_commands import WILL_S, AdapterCommand
from commonwatt.device.store import DeviceStore, open_store
from commonwatt.protocol.commands import Kind
from harness.foreign.commanded import MAKERS, WATTS, Commanded, Habit, Message
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
