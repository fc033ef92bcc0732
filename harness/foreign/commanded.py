"""Emulated foreign devices that take commands as their makers' do, with good and bad habits.

A device is pure: messages and the time in, messages out. So it runs on a virtual clock and on a real broker alike.
Its value is what it does: the watts that its battery gives, or 1 for a load that it sheds; 0 is its normal state.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

WATTS = 2000  # what the batteries are told to give
LATE_S = 20  # seconds that a late device takes
ALIVE_S = 60  # seconds that a Victron GX publishes after a keep-alive
EVCC_EXTERNAL_S = 60  # seconds that evcc keeps an external mode; it looks each second
EVCC_INTERVAL_S = 30  # seconds between evcc's changes of the battery
VICTRON_SETPOINT_S = 60  # seconds that a Multi keeps a setpoint


class Message(NamedTuple):
    """A message that a device publishes."""

    topic: str
    payload: str
    retain: bool


class Habit(Enum):
    """How a device behaves."""

    OBEYS = "obeys"
    DISOBEYS = "disobeys"  # shows its state and stays as it is
    HALF = "half"  # gives 40 %; a relay sheds, and does not switch on again
    LATE = "late"  # after ``LATE_S``
    STALE = "stale"  # obeys, and shows its state of before
    DEAD = "dead"  # has no power: does nothing and shows nothing


class Order(NamedTuple):
    """What a command asks for."""

    value: int  # what the device is to do
    back_s: float | None = None  # seconds after which it returns to normal by itself; ``None``: never


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Topics, payloads and times of one maker's device."""

    source: str  # ``source`` of its meter
    channel: str = "0"  # ``channel`` of its meter
    told: str  # the topic of its commands
    read: Callable[[str], Order | None]  # the meaning of a command; ``None``: it is no command of this device
    shown: str  # the topic of its state
    show: Callable[[int], str]  # the state that means a value
    full: int = 1  # the value of a device that obeys
    retain: bool = False  # whether its broker keeps its state
    every_s: float | None = None  # seconds between its states without a change; ``None``: none
    answers: bool = True  # whether it shows its state after each command; else only after changes
    interval_s: float = 1  # it acts at multiples of these seconds
    alive: str | None = None  # the topic without whose messages it stops to publish


@dataclass
class Commanded:
    """A device."""

    maker: Maker
    habit: Habit = Habit.OBEYS
    value: int = 0  # what it does
    _back_at: float | None = field(default=None, repr=False)
    _order: Order | None = field(default=None, repr=False)
    _due: float = field(default=0.0, repr=False)
    _next: float = field(default=0.0, repr=False)
    _alive_until: float = field(default=0.0, repr=False)

    def hear(self, topic: str, payload: str, now: float) -> list[Message]:
        """Take a message; return what it publishes at once."""
        if self.habit is Habit.DEAD:
            return []
        if topic == self.maker.alive:
            self._alive_until = now + ALIVE_S
            return self.state(now)
        order = self.maker.read(payload) if topic == self.maker.told else None
        if order is None:
            return []
        if self.habit is Habit.HALF and self.maker.full > 1:
            order = order._replace(value=order.value * 2 // 5)
        ignores = self.habit is Habit.DISOBEYS or (
            self.habit is Habit.HALF and self.maker.full == 1 and not order.value
        )
        if not ignores:
            self._back_at = None if order.back_s is None or not order.value else now + order.back_s
            if order.value == self.value:
                self._order = None
            elif self._order is None or self._order.value != order.value:
                self._due = -(-now // self.maker.interval_s) * self.maker.interval_s
                self._due += LATE_S if self.habit is Habit.LATE else 0
                self._order = order
        changes = self.run(now)
        return changes or (self.state(now) if self.maker.answers else [])

    def run(self, now: float) -> list[Message]:
        """Do what is due; return what it publishes."""
        if self.habit is Habit.DEAD:
            return []
        before = self.value
        if self._order is not None and now >= self._due:
            self.value, self._order = self._order.value, None
        if self._back_at is not None and now >= self._back_at:
            self.value, self._back_at, self._order = 0, None, None
        if self.value != before or (self.maker.every_s is not None and now >= self._next):
            self._next = now + (self.maker.every_s or 0)
            return self.state(now)
        return []

    def restart(self, now: float) -> list[Message]:
        """Lose power: it forgets its commands, and shows its state when it is back."""
        self.value, self._order, self._back_at = 0, None, None
        return [] if self.habit is Habit.DEAD else self.state(now)

    def state(self, now: float) -> list[Message]:
        """Return its state, as it shows it."""
        if self.maker.alive is not None and now > self._alive_until:
            return []
        shown = 0 if self.habit is Habit.STALE else self.value
        return [Message(self.maker.shown, self.maker.show(shown), self.maker.retain)]


def _either(on: str, off: str) -> Callable[[str], Order | None]:
    return {on: Order(1), off: Order(0)}.get


def _words(on: str, off: str) -> Callable[[int], str]:
    return lambda value: on if value else off


def _tasmota(payload: str) -> Order | None:
    """Do as a Tasmota with a rule: a countdown switches on only by an enabled rule."""
    value = timer = None
    rule, enabled = "", False
    for command in payload.split(";"):
        name, _, given = command.strip().partition(" ")
        match name, given:
            case "Power", "OFF" | "ON":
                value = int(given == "OFF")
            case "RuleTimer8", _:
                timer = int(given)
            case "Rule3", "0" | "1":
                enabled = given == "1"
            case "Rule3", _:
                rule = given
            case _:
                return None
    ends = enabled and "ON Rules#Timer=8 DO Power ON ENDON" in rule
    return None if value is None else Order(value, timer if ends and timer else None)


def _shelly(payload: str) -> Order | None:
    content = json.loads(payload)
    params = content["params"]
    if content["method"] != "Switch.Set" or params["id"] != 0 or not content["src"]:
        return None
    return Order(int(not params["on"]), params.get("toggle_after"))


def _zigbee(key: str) -> Callable[[str], Order | None]:
    return lambda payload: {"OFF": Order(1), "ON": Order(0)}.get(json.loads(payload).get(key))


def _victron(payload: str) -> Order:
    # A setpoint below zero feeds into the grid.
    return Order(max(0, -json.loads(payload)["value"]), VICTRON_SETPOINT_S)


def _evcc(payload: str) -> Order | None:
    kept = EVCC_EXTERNAL_S + 1 + EVCC_INTERVAL_S
    return {"discharge": Order(WATTS, kept), "normal": Order(0), "hold": Order(0), "unknown": Order(0)}.get(payload)


def _sunspec(payload: str) -> Order | None:
    points = json.loads(payload)
    if points["WSetEna"] == "DISABLED":
        return Order(0)
    return Order(points["WSet"], points.get("WSetRvrtTms")) if points["WSetMod"] == "WATTS" else None


def _number(payload: str) -> Order | None:
    return Order(int(payload)) if re.fullmatch(r"\d+", payload) else None


MAKERS: dict[tuple[str, str], Maker] = {
    ("tasmota", "reduce"): Maker(
        source="boiler",
        told="cmnd/boiler/Backlog",
        read=_tasmota,
        shown="stat/boiler/POWER",
        show=_words("OFF", "ON"),
    ),
    ("shelly-pm", "reduce"): Maker(
        source="shellyplus1pm-a0",
        told="shellyplus1pm-a0/rpc",
        read=_shelly,
        shown="shellyplus1pm-a0/status/switch:0",
        show=lambda value: json.dumps({"id": 0, "source": "MQTT", "output": not value, "apower": 0.0}),
        every_s=60,
    ),
    ("shelly-gen1-plug", "reduce"): Maker(
        source="shellyplug-s-7A6D",
        told="shellies/shellyplug-s-7A6D/relay/0/command",
        read=_either("off", "on"),
        shown="shellies/shellyplug-s-7A6D/relay/0",
        show=_words("off", "on"),
        every_s=30,
    ),
    ("zigbee2mqtt", "reduce"): Maker(
        source="cellar/heat pump",
        told="zigbee2mqtt/cellar/heat pump/set",
        read=_zigbee("state"),
        shown="zigbee2mqtt/cellar/heat pump",
        show=lambda value: json.dumps({"energy": 12.5, "power": 0, "state": _words("OFF", "ON")(value)}),
    ),
    ("zigbee2mqtt-channel", "reduce"): Maker(
        source="strip",
        channel="l1",
        told="zigbee2mqtt/strip/set",
        read=_zigbee("state_l1"),
        shown="zigbee2mqtt/strip",
        show=lambda value: json.dumps({"state_l1": _words("OFF", "ON")(value), "state_l2": "ON"}),
    ),
    ("esphome", "reduce"): Maker(
        source="washer/sensor/total_energy",
        channel="relay",
        told="washer/switch/relay/command",
        read=_either("OFF", "ON"),
        shown="washer/switch/relay/state",
        show=_words("OFF", "ON"),
        retain=True,
    ),
    ("homeassistant-statestream", "share"): Maker(
        source="battery_energy",
        channel="battery_discharge",
        told="homeassistant/number/battery_discharge/set",
        read=_number,
        shown="homeassistant/number/battery_discharge/state",
        show=lambda value: f"{value}.0",
        full=WATTS,
        retain=True,
        answers=False,
    ),
    ("homeassistant-statestream", "reduce"): Maker(
        source="boiler_energy",
        channel="boiler",
        told="homeassistant/switch/boiler/set",
        read=_either("off", "on"),
        shown="homeassistant/switch/boiler/state",
        show=_words("off", "on"),
        retain=True,
        answers=False,
    ),
    ("openwb", "reduce"): Maker(
        source="4",
        told="openWB/set/chargepoint/4/set/manual_lock",
        read=_either("true", "false"),
        shown="openWB/chargepoint/4/set/manual_lock",
        show=_words("true", "false"),
        retain=True,
    ),
    ("evcc", "share"): Maker(
        source="evcc",
        told="evcc/site/batteryMode/set",
        read=_evcc,
        shown="evcc/site/battery/power",
        show=str,
        full=WATTS,
        retain=True,
        every_s=EVCC_INTERVAL_S,
        answers=False,
        interval_s=EVCC_INTERVAL_S,
    ),
    ("zendure", "share"): Maker(
        source="HOA1NPN4N1",
        told="Zendure/number/HOA1NPN4N1/outputLimit/set",
        read=_number,
        shown="Zendure/sensor/HOA1NPN4N1/outputHomePower",
        show=str,
        full=WATTS,
        every_s=10,
    ),
    ("sunspec", "share"): Maker(
        source="cellar/battery",
        told="cellar/battery/704/set",
        read=_sunspec,
        shown="cellar/battery/701",
        show=lambda value: json.dumps({"W": value, "TotWhInj": 400_000, "TotWhAbs": 512_000}),
        full=WATTS,
        every_s=15,
    ),
    ("victron", "share"): Maker(
        source="c0619ab1/battery/512",
        channel="276",
        told="W/c0619ab1/vebus/276/Hub4/L1/AcPowerSetpoint",
        read=_victron,
        shown="N/c0619ab1/vebus/276/Ac/ActiveIn/L1/P",
        show=lambda value: json.dumps({"value": -value}),
        full=WATTS,
        every_s=5,
        alive="R/c0619ab1/keepalive",
    ),
}
"""The device of each preset and each command of it."""
