"""Hundreds of simulated gateways: synthetic readings, their batches, and connections to a real head-end."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, Keys, Quality, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.batches import Batch, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.topics import BATCHES, gateway_down, gateway_up
from commonwatt.town.town import Function, Microgrid
from harness.network.mqtt import AsyncClient
from harness.real.postgres import Postgres
from harness.real.site import Site

RESOLUTIONS_MWH = (1, 100, 1000)  # resolutions of the meters, mWh
NOISE_MWH = 62  # standard deviation of a reading's noise, mWh: a normal distribution with it has 8.0 bits of entropy

Values = npt.NDArray[np.int64]


def household(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return a house's readings: a base that moves from quarter to quarter, and noise."""
    base = rng.integers(1_000, 20_000, (blocks, 1))
    return _resolved(base + rng.normal(0, NOISE_MWH, (blocks, SLOTS)), resolution)


def solar(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return generation: half of the quarters are night, the others rise or fall, with clouds."""
    slope = rng.normal(0, 40, (blocks, 1)) * np.arange(SLOTS)
    day = np.maximum(rng.integers(5_000, 30_000, (blocks, 1)) + slope + rng.normal(0, NOISE_MWH, (blocks, SLOTS)), 0)
    return _resolved(np.where(rng.random((blocks, 1)) < 0.5, 0, day), resolution)


def levels(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return a battery's levels: steps of one sign, with noise."""
    steps = rng.integers(-20_000, 20_000, (blocks, 1)) + rng.normal(0, NOISE_MWH, (blocks, SLOTS))
    return _resolved(6_500_000 + np.cumsum(steps, axis=1), resolution)


def _resolved(values: npt.NDArray[np.float64], resolution: int) -> Values:
    return np.round(values / resolution).astype(np.int64) * resolution


KINDS: dict[str, tuple[RecordType, Callable[[np.random.Generator, int, int], Values]]] = {
    "household": (RecordType.THROUGH, household),
    "solar": (RecordType.GENERATION, solar),
    "levels": (RecordType.STORED, levels),
}
"""By name: the record type, and the function that makes readings of some quarters at a resolution, mWh."""

RESIDENTIAL = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = {}\n'
WHOLE_TOWN = RESIDENTIAL.format(800) + (
    '[[microgrid]]\nid = "a001"\nkind = "apartment"\nbuildings = 3\napartments = 100\n'
    '[[microgrid]]\nid = "p001"\nkind = "public"\n'
)
"""T1 to T3: 802 controllers, 16,307 meters, and the two at each boundary."""

MINUTE_SLOTS = 4


@dataclass(eq=False)
class Controller:
    """A simulated gateway."""

    id: str  # its name
    token: str  # its token at the head-end
    meter: npt.NDArray[np.uint64]  # uint64 (n,), the meter of each of its series
    record_type: npt.NDArray[np.uint8]  # uint8 (n,), the type of each of its series
    sequence: int = 0  # sequence of its last batch

    def batch(self, keys: Keys, values: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]) -> bytes:
        """Return the next batch, of the slots that are ``there``."""
        self.sequence += 1
        return packed_batch(self.id, self.sequence, int(time.time()), make_blocks(keys, values, there * Quality.EXACT))

    def empty(self) -> bytes:
        """Return an empty batch, which a gateway sends to test the connection to the utility."""
        nothing = np.zeros((0, SLOTS), np.int64)
        return self.batch(Keys.of([]), nothing, nothing > 0)

    def minute(self, minute: int) -> bytes:
        """Return the batch of all series of a minute, epoch seconds // 60: its part of the quarter's readings."""
        quarter = minute * 60 // QUARTER_S
        keys = Keys(self.meter, self.record_type, np.full(len(self.meter), quarter, np.uint32))
        values = readings(self.record_type, np.random.default_rng([quarter, int(self.meter[0])]))
        there = np.arange(SLOTS) // MINUTE_SLOTS == minute % (QUARTER_S // 60)
        return self.batch(keys, values, np.broadcast_to(there, (len(keys), SLOTS)))

    def backlog(self, quarters: range, blocks: int, rng: np.random.Generator) -> Iterator[bytes]:
        """Yield batches of at most ``blocks`` blocks with all of some quarters, the newest first."""
        n = len(self.meter)
        of_quarter = np.repeat(np.array(quarters[::-1], np.uint32), n)
        meter, record_type = np.tile(self.meter, len(quarters)), np.tile(self.record_type, len(quarters))
        for start in range(0, len(meter), blocks):
            some = slice(start, start + blocks)
            keys = Keys(meter[some], record_type[some], of_quarter[some])
            yield self.batch(keys, readings(keys.record_type, rng), np.ones((len(keys), SLOTS), np.bool_))


def packed_batch(owner: str, sequence: int, now: int, blocks: Blocks) -> bytes:
    """Return a batch as a gateway sends it."""
    return Batch(
        owner=owner,
        store=7,
        sequence=sequence,
        time=now,
        keys=blocks.keys(),
        payloads=pack(blocks),
        events=[],
        dead_letters=[],
    ).pack()


def readings(record_type: npt.NDArray[np.uint8], rng: np.random.Generator) -> Values:
    """Return a quarter of readings at 1 mWh for each series: a household's, or a battery's levels."""
    made = household(rng, len(record_type), 1)
    stored = np.flatnonzero(record_type == RecordType.STORED)
    made[stored] = levels(rng, len(stored), 1)
    return made


def controllers(site: Site, *, boundary: bool = True) -> list[Controller]:
    """Return simulated gateways for a site, with or without the meters at the boundaries."""
    return [_controller(site, microgrid, boundary=boundary) for microgrid in site.layout.town.microgrids.values()]


def _controller(site: Site, microgrid: Microgrid, *, boundary: bool) -> Controller:
    meters = [meter for meter in microgrid.meters if boundary or meter.function is not Function.BOUNDARY]
    series = [(meter.id, int(kind)) for meter in meters for kind in meter.record_types]
    tokens = json.loads((site.folder / microgrid.id / "gateway-tokens.json").read_text())
    meter, record_type = zip(*series, strict=True)
    return Controller(microgrid.id, tokens[microgrid.id], np.array(meter, np.uint64), np.array(record_type, np.uint8))


@dataclass(eq=False)
class Uplinks:
    """The gateways' connections to a head-end: they send batches and wait for acknowledgements."""

    latencies_s: list[float] = field(default_factory=list)  # latency of each acknowledged batch, seconds
    refused: int = 0  # batches that the utility refused
    _clients: dict[str, AsyncClient] = field(default_factory=dict)
    _waiting: dict[tuple[str, int], float] = field(default_factory=dict)
    _of: Counter[str] = field(default_factory=Counter)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, port: int, gateways: Sequence[Controller]) -> None:
        """Connect all of them."""
        for one in gateways:
            self._clients[one.id] = await AsyncClient.connect(
                port, one.id, one.token, gateway_down(one.id, "+"), partial(self._heard, one.id)
            )

    def send(self, controller: Controller, batch: bytes, sequence: int | None = None) -> None:
        """Send a batch of a gateway, its last one unless ``sequence`` says which."""
        self._waiting[controller.id, sequence or controller.sequence] = time.monotonic()
        self._of[controller.id] += 1
        self._clients[controller.id].publish(gateway_up(controller.id, BATCHES), batch)

    def say(self, controller: Controller, leaf: str, payload: bytes) -> None:
        """Send a message without acknowledgement, at QoS 0."""
        self._clients[controller.id].publish(gateway_up(controller.id, leaf), payload, 0)

    def waiting(self) -> int:
        """Return the number of unacknowledged batches."""
        return len(self._waiting)

    async def at_most(self, waiting: int, of: Controller | None = None, within_s: float = 120) -> None:
        """Wait until at most so many batches are unacknowledged, of all gateways or ``of`` one."""
        async with asyncio.timeout(within_s):
            while (len(self._waiting) if of is None else self._of[of.id]) > waiting:
                came = self._came
                await came.wait()

    def close(self) -> None:
        """End every connection."""
        for client in self._clients.values():
            client.close()

    def _heard(self, controller: str, topic: str, payload: bytes) -> None:
        if not topic.endswith("/ack"):
            return
        ack = unpack_batch_ack(payload)
        sent = self._waiting.pop((controller, ack.sequence), None)
        self._of[controller] -= sent is not None
        if ack.status is not BatchRefusal.NONE:
            self.refused += 1
        elif sent is not None:
            self.latencies_s.append(time.monotonic() - sent)
        # This wakes the present waiters; later ones wait for the next event.
        self._came.set()
        self._came = asyncio.Event()


def use_server(site: Site, server: Postgres | None, compact_s: int = 900) -> None:
    """Set the utility's gap finder, compaction and database as in an installation, with a separate database."""
    config = site.layout.part("utility").config
    lines = [line for line in config.read_text().splitlines() if not line.startswith(("gaps_s", "gap_age_s"))]
    text = "\n".join([*lines, f"compact_s = {compact_s}"]) + "\n"
    if server is not None:
        name = f"town_{site.address('utility', 'http')[1]}"
        server.execute(f"CREATE DATABASE {name}")
        site.register(server.url_of(name))
        text = text.replace("sqlite:///utility.db", server.url_of(name))
    config.write_text(text)
