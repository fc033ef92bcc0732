"""Seven days of three unequal microgrids at one controller, over a line of 1 Mbit/s: who gets how much of it (P3).

The controller's cores and stores are the real ones; line, utility and clock are virtual: a batch takes its bytes' time,
and is acknowledged a round trip later. Every minute each microgrid has new readings.
"""

import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.town import MINUTE_SLOTS, readings
from commonwatt.codec.packing import pack
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.effects import Publish, Write
from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, SLOTS, MicrogridId
from commonwatt.protocol.batches import BatchAck, unpack_batch
from commonwatt.protocol.topics import ACKS, BATCHES, gateway_down
from commonwatt.town.loading import load_town
from commonwatt.town.registry import RegisteredMeter, registry_of
from commonwatt.town.town import Function, Microgrid
from gateway.changes import AppendParts, Part
from gateway.controller import Controller
from gateway.events import Committed, Event, FromUtility, Tick
from gateway.store.store import Store
from harness.docs.measured import Goal, Table, number

DAYS = 7
LINE_BYTES_S = 125_000
SEGMENT_BYTES, HEAD_BYTES = 1400, 90  # bytes of a TCP segment's content, and of its heads with TLS and LTE's network
ROUND_TRIP_S = 0.1
LIVE_MINUTES = 10  # minutes played without a backlog, for comparison
START = 1_782_000_000  # a quarter's start
MINUTE_S = 60
LEAST_BATCHES = 20  # batches of each owner from which Jain's index is judged
TOWN = (
    '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = 1\nhouses = 10\n'
    '[[microgrid]]\nid = "a001"\nkind = "apartment"\nbuildings = 3\napartments = 100\n'
    '[[microgrid]]\nid = "p001"\nkind = "public"\n'
)


@dataclass
class Owner:
    """A microgrid, and what was seen of it."""

    grid: Microgrid
    store: Store
    weight: float
    keys: list[tuple[int, int]]  # meter and type of each series
    left: int = 0  # parts of the backlog that are not acknowledged
    batches: int = 0  # acknowledged ones
    served: float = 0.0  # bytes of these, by weight
    drained_s: float | None = None  # seconds until the backlog was delivered
    since: float | None = None  # when the live data that is not acknowledged yet was due
    waits_s: list[float] = field(default_factory=list)  # from when live data was due to its acknowledgement
    live: set[int] = field(default_factory=set)  # sequences of the batches with it

    def keep(self, minutes: range, rng: np.random.Generator) -> int:
        """Store a part of each series for each of some minutes, of one quarter; return how many."""
        quarter = START // QUARTER_S + minutes[0] // 15
        meter, kind = (np.array(column) for column in zip(*self.keys, strict=True))
        keys = Keys(meter.astype(np.uint64), kind.astype(np.uint8), np.full(len(meter), quarter, np.uint32))
        values, parts = readings(keys.record_type, rng), list[Part]()
        for minute in minutes:
            there = np.broadcast_to(np.arange(SLOTS) // MINUTE_SLOTS == minute % 15, values.shape)
            payloads = pack(make_blocks(keys, values, there * Quality.EXACT))
            parts += [Part(0, key, payload) for key, payload in zip(keys, payloads, strict=True)]
        self.store.commit([AppendParts(tuple(parts))])
        return len(parts)


class World:
    """A controller, its line and a utility that acknowledges everything."""

    def __init__(self, folder: Path, days: float) -> None:
        (folder / "town.toml").write_text(TOWN)
        grids = load_town(folder / "town.toml").microgrids
        self.now = 0.0
        self.owners = {name: _owner(folder, grid) for name, grid in grids.items()}
        self.most_bytes = 0  # the largest batch
        self.flying: deque[tuple[float, bytes]] = deque()  # the end on the line, the batch
        self.spreads: list[float] = []  # after each acknowledgement, bytes of an owner from the mean
        self.jain: list[float] = []
        self._line_free = 0.0
        self._rng = np.random.default_rng(5)
        for owner in self.owners.values():
            quarters = range(-15 * round(days * 96), 0, 15)
            owner.left = sum(owner.keep(range(first, first + 15), self._rng) for first in quarters)
        home, *others = self.owners
        settings = GatewaySettings(microgrid=home)
        self.controller = Controller(settings, self.owners[home].store, _meters(grids[home]))
        for name in others:
            self.controller.host(name, self.owners[name].store, _meters(grids[name]))
        self.controller.time.network(START, START, 0)

    def do(self, event: Event) -> None:
        """Let the controller handle an event and what its commits allow, and put its batches on the line."""
        for each in (event, Committed()):
            for name in self.controller.receivers(each):
                effects = self.controller.handle(name, each, START + int(self.now))
                if changes := [effect.change for effect in effects if isinstance(effect, Write)]:
                    self.owners[name].store.commit(changes)
                for effect in effects:
                    if isinstance(effect, Publish) and effect.topic.endswith(BATCHES):
                        self._send(self.owners[name], effect.payload)

    def _send(self, owner: Owner, batch: bytes) -> None:
        size = len(batch) + HEAD_BYTES * -(-len(batch) // SEGMENT_BYTES)
        self._line_free = max(self._line_free, self.now) + size / LINE_BYTES_S
        self.flying.append((self._line_free + ROUND_TRIP_S, batch))
        if owner.since is not None and not owner.live:
            owner.live.add(unpack_batch(batch).sequence)

    def acknowledge(self) -> None:
        """Acknowledge the next batch at its time, and measure."""
        self.now, payload = self.flying.popleft()
        batch = unpack_batch(payload)
        owner = self.owners[batch.owner]
        flying = self.controller.hosted[batch.owner].relay.in_flight[batch.sequence]
        owner.batches += 1
        owner.served += len(payload) / owner.weight
        self.most_bytes = max(self.most_bytes, len(payload))
        if batch.sequence in owner.live and owner.since is not None:
            owner.waits_s.append(self.now - owner.since)
            owner.since = None
            owner.live.clear()
        self._measure()
        owner.left -= len(flying.selection.done)
        if owner.left <= 0 and owner.drained_s is None:
            owner.drained_s = self.now - MINUTE_S  # since the first relay
        ack = BatchAck(
            time=START + int(self.now),
            utility_store=7,
            store=batch.store,
            sequence=batch.sequence,
            blocks=len(batch.keys),
            events=len(batch.events),
            dead_letters=len(batch.dead_letters),
        )
        self.do(FromUtility(gateway_down(self.controller.id, ACKS), ack.pack()))

    def _measure(self) -> None:
        behind = [owner for owner in self.owners.values() if owner.drained_s is None]
        if len(behind) < 2:
            return
        served = np.array([owner.served for owner in behind])
        self.spreads.append(float(np.abs(served - served.mean()).max()))
        if min(owner.batches for owner in behind) >= LEAST_BATCHES:
            self.jain.append(float(served.sum() ** 2 / (len(served) * (served**2).sum())))

    def play(self, minutes: int | None = None) -> None:
        """Play some minutes, or until everything is delivered."""
        minute = 0
        while minute != minutes and (minutes is not None or any(o.drained_s is None for o in self.owners.values())):
            minute += 1
            while self.flying and self.flying[0][0] <= minute * MINUTE_S:
                self.acknowledge()
            self.now = minute * MINUTE_S
            for owner in self.owners.values():
                kept = owner.keep(range(minute - 1, minute), self._rng)
                owner.left += kept if owner.drained_s is None else 0
                owner.since = self.now if owner.since is None else owner.since
            self.do(Tick("relay_s"))

    def close(self) -> None:
        """Close the stores."""
        for owner in self.owners.values():
            owner.store.close()


def _owner(folder: Path, grid: Microgrid) -> Owner:
    meters = [meter for meter in grid.meters if meter.function is not Function.BOUNDARY]
    keys = [(meter.id, int(kind)) for meter in meters for kind in meter.record_types]
    return Owner(grid, Store.open(folder / f"{grid.id}.db"), 2.0 if grid.kind == "public" else 1.0, keys)


def _meters(grid: Microgrid) -> dict[MeterId, RegisteredMeter]:
    return {meter.id: meter for meter in registry_of(grid).meters}


def _played(days: float, minutes: int | None) -> tuple[World, float]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), days)
        began = time.process_time()
        world.play(minutes)
        world.close()
        return world, time.process_time() - began


def shared_line(*, smoke: bool) -> tuple[Table, tuple[Goal, ...]]:
    """Deliver the backlog of three owners; compare the wait of live data with that without a backlog."""
    quiet, _ = _played(0, LIVE_MINUTES)
    busy, cpu_s = _played(0.05 if smoke else DAYS, None)
    worst = {name: _worst(world.owners) for name, world in (("quiet", quiet), ("busy", busy))}
    rows = tuple(
        (
            name,
            str(len({meter for meter, _ in owner.keys})),
            f"{owner.weight:g}",
            str(owner.batches),
            f"{owner.served * owner.weight / 1e6:.2f} MB",
            f"{owner.drained_s or 0:.0f} s",
            f"{max(owner.waits_s, default=0):.2f} s",
        )
        for name, owner in busy.owners.items()
    )
    table = Table(
        title=f"Seven days of three microgrids at one controller, {number(LINE_BYTES_S * 8 / 1e6)} Mbit/s",
        columns=("microgrid", "meters", "weight", "batches", "sent", "delivered after", "live data within"),
        rows=rows,
    )
    ends = max(owner.drained_s or 0 for owner in busy.owners.values())
    print(f"  three owners: current after {ends:.0f} s, {cpu_s:.0f} s of processor time", flush=True)
    return table, (
        Goal(
            what="three owners: distance from the mean of those with a backlog, bytes by weight, at any time",
            value=max(busy.spreads, default=0) / max(1, busy.most_bytes),
            unit="batches",
            at_most=2,
            limited_by="What live data takes counts when the owner's turn comes again.",
        ),
        Goal(
            what="three owners: weighted index of Jain, at the least",
            value=min(busy.jain, default=1),
            unit="",
            at_least=0.99,
            limited_by="As above.",
        ),
        Goal(
            what="three owners: live data later than without a backlog, at the most",
            value=max(0.0, worst["busy"] - worst["quiet"]),
            unit="s",
            at_most=5,
            limited_by="What is in flight goes before it.",
        ),
    )


def _worst(owners: Mapping[MicrogridId, Owner]) -> float:
    return max(max(owner.waits_s, default=0) for owner in owners.values())
