"""Foreign meters on a real Mosquitto, to the utility and back to Home Assistant, while processes are killed."""

import json
import random
import re
import shlex
import signal
import sys
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.identity.devices import load_tokens
from commonwatt.model.blocks import Blocks
from commonwatt.model.records import RecordType
from commonwatt.runtime.clock import load_clock
from harness.commands import run_as
from harness.docs.metrics import all_metrics
from harness.foreign.devices import Device, Devices, dsmr, pulses, shelly, tasmota, zigbee
from harness.network.waiting import ended, eventually, free_ports
from harness.real import brokers as mosquitto
from harness.real import forks
from harness.real.site import Site

METERS = {77: "tasmota", 78: "shelly-pm", 79: "zigbee2mqtt", 80: "dsmr", 81: "pulses-x"}
SOURCES = {77: "kitchen", 78: "shellyplus1pm-a8032ab12345", 79: "ground floor/dryer", 80: "dsmr", 81: "garage"}
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n' + "".join(
    f'[[meter]]\nmicrogrid = "r001"\nid = {meter}\nrecord_types = ["through", "register"]\nadapter = true\n'
    for meter in (*METERS, 77001)
)
KILLS = 50


class Adapter:
    """An adapter of a site as a process."""

    def __init__(self, site: Site, source: int) -> None:
        self.config = site.folder / "r001" / "adapter.toml"
        broker = ":".join(map(str, site.address("r001 broker")))
        self.http = f"127.0.0.1:{free_ports(1)[0]}"
        self.config.write_text(
            f'[adapter]\nmicrogrid = "r001"\nbroker = "{broker}"\nclock = "../clock.json"\nhttp = "{self.http}"\n\n'
            f'[adapter.source]\naddress = "127.0.0.1:{source}"\nmqtt = "5"\n\n'
            + "".join(
                f'[[meter]]\nid = {meter}\npreset = "{preset}"\nsource = "{SOURCES[meter]}"\n\n'
                for meter, preset in METERS.items()
            )
            + RULES
        )
        self.log = site.folder / "adapter.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "commonwatt", "adapter", "run", "--config", str(self.config)]
        self.process = forks.start(command, self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


RULES = """
[[rule]]
preset = "pulses-x"
topic = "{device}/pulses"
path = "mwh"
kind = "interval"
unit = "mWh"
time = "t"
queued = true
"""


def slots(blocks: Blocks, meter: int, kind: RecordType) -> list[int]:
    """Return the values of all slots of a meter that are there, in order of time."""
    chosen = blocks.take(np.flatnonzero((blocks.meter == meter) & (blocks.record_type == kind)))
    order = np.argsort(chosen.quarter)
    return [int(value) for value in chosen.values[order][chosen.quality[order] > 0]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, int]]:
    """A town with foreign meters, and the port of the household's broker."""
    folder = tmp_path_factory.mktemp("house")
    (port,) = free_ports(1)
    run = mosquitto.open_to_all(folder / "mosquitto", "127.0.0.1", port)
    with (
        Site(folder / "site", TOWN, speed=30) as site,
        mosquitto.Mosquitto(run, ("127.0.0.1", port), folder / "mosquitto.log"),
    ):
        with site.layout.part("r001 gateway").config.open("a") as config:
            config.write(f'\n[gateway.household]\nplace = "house 1"\naddress = "127.0.0.1:{port}"\n')
        tariff = folder / "tariff.toml"
        tariff.write_text(Path("docs/examples/tariff.toml").read_text().replace("2026-10-01", "2026-06-01"))
        proposed, approved = ("tariff", "propose", str(tariff)), ("do", "tariffs/town/1/approve")
        for words in ((*proposed, "--as", "anna"), (*approved, "--as", "ben")):
            run_as(site.layout.part("utility").config, *words)
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        yield site, port


def test_the_integrators_guide_makes_a_tasmota_a_meter(house: tuple[Site, int], tmp_path: Path) -> None:
    site, port = house
    guide = Path("docs/guides/integrator.md").read_text()
    brokers, meter = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    token = load_tokens(site.folder / "r001" / "meter-tokens.json")["77001"]
    broker = ":".join(map(str, site.address("r001 broker")))
    config = tmp_path / "adapter.toml"
    brokers = brokers.replace("127.0.0.1:1883", broker).replace("127.0.0.1:1884", f"127.0.0.1:{port}")
    config.write_text(brokers.replace("[adapter]", f'[adapter]\nclock = "{site.folder / "clock.json"}"'))
    words = [
        shlex.split(line, comments=False)
        for line in re.findall(r"^commonwatt adapter .*|^commonwatt doctor .*", guide, re.MULTILINE)
    ]
    recording, trying, running, examining = words
    clock = load_clock(site.folder / "clock.json")
    devices = Devices([tasmota(77001, "kitchen", 10)], port, clock)
    adapter = None
    try:
        messages = tmp_path / "messages.jsonl"
        record = forks.start(
            [sys.executable, "-m", *recording[: recording.index(">")]], messages, tmp_path / "err", tmp_path
        )
        eventually(lambda: messages.read_text().count("SENSOR") >= 40)
        record.send_signal(signal.SIGINT)
        assert ended(record, 10) == 0

        def command(words: list[str], code: int = 0) -> str:
            done = forks.run([sys.executable, "-m", *words], cwd=tmp_path)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout

        config.write_text(config.read_text() + meter.replace("TOKEN", token))
        assert "exact slots" in command(trying)
        adapter = forks.start([sys.executable, "-m", *running], tmp_path / "log", folder=tmp_path)
        eventually(lambda: slots(site.dump(), 77001, RecordType.THROUGH))
        command(examining)
    finally:
        devices.close()
        if adapter is not None:
            adapter.terminate()
            assert ended(adapter, 10) == 0


def test_registers_at_the_utility_equal_the_devices_own_after_fifty_kills(house: tuple[Site, int]) -> None:
    """# req: K5, M9"""
    site, port = house
    makers = {"tasmota": tasmota, "shelly-pm": shelly, "zigbee2mqtt": zigbee, "dsmr": dsmr, "pulses-x": pulses}
    devices = Devices(
        [makers[preset](meter, SOURCES[meter]) for meter, preset in METERS.items()],
        port,
        load_clock(site.folder / "clock.json"),
    )
    adapter = Adapter(site, port)
    try:
        eventually(lambda: "connected to" in adapter.log.read_text())
        rng = random.Random(20261121)

        def restart(name: str) -> None:
            site.kill(name)
            site.start(name)

        def restart_adapter() -> None:
            adapter.kill()
            adapter.start()

        victims = [lambda: restart("r001 broker"), lambda: restart("r001 gateway"), restart_adapter]
        for _ in range(KILLS):
            rng.choice(victims)()
        devices.idle = True
        finals = {device.meter: device for device in devices.devices}
        eventually(lambda: arrived(site, finals))
        blocks = site.dump()
        with urllib.request.urlopen(f"http://{adapter.http}/metrics") as answer:
            shown = set(re.findall(r"^# TYPE (commonwatt_\w+)", answer.read().decode(), re.MULTILINE))
        assert shown == {info.name for info in all_metrics()["adapter"]}
    finally:
        devices.close()
        adapter.kill()
    without = {meter["id"]: meter["without"] for meter in site.ask("utility", "/meters")["meters"]}
    assert "no acknowledgement to the device" in without["77"][0]
    assert not without["10001"]
    for meter, device in finals.items():
        registers, through = slots(blocks, meter, RecordType.REGISTER), slots(blocks, meter, RecordType.THROUGH)
        # From the first message that the adapter heard the energy is the difference of two
        # registers, and of the pulse counter each interval once, though its messages waited or came twice.
        assert device.counter - sum(through) in device.shown
        if meter == 81:
            continue
        assert registers[-1] == device.counter
        assert set(registers) <= device.shown, "every register at the utility is one that the device showed"
        assert list(registers) == sorted(registers)
        assert device.counter - sum(through) <= registers[0]


class HomeAssistant:
    """A client of the household's broker that keeps the last message of each topic, as Home Assistant does."""

    def __init__(self, port: int) -> None:
        self.messages: dict[str, tuple[bytes, bool]] = {}
        self.discoveries = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"homeassistant-{id(self)}")
        self._client.on_message = self._hear
        self._client.on_connect = lambda client, *_: client.subscribe([("homeassistant/#", 1), ("commonwatt/#", 1)])
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _hear(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        self.discoveries += message.topic.endswith("/config")
        self.messages[message.topic] = (bytes(message.payload), message.retain)

    def say(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish()

    def value(self, name: str, leaf: str = "state") -> str | None:
        """Return a value of a topic, as its template gives it."""
        payload, _ = self.messages.get(f"commonwatt/{PLACE}/{leaf}", (b"{}", False))
        found: str | None = json.loads(payload).get(name)
        return found

    def available(self) -> bool:
        return self.messages.get(f"commonwatt/{PLACE}/availability") in ((b"online", True), (b"online", False))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


PLACE = "commonwatt_r001_house_1"


def test_home_assistant_has_the_energy_of_a_place_to_the_milliwatt_hour(house: tuple[Site, int]) -> None:
    site, port = house
    found = HomeAssistant(port)

    def shown() -> dict[str, Decimal]:
        return {name: Decimal(found.value(name) or 0) for name in ("energy_out", "energy_in", "generated")}

    try:
        eventually(found.available)
        site.start("r001 meters")
        eventually(lambda: found.value("level") and found.value("sharing") and any(shown().values()))
        site.stop("r001 meters")

        def at_the_utility() -> dict[str, Decimal]:
            blocks = site.dump()
            through, generation = RecordType.THROUGH, RecordType.GENERATION
            sums = {
                "energy_out": slots(blocks, 10001, through),
                "energy_in": slots(blocks, 10002, through),
                "generated": slots(blocks, 10001, generation),
            }
            return {name: sum(values) / Decimal(10**6) for name, values in sums.items()}

        eventually(lambda: not backlog(site) and at_the_utility() == shown())
        energy = shown()

        # Home Assistant starts: it finds everything retained, and everything is published again.
        begun = HomeAssistant(port)
        eventually(lambda: begun.messages.get(f"homeassistant/device/{PLACE}/config", (b"", False))[1])
        eventually(lambda: begun.messages.get(f"commonwatt/{PLACE}/availability") == (b"online", True))
        # The rates of the utility's tariff: a weekend is off-peak.
        eventually(lambda: begun.value("import_price", "prices") == "0.2000")
        assert begun.value("tariff", "prices") == "town"
        begun.close()
        before = found.discoveries
        status = site.status("r001 gateway")
        assert status is not None
        dead_letters = status["backlog"]["dead_letters"]  # Other tests of this town may have left some.
        # Nothing but its start is heard.
        found.say("cw1/r001/d/cmd", '{"v":1,"id":"x","cmd":"schedule","collect_s":15,"until":4294967295}')
        found.say("cw1/r001/10001/u/rec", "junk")
        found.say(f"commonwatt/{PLACE}/sharing/set", "ON")
        found.say("homeassistant/status", "offline")
        found.say("homeassistant/status", "online")
        eventually(lambda: found.discoveries > before)
        status = site.status("r001 gateway")
        assert status is not None
        assert (status["tuned"], status["backlog"]["dead_letters"]) == ([], dead_letters)
        assert status["household"]["connected"]

        site.kill("r001 gateway")
        eventually(lambda: not found.available())
        site.start("r001 gateway")
        eventually(found.available)
        eventually(lambda: found.value("sharing") is None)
        # A record that the gateway committed after `energy` was read counts on both sides.
        eventually(lambda: not backlog(site) and at_the_utility() == shown())
        assert all(shown()[name] >= value for name, value in energy.items())
    finally:
        found.close()


def backlog(site: Site) -> int:
    """Return the parts that wait in the gateway."""
    status = site.status("r001 gateway")
    assert status is not None
    return int(status["backlog"]["parts"])


def arrived(site: Site, devices: dict[int, Device]) -> bool:
    """Return whether the utility has each device's last counter, and all flows up to it.

    After a kill older slots may come behind the newest.
    """
    blocks = site.dump()
    return all(is_whole(blocks, device) for device in devices.values())


def is_whole(blocks: Blocks, device: Device) -> bool:
    registers = slots(blocks, device.meter, RecordType.REGISTER)
    through = slots(blocks, device.meter, RecordType.THROUGH)
    is_last = bool(through) and not any(through[-10:]) and (device.meter == 81 or registers[-1] == device.counter)
    return is_last and device.counter - sum(through) in device.shown
