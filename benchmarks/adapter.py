"""The cost of foreign meters: mapping a message, an adapter's core, and a real adapter with 300 meters."""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.mapping.readers import Readers, readers_of
from adapters.messages import Arrived
from benchmarks.processes import MIB, Costs
from commonwatt.config.adapter import AdapterSettings
from harness.docs.measured import Goal, Section, Table, number, spread
from harness.foreign.devices import Device, Devices, dsmr, shelly, tasmota, zigbee
from harness.foreign.payloads import core_of
from harness.network.waiting import eventually, free_ports
from harness.real import brokers
from harness.real.site import Site

METERS = 300
EVERY_S = 10
FIRST = 20_001
T = 1_790_000_100

MAPPING_US = 20.0
CORE_PER_S = 10_000
CPU_PERCENT = 5.0
MEMORY_MIB = 80.0

DEVICES: dict[str, Callable[[int, str, float], Device]] = {
    "tasmota": tasmota,
    "shelly-pm": shelly,
    "zigbee2mqtt": zigbee,
    "dsmr": dsmr,
}


def settings_of(meters: int, **adapter: object) -> AdapterSettings:
    """Return an adapter's settings with meters of every maker in turn."""
    presets = list(DEVICES)
    return AdapterSettings.model_validate(
        {
            "microgrid": "r001",
            "meter": [{"id": FIRST + n, "preset": presets[n % len(presets)], "source": f"m{n}"} for n in range(meters)],
        }
        | adapter
    )


def messages_of(preset: str, n: int, count: int) -> list[tuple[str, bytes, int]]:
    """Return a device's (topic, payload, time of arrival)."""
    device = DEVICES[preset](FIRST + n, f"m{n}", EVERY_S)
    found = []
    for at in range(T, T + count * EVERY_S, EVERY_S):
        found += [(topic, payload.encode(), at * 1000) for topic, payload, _, _ in device.run(at, idle=False)]
    return found


def mapping_us(readers: Readers, messages: list[tuple[str, bytes, int]]) -> float:
    """Return the microseconds to find and read the value of a message."""
    started = time.perf_counter()
    for topic, payload, _ in messages:
        for _reading in readers.read(topic, payload):
            pass
    return (time.perf_counter() - started) / len(messages) * 1e6


def core_per_s(settings: AdapterSettings, readers: Readers, messages: list[tuple[str, bytes, int]]) -> float:
    """Return the messages a second that a core makes records of."""
    core = core_of(settings, readers)
    # Packet ids in turn, as a broker gives them.
    arrived = [
        Arrived(topic, payload, at=at, retained=False, qos=1, number=n % 65_535 + 1)
        for n, (topic, payload, at) in enumerate(messages)
    ]
    started = time.perf_counter()
    for message in arrived:
        core.message(message)
    return len(messages) / (time.perf_counter() - started)


def live(seconds: float, meters: int) -> tuple[float, float]:
    """Return the share of a core, percent, and the memory, MiB, of a real adapter."""
    (port,) = free_ports(1)
    settings = settings_of(meters)
    town = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n' + "".join(
        f'[[meter]]\nmicrogrid = "r001"\nid = {meter.id}\nrecord_types = ["through", "register"]\n'
        for meter in settings.meter
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        house = brokers.open_to_all(folder / "house", "127.0.0.1", port)
        with (
            Site(folder / "site", town, speed=1) as site,
            brokers.Mosquitto(house, ("127.0.0.1", port), folder / "house.log"),
        ):
            site.start("r001 broker", "r001 gateway")
            config = site.folder / "r001" / "adapter.toml"
            broker = ":".join(map(str, site.address("r001 broker")))
            lines = "".join(
                f'[[meter]]\nid = {m.id}\npreset = "{m.preset}"\nsource = "{m.source}"\n' for m in settings.meter
            )
            config.write_text(
                f'[adapter]\nmicrogrid = "r001"\nbroker = "{broker}"\n'
                f'[adapter.source]\naddress = "127.0.0.1:{port}"\n{lines}'
            )
            command = [sys.executable, "-m", "commonwatt", "adapter", "run", "--config", str(config)]
            with (folder / "adapter.log").open("w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            rng = random.Random(1)  # noqa: S311
            devices = [DEVICES[m.preset](m.id, m.source, EVERY_S) for m in settings.meter]
            for device in devices:
                device.due = time.time() + rng.random() * EVERY_S
            publishing = Devices(devices, port, site.layout.clock)
            try:
                eventually(lambda: (folder / "adapter.log").read_text().count(": connected to") >= meters, 120)
                time.sleep(min(20.0, seconds))
                costs = Costs({"adapter": process.pid})
                time.sleep(seconds)
                return 100 * costs.cores()["adapter"], costs.memory_bytes()["adapter"] / MIB
            finally:
                publishing.close()
                process.kill()
                process.wait()


def bench(*, smoke: bool = False) -> Section:
    """Measure mapping and the core for each maker, then a real adapter for two minutes."""
    count, runs, meters = (20, 1, 4) if smoke else (3000, 7, METERS)
    settings = settings_of(meters)
    readers = readers_of(settings)
    rows, slowest = [], 0.0
    everything: list[tuple[str, bytes, int]] = []
    for n, preset in enumerate(DEVICES):
        messages = messages_of(preset, n, count)
        everything += messages
        mapping = [mapping_us(readers, messages) for _ in range(runs)]
        slowest = max(slowest, statistics.median(mapping))
        rows.append((preset, str(len(messages[0][1])), spread(mapping, "µs")))
    everything.sort(key=lambda message: message[2])
    rates = [core_per_s(settings, readers, everything) for _ in range(runs)]
    cpu_percent, memory_mib = live(1.0 if smoke else 120.0, meters)
    return Section(
        title="Foreign meters",
        about=f"Meters of four makers. *Mapping* finds the rule of a message and reads its value and time. "
        f"The *core* also judges counters, spreads energy over "
        f"slots and makes records. The real adapter has {meters} meters, each with a message every {EVERY_S} s on a "
        "Mosquitto (a Shelly has three), and puts their records to a real broker and gateway.",
        tables=(
            Table(title="Mapping, on one core", columns=("maker", "bytes", "mapping"), rows=tuple(rows)),
            Table(
                title="An adapter",
                columns=("core, messages/s", "real adapter, share of a core", "its memory"),
                rows=((spread(rates), f"{number(cpu_percent)} %", f"{number(memory_mib)} MiB"),),
            ),
        ),
        goals=_goals(slowest, rates, cpu_percent, memory_mib, meters),
    )


def _goals(
    slowest_us: float, rates: Sequence[float], cpu_percent: float, memory_mib: float, meters: int
) -> tuple[Goal, ...]:
    return (
        Goal(
            what="mapping of a message, the slowest maker",
            value=slowest_us,
            unit="µs",
            at_most=MAPPING_US,
            limited_by="Parsing of JSON and of its time.",
        ),
        Goal(
            what="messages made into records by a core",
            value=statistics.median(rates),
            unit="messages/s",
            at_least=CORE_PER_S,
            limited_by="The records of exact slots.",
        ),
        Goal(
            what=f"processor time of a real adapter with {meters} meters",
            value=cpu_percent,
            unit="% of a core",
            at_most=CPU_PERCENT,
            limited_by="Puts to the gateway, and commits.",
        ),
        Goal(
            what=f"memory of a real adapter with {meters} meters",
            value=memory_mib,
            unit="MiB",
            at_most=MEMORY_MIB,
            limited_by="Imports and one connection for each meter.",
        ),
    )
