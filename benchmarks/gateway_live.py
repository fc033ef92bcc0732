"""A real gateway with a real broker: its record rate, and the cost of its live load."""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from benchmarks.processes import MIB, Costs, memory_bytes
from commonwatt.model.records import HISTORY_BYTES, Log, RecordType
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, Put, Refusal, unpack_put_ack
from commonwatt.protocol.topics import RECORDS, meter_down, meter_up
from commonwatt.town.town import Function, Meter
from harness.docs.measured import Goal, Section, Table, spread
from harness.network.flood import APARTMENTS
from harness.network.mqtt_asyncio import AsyncClient
from harness.real.site import Site
from meter_sim.cli import RECORD

HOMES = '[[microgrid]]\nid = "r002"\nkind = "residential"\n'
FEW = '[[microgrid]]\nid = "r001"\nkind = "apartment"\nbuildings = 1\napartments = 2\n'
KINDS = {"r001": "303 apartment meters", "r002": "20 residential meters"}

RUNS = 3
RUN_S = 6.0
WARM_S = 1.0
DAYS_BACK = 300  # age in days of the first record of clients that put without a pause

HOUR_S = 60.0
HOUR_SPEED = 60.0
LIVE_S = 90.0
SETTLE_S = 30.0  # real seconds until all meters are connected and the gateway has requested their state


class Pusher:
    """A meter that sends its next put as soon as the last one is acknowledged.

    Attributes:
        identity: Its id, as text.
        acknowledged: Records that are durable, for all of its life.
        refused: Puts, or records, that were not taken.
    """

    def __init__(self, meter: Meter, records: int, first_start: int) -> None:
        self.identity = str(meter.id)
        self.acknowledged = self.refused = 0
        self._meter = meter
        self._records = records
        self._first_start = first_start
        self._next_id = 1
        self._puts = self._made()
        self._topic = meter_up(meter.microgrid, meter.id, RECORDS)

    async def connect(self, port: int, token: str) -> None:
        """Connect, without a put."""
        down = meter_down(self._meter.microgrid, self._meter.id, "+")
        self.client = await AsyncClient.connect(port, self.identity, token, down, self._heard)

    def put(self) -> None:
        """Send the next put."""
        self.client.publish(self._topic, next(self._puts))

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            ack = unpack_put_ack(payload)
            self.refused += len(ack.rejected) + (ack.status is not Refusal.NONE)
            self.acknowledged += sum(count for _, count in ack.accepted)
            self.put()

    def _made(self) -> Iterator[bytes]:
        readings = np.random.default_rng(self._meter.id).normal(5_000, 150, self._records).astype(np.int64)
        made = np.zeros(self._records, RECORD)
        made["type"], made["meter"], made["account"] = RecordType.THROUGH, self._meter.id, self._meter.account
        made["reading"] = np.maximum(0, readings)
        while True:
            ids = np.arange(self._next_id, self._next_id + self._records)
            made["id"], made["start"] = ids, self._first_start + SLOT_S * ids
            made["end"] = made["start"] + SLOT_S
            content = made.tobytes()
            yield Put(
                log=Log.HISTORY,
                generation=1,
                first_id=int(ids[0]),
                last_id=int(ids[-1]),
                records=tuple(content[at : at + HISTORY_BYTES] for at in range(0, len(content), HISTORY_BYTES)),
            ).pack()
            self._next_id += self._records


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The rate at which records became durable."""

    per_s: list[float]  # records a second, for each run
    cores: dict[str, float]  # busy cores, by process


def pushers(site: Site, records: int) -> list[Pusher]:
    """Return the meters of the first microgrid, without its boundary meters."""
    first_start = (int(time.time()) // SLOT_S - DAYS_BACK * 86_400 // SLOT_S) * SLOT_S
    inside = [meter for meter in site.layout.town.microgrids["r001"].meters if meter.function is not Function.BOUNDARY]
    return [Pusher(meter, records, first_start) for meter in inside]


async def push(site: Site, meters: list[Pusher], runs: int, seconds: float) -> Rate:
    """Let all meters put for some seconds, several times."""
    _, port = site.address("r001 broker")
    tokens = json.loads((site.folder / "r001" / "meter-tokens.json").read_text())
    for meter in meters:
        await meter.connect(port, tokens[meter.identity])
    for meter in meters:
        meter.put()
    await asyncio.sleep(min(WARM_S, seconds))
    costs = Costs({name.removeprefix("r001 "): process.pid for name, process in site.processes.items()})
    rates = []
    for _ in range(runs):
        before, started = sum(meter.acknowledged for meter in meters), time.monotonic()
        await asyncio.sleep(seconds)
        rates.append((sum(meter.acknowledged for meter in meters) - before) / (time.monotonic() - started))
    cores = costs.cores()
    for meter in meters:
        meter.client.close()
    refused = sum(meter.refused for meter in meters)
    assert not refused, f"{refused} puts or records were refused"
    return Rate(per_s=rates, cores=cores)


def rate(folder: Path, town: str, broker: str, records: int, runs: int, seconds: float) -> Rate:
    """Measure one broker with puts of ``records`` records."""
    with Site(folder, town, speed=1) as site:
        if broker == "Mosquitto":
            site.put_mosquitto("r001 broker")
        site.add_setting("r001 gateway", "commit_s = 0")
        site.start("r001 broker", "r001 gateway")
        return asyncio.run(push(site, pushers(site, records), runs, seconds))


@dataclass(frozen=True, kw_only=True)
class Live:
    """A microgrid after an hour."""

    memory: dict[str, int]  # bytes, by part
    records: int  # records that its gateway has stored


def start(site: Site) -> list[str]:
    """Start all parts of a town; return the names of its gateways and brokers."""
    names = [part.name for part in site.layout.processes]
    site.start(*names)
    return [name for name in names if name.endswith((" gateway", " broker"))]


def after_an_hour(site: Site, seconds: float) -> dict[str, Live]:
    """Let a town run; return the memory and the stored records of its microgrids."""
    names = start(site)
    Event().wait(seconds)
    memory = {name: memory_bytes(site.processes[name].pid) for name in names}
    return {
        microgrid: Live(
            memory={part: memory[f"{microgrid} {part}"] for part in ("gateway", "broker")},
            records=sum((site.status(f"{microgrid} gateway") or {})["records"].values()),
        )
        for microgrid in site.layout.town.microgrids
    }


def cores(site: Site, settle_s: float, seconds: float) -> dict[str, float]:
    """Let a town settle, then run; return the busy cores of each gateway and broker."""
    names, pause = start(site), Event()
    pause.wait(settle_s)
    costs = Costs({name: site.processes[name].pid for name in names})
    pause.wait(seconds)
    return costs.cores()


def bench(*, smoke: bool = False) -> Section:
    """Measure both."""
    town = FEW if smoke else APARTMENTS
    rates: dict[tuple[str, int], Rate] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for broker in ("amqtt",) if smoke else ("amqtt", "Mosquitto"):
            for records in (1,) if smoke else (1, MAX_PUT_RECORDS):
                place = folder / f"{broker}-{records}"
                each = rate(place, town, broker, records, 1 if smoke else RUNS, 0.2 if smoke else RUN_S)
                rates[broker, records] = each
                print(f"  {broker}, {records} records a put: {spread(each.per_s)} records/s", flush=True)
        homes = "" if smoke else HOMES
        with Site(folder / "hour", town + homes, speed=HOUR_SPEED) as site:
            found = after_an_hour(site, 1.0 if smoke else HOUR_S)
        busy: dict[str, float] = {}
        if not smoke:
            with Site(folder / "live", town + homes, speed=1) as site:
                busy = cores(site, SETTLE_S, LIVE_S)
    return Section(
        title="A gateway at work",
        about=(
            "Stored records: 303 clients put to a real broker; each sends its next put as soon as a real gateway has "
            "acknowledged the last one, after its commit, which waits for no other put (`commit_s = 0`). Nothing is "
            "relayed meanwhile. Live load: an apartment microgrid and a residential one, each with real meters, its "
            "broker (amqtt) and its gateway, relay to a real utility. Memory after an hour is measured at sixty times "
            "the speed, in one minute; processor time "
            f"at normal speed, for {LIVE_S:.0f} s after {SETTLE_S:.0f} s to settle."
        ),
        tables=(_rates(rates), _lives(found, busy)),
        goals=() if smoke else tuple(_goals(found, busy)),
    )


def _rates(rates: dict[tuple[str, int], Rate]) -> Table:
    return Table(
        title="Stored records, from the put to its acknowledgement",
        columns=("broker", "records in a put", "records/s", "puts/s", "cores busy: broker", "gateway"),
        rows=tuple(
            (
                broker,
                f"{records:,}",
                spread(each.per_s),
                spread([per_s / records for per_s in each.per_s]),
                f"{each.cores['broker']:.2f}",
                f"{each.cores['gateway']:.2f}",
            )
            for (broker, records), each in rates.items()
        ),
    )


def _lives(found: dict[str, Live], busy: dict[str, float]) -> Table:
    return Table(
        title="The live load",
        columns=(
            "microgrid",
            "records in the hour",
            "memory after it, gateway",
            "broker",
            "of a core, gateway",
            "broker",
        ),
        rows=tuple(
            (
                KINDS[microgrid],
                f"{each.records:,}",
                *(f"{each.memory[part] / MIB:.0f} MiB" for part in ("gateway", "broker")),
                *(f"{100 * busy.get(f'{microgrid} {part}', 0.0):.1f} %" for part in ("gateway", "broker")),
            )
            for microgrid, each in found.items()
        ),
    )


def _goals(found: dict[str, Live], busy: dict[str, float]) -> Iterator[Goal]:
    for microgrid, most_mb in (("r001", 100), ("r002", 80)):
        yield Goal(
            what=f"memory of the gateway of {KINDS[microgrid]} after an hour",
            value=found[microgrid].memory["gateway"] / 1e6,
            unit="MB",
            at_most=most_mb,
            limited_by="Python and its libraries take most of it before the first meter connects.",
        )
    yield Goal(
        what=f"processor time of the gateway of {KINDS['r001']}",
        value=100 * busy["r001 gateway"],
        unit="% of a core",
        at_most=10,
        limited_by="Each message passes the MQTT client and needs a commit.",
    )
