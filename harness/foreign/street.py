"""A street of ten homes on real parts: devices of ten makers on a Mosquitto, an adapter, broker, gateway and utility.

``python -m harness.foreign.street`` shows that batteries share, that loads reduce, that disobedient devices are named,
and that others give then. ``--kills 50`` kills each part so often while batteries share, and measures how long each
device acts on a command. A neighbour's battery stays below its minimum, so that there is always need.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.protocol.commands import ForeignDevice
from commonwatt.runtime.clock import load_clock
from harness.foreign.commanded import MAKERS, WATTS, Commanded, Habit
from harness.foreign.commanded import Message as Said
from harness.network.waiting import PATIENCE_S, eventually, free_ports
from harness.real import brokers, forks
from harness.real.site import Site

CAPACITY_WH = 10_000
NEEDY = 77_000  # the meter of the battery below its minimum
BY_WILL = ("zendure", "homeassistant-statestream")  # batteries whose state their broker ends
SPEED = 20  # town seconds in a real second

HOMES: tuple[tuple[str, str], ...] = (
    ("victron", "share"),
    ("evcc", "share"),
    ("sunspec", "share"),
    ("zendure", "share"),
    ("homeassistant-statestream", "share"),
    ("tasmota", "reduce"),
    ("shelly-pm", "reduce"),
    ("zigbee2mqtt", "reduce"),
    ("esphome", "reduce"),
    ("openwb", "reduce"),
)
# Home Assistant has no preset for a battery: an integrator writes rules and a command.
_OWN = """
[[rule]]
preset = "needy"
topic = "needy/soc"
format = "plain"
kind = "level"
unit = "%"

[[rule]]
preset = "needy"
topic = "needy/energy"
format = "plain"
kind = "register"
unit = "Wh"

[[rule]]
preset = "ha-battery"
topic = "homeassistant/sensor/{device}/state"
format = "plain"
kind = "register"
unit = "kWh"

[[rule]]
preset = "ha-battery"
topic = "homeassistant/sensor/battery_soc/state"
format = "plain"
kind = "level"
unit = "%"

[[command]]
preset = "ha-battery"
kind = "share"
topic = "homeassistant/number/{channel}/set"
on = "{watts}"
off = "0"
confirm = { topic = "homeassistant/number/{channel}/state", on = "{watts}", off = "0" }
failsafe = "will"
"""
_LEVELS: dict[str, Callable[[float], tuple[str, str]]] = {
    "victron": lambda percent: ("N/c0619ab1/battery/512/Soc", json.dumps({"value": percent})),
    "evcc": lambda percent: ("evcc/site/battery/soc", str(percent)),
    "sunspec": lambda percent: ("cellar/battery/713", json.dumps({"SoC": percent})),
    "zendure": lambda percent: ("Zendure/sensor/HOA1NPN4N1/electricLevel", str(percent)),
    "homeassistant-statestream": lambda percent: ("homeassistant/sensor/battery_soc/state", str(percent)),
}


@dataclass
class Home:
    """A home with its device."""

    meter: int  # our id of its meter
    key: tuple[str, str]  # preset and kind of command
    device: Commanded  # its device
    level_wh: float = 0.8 * CAPACITY_WH  # its battery's level
    since: float | None = None  # since when its device acts on a command
    until: float | None = None  # when it ended last

    @property
    def is_battery(self) -> bool:
        """Whether its device is a battery."""
        return self.key[1] == "share"


class Player:
    """Plays all devices on their broker by the town's clock."""

    def __init__(self, homes: list[Home], port: int, clock_file: Path | None) -> None:
        self.homes = homes
        self._clock = load_clock(clock_file)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "devices")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = self._heard
        self._client.connect_async("127.0.0.1", port, 30)
        self._client.loop_start()
        self._at = self._told_at = self._clock.now()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def now(self) -> float:
        """Return the town's time."""
        return self._clock.now()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def set_habit(self, home: Home, habit: Habit) -> None:
        """Change how a device behaves from now on."""
        with self._lock:
            home.device.habit = habit

    def ignore(self, home: Home) -> None:
        """Let a device end what it does, as by a person's hand, and obey nothing more."""
        with self._lock:
            home.device.habit, home.device.value = Habit.DISOBEYS, 0

    def refill(self) -> None:
        """Charge all batteries to where they began."""
        with self._lock:
            for home in self.homes:
                home.level_wh = 0.8 * CAPACITY_WH

    def told(self, now: float) -> Iterator[Said]:
        """Yield what all meters publish every 15 s."""
        for home in self.homes:
            if home.is_battery:
                yield Said(*_LEVELS[home.key[0]](round(home.level_wh / CAPACITY_WH * 100, 2)), False)
        yield Said("needy/soc", "30", False)
        yield Said("needy/energy", str(int(now) % 10**6), False)

    def _heard(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        now = self.now()
        with self._lock:
            for home in self.homes:
                for answer in home.device.hear(message.topic, message.payload.decode(), now):
                    self._client.publish(answer.topic, answer.payload, 1, answer.retain)
                self._note(home, now)

    def _run(self) -> None:
        while not self._stop.is_set():
            now = self.now()
            with self._lock:
                for home in self.homes:
                    for answer in home.device.run(now):
                        self._client.publish(answer.topic, answer.payload, 1, answer.retain)
                    self._note(home, now)
                    if home.is_battery:
                        home.level_wh -= home.device.value * (now - self._at) / 3600
            self._at = now
            if now >= self._told_at:
                self._told_at = now + 15
                with self._lock:
                    for each in self.told(now):
                        self._client.publish(each.topic, each.payload, 1, each.retain)
            time.sleep(0.02)

    @staticmethod
    def _note(home: Home, now: float) -> None:
        if home.device.value and home.since is None:
            home.since, home.until = now, None
        elif not home.device.value and home.since is not None:
            home.since, home.until = None, now


class Street:
    """The street with all its processes."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        (self.port,) = free_ports(1)
        self._folder = folder
        self.homes = [Home(77_001 + n, key, Commanded(MAKERS[key])) for n, key in enumerate(HOMES)]
        self._run = brokers.open_to_all(folder / "mosquitto", "127.0.0.1", self.port)
        self.source: brokers.Mosquitto | None = self._run_source()
        self.site = self._stack.enter_context(Site(folder / "site", self._town(), speed=SPEED))
        self.site.start("head-end", "utility", "r001 broker", "r001 gateway")
        self.adapter_log = folder / "adapter.log"
        self.http = f"127.0.0.1:{free_ports(1)[0]}"
        self.config = self.site.folder / "r001" / "adapter.toml"
        self.config.write_text(self._adapter_file())
        self.player = Player(self.homes, self.port, self.site.folder / "clock.json")
        self.adapter = self.start_adapter()

    def close(self) -> None:
        """Stop everything."""
        self.player.close()
        self.adapter.kill()
        self.adapter.wait()
        self._stack.close()
        if self.source is not None:
            self.source.kill()

    def start_adapter(self) -> Any:
        """Start the adapter."""
        command = [sys.executable, "-m", "commonwatt", "adapter", "run", "--config", str(self.config)]
        self.adapter = forks.start(command, self.adapter_log)
        return self.adapter

    def _run_source(self) -> brokers.Mosquitto:
        return brokers.Mosquitto(self._run, ("127.0.0.1", self.port), self._folder / "mosquitto.log")

    def kill(self, what: str) -> None:
        """Kill a part, or all, by SIGKILL."""
        if what in ("source broker", "all"):  # first: a machine without power publishes no will
            assert self.source is not None
            self.source.kill()
            self.source = None
        if what in ("adapter", "all"):
            self.adapter.kill()
            self.adapter.wait()
        if what in ("gateway", "all"):
            self.site.kill("r001 gateway")

    def restart(self, what: str) -> None:
        """Start again what was killed."""
        if self.source is None:
            self.source = self._run_source()
        if what in ("gateway", "all"):
            self.site.start("r001 gateway")
        if what in ("adapter", "all"):
            self.start_adapter()

    def devices(self) -> dict[int, ForeignDevice]:
        """Return the foreign devices as the gateway knows them, by meter."""
        status = self.site.status("r001 gateway")
        found = {} if status is None else status["meter_states"]
        return {int(m): ForeignDevice.model_validate(one["device"]) for m, one in found.items() if one["device"]}

    def roles(self) -> dict[int, str]:
        """Return each battery's role as the gateway decides, by meter."""
        status = self.site.status("r001 gateway")
        return {} if status is None else {int(meter): one["role"] for meter, one in status["batteries"].items()}

    def command(self, *words: str) -> None:
        """Send the utility's command to the microgrid."""
        config = self.site.layout.part("utility").config
        done = forks.run(
            [sys.executable, "-m", "commonwatt", "utility", "command", "r001", *words, "--config", str(config)]
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def givers(self) -> list[Home]:
        """Return the homes whose battery gives by a command."""
        return [home for home in self.homes if home.is_battery and home.device.value]

    @staticmethod
    def _types(key: tuple[str, str]) -> list[str]:
        return ["through", *(["stored"] if key[1] == "share" else [])]

    def _town(self) -> str:
        text = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 0\nboundary = false\n'
        keys = {NEEDY: ("needy", "share")} | {home.meter: home.key for home in self.homes}
        for meter, key in keys.items():
            battery = f"battery_capacity_mwh = {CAPACITY_WH * 1000}\n" if key[1] == "share" else ""
            shares = "shares = false\n" if meter == NEEDY else ""
            text += f'[[meter]]\nmicrogrid = "r001"\nid = {meter}\nlocation = "home {meter - NEEDY}"\nadapter = true\n'
            text += f"record_types = {json.dumps([*self._types(key), 'register'])}\n{battery}{shares}"
        return text

    def _adapter_file(self) -> str:
        broker = ":".join(map(str, self.site.address("r001 broker")))
        text = f'[adapter]\nmicrogrid = "r001"\nbroker = "{broker}"\nclock = "../clock.json"\nhttp = "{self.http}"\n\n'
        text += f'[[source]]\naddress = "127.0.0.1:{self.port}"\nmqtt = "5"\n\n'
        text += f'[[meter]]\nid = {NEEDY}\npreset = "needy"\nsource = "needy"\ncapacity_wh = {CAPACITY_WH}\n\n'
        for home in self.homes:
            preset, kind = home.key
            maker = home.device.maker
            own = "ha-battery" if preset == "homeassistant-statestream" else preset
            battery = f"capacity_wh = {CAPACITY_WH}\nwatts = {WATTS}\n" if home.is_battery else ""
            text += f'[[meter]]\nid = {home.meter}\npreset = "{own}"\nsource = "{maker.source}"\n'
            text += f'channel = "{maker.channel}"\nobeys = "{kind}"\n{battery}\n'
        return text + _OWN


@contextmanager
def street(folder: Path) -> Iterator[Street]:
    """Run a street in a folder."""
    made = Street(folder)
    try:
        yield made
    finally:
        made.close()


def _seconds_until(street: Street, holds: Callable[[], object], most_s: float) -> float | None:
    """Return the town's seconds until something holds; ``None``: not within ``most_s``."""
    began = street.player.now()
    while not holds():
        if street.player.now() - began > most_s:
            return None
        time.sleep(0.05)
    return street.player.now() - began


def _until_off(street: Street, homes: list[Home]) -> float | None:
    """Return the town's seconds until no device of these acts on a command; ``None``: not within four minutes."""
    return _seconds_until(street, lambda: not any(home.device.value for home in homes), 240)


def all_share(street: Street) -> None:
    """Wait until every battery shares."""
    eventually(lambda: len(street.givers()) == 5, PATIENCE_S * 4)


def disobeying(street: Street, homes: list[Home]) -> dict[int, float | None]:
    """Let devices disobey; return the town's seconds until each is named."""
    for home in homes:
        street.player.ignore(home)
    began, found = street.player.now(), dict[int, float | None]()
    while len(found) < len(homes) and street.player.now() - began < 900:
        for meter, device in street.devices().items():
            if meter in {home.meter for home in homes} and any(one.finding for one in device.states.values()):
                found.setdefault(meter, street.player.now() - began)
        time.sleep(0.1)
    return found


def kills(street: Street, what: str, times: int, rng: random.Random) -> dict[str, list[float | None]]:
    """Kill a part while all batteries share; return the seconds until each device is off, by preset."""
    seconds: dict[str, list[float | None]] = defaultdict(list)
    for _ in range(times):
        street.player.refill()
        all_share(street)
        time.sleep(rng.uniform(0, 2))
        batteries = [home for home in street.homes if home.is_battery]
        street.kill(what)
        began = street.player.now()
        # A will needs its broker: without it such a device goes on.
        ends = [one for one in batteries if one.key[0] not in BY_WILL or what in ("adapter", "gateway")]
        _until_off(street, ends)
        for home in batteries:
            is_off = not home.device.value and home.until is not None
            seconds[home.key[0]].append(max(0.0, (home.until or 0) - began) if is_off else None)
        street.restart(what)
    return seconds


def main() -> None:
    """Show the street, and kill its parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, street(Path(name)) as shown:
        all_share(shown)
        print("all five batteries share")
        three = [home for home in shown.homes if home.key[0] in ("victron", "evcc", "sunspec")]
        named = disobeying(shown, three)
        print("named after seconds:", {meter: named.get(meter) and round(named[meter] or 0) for meter in named})
        print("roles:", shown.roles())
        for home in three:
            shown.player.set_habit(home, Habit.OBEYS)
        for what in ("adapter", "gateway", "source broker", "all") if given.kills else ():
            found = kills(shown, what, given.kills, random.Random(52))
            for preset, seconds in found.items():
                off = [one for one in seconds if one is not None]
                worst = f"{max(off):.0f} s at most" if off else "-"
                print(f"{what}: {preset}: off in {len(off)} of {len(seconds)}, {worst}", flush=True)


if __name__ == "__main__":
    main()
