"""A backlog of twelve hours: one microgrid from gateway to utility, and the whole town at the utility."""

import asyncio
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import MIB, Costs
from benchmarks.town import (
    MINUTE_SLOTS,
    RESIDENTIAL,
    WHOLE_TOWN,
    Controller,
    Uplinks,
    controllers,
    readings,
    use_server,
)
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Keys, Quality, make_blocks
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.batches import BatchRefusal, unpack_batch, unpack_batch_ack
from gateway.relay.outbox import BATCH_PARTS
from gateway.store.changes import AppendParts, Part
from gateway.store.store import Store
from harness.docs.measured import Goal, Section, Table, number, spread
from harness.network.proxy import Fate, Message, Way
from harness.network.waiting import eventually
from harness.real.postgres import Postgres
from harness.real.site import Site

HOURS = 12
RUNS = 3
MINUTES_OF_QUARTER = QUARTER_S // 60

# Blocks in a batch of a backlog: ``BATCH_PARTS`` parts, of which a block has one for each minute.
AS_GATEWAYS_SEND = BATCH_PARTS // MINUTES_OF_QUARTER
# Blocks in a batch of the whole town's backlog.
BATCHES = {"as gateways make them": AS_GATEWAYS_SEND, "nearly as large as may be": 1500}
IN_FLIGHT = 64  # batches of the whole town in flight at once
QUIET_S = 0.5  # seconds after the last acknowledgement until the backlog counts as delivered

ABOUT = (
    "One microgrid: while its line was down, a real gateway stored twelve hours of its 22 meters, a part a minute. "
    "Then the line is restored. The time is measured from the first byte of the new connection to the acknowledgement "
    "of the last batch, which the utility sends after its commit. The whole town: the batches of 802 gateways, made "
    "beforehand and stored in a file, go through a real head-end (Mosquitto) to one utility, "
    f"{IN_FLIGHT} at a time. The time is measured from the first batch to the last acknowledgement."
)

_FRAME = struct.Struct(">HII")  # place of the controller, sequence, length


@dataclass(frozen=True, kw_only=True)
class Drained:
    """The result of one delivered backlog."""

    readings: int  # number of readings
    batches: int  # number of batches
    bytes: int  # bytes on the line
    seconds: float  # time until all batches were committed
    cpu_s: dict[str, float]  # processor time, by process
    memory: dict[str, int]  # memory at the end, bytes, by process


class Watch:
    """Records batches on their way up and their acknowledgements on their way down."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ended = 0.0
        self.batches = self.bytes = 0
        self._sizes: dict[int, int] = {}

    def judge(self, message: Message) -> Fate:
        """Record a message, and forward it."""
        now = time.monotonic()
        self.began = self.began or now
        if message.way is Way.UP and message.leaf == "batch":
            self._sizes[unpack_batch(message.payload).sequence] = len(message.payload)
        if message.way is Way.DOWN and message.leaf == "ack":
            ack = unpack_batch_ack(message.payload)
            size = self._sizes.pop(ack.sequence, 0)
            if ack.status is BatchRefusal.NONE and ack.blocks:
                self.ended = now
                self.batches += 1
                self.bytes += size
        return Fate.PASS

    def is_over(self) -> bool:
        """Return whether all batches are acknowledged, and none came during the last ``QUIET_S``."""
        return bool(self.batches) and not self._sizes and time.monotonic() - self.ended > QUIET_S


def fill(site: Site, hours: float) -> int:
    """Add the readings of every series to the gateway's store, one part a minute; return their number."""
    (gateway,) = controllers(site)
    rng = np.random.default_rng(2)
    end = int(time.time()) // QUARTER_S
    store = Store.open(site.folder / gateway.id / "gateway.db")
    count = 0
    for quarter in range(end - round(4 * hours), end):
        keys = Keys(gateway.meter, gateway.record_type, np.full(len(gateway.meter), quarter, np.uint32))
        values = readings(gateway.record_type, rng)
        for minute in range(MINUTES_OF_QUARTER):
            there = np.broadcast_to(np.arange(SLOTS) // MINUTE_SLOTS == minute, values.shape)
            payloads = pack(make_blocks(keys, values, there * Quality.EXACT))
            store.commit([AppendParts(tuple(Part(0, key, some) for key, some in zip(keys, payloads, strict=True)))])
            count += int(there.sum())
    store.close()
    return count


def drain_one(folder: Path, server: Postgres | None, hours: float) -> Drained:
    """Deliver a gateway's backlog to the utility after its line is restored."""
    watch = Watch()
    with Site(folder, RESIDENTIAL.format(1), speed=1) as site:
        use_server(site, server)
        count = fill(site, hours)
        line = site.proxy("r001 gateway", "head_end", watch.judge)
        line.refuse()
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        costs = Costs({name.removeprefix("r001 "): process.pid for name, process in site.processes.items()})
        line.listen()
        eventually(watch.is_over)
        found = costs.cpu_s(), costs.memory_bytes()
        stored = site.metric("utility", "commonwatt_utility_slots_total")
        assert stored == count, f"{stored} of {count} readings"
    return Drained(
        readings=count,
        batches=watch.batches,
        bytes=watch.bytes,
        seconds=watch.ended - watch.began,
        cpu_s=found[0],
        memory=found[1],
    )


def make_batches(path: Path, gateways: Sequence[Controller], quarters: range, blocks: int) -> None:
    """Write the batches of all gateways to a file, gateway by gateway in turn, in their order of arrival."""
    rng = np.random.default_rng(3)
    coming = dict(enumerate(gateway.backlog(quarters, blocks, rng) for gateway in gateways))
    with path.open("wb") as file:
        while coming:
            for place, batches in list(coming.items()):
                if (batch := next(batches, None)) is None:
                    del coming[place]
                    continue
                file.write(_FRAME.pack(place, gateways[place].sequence, len(batch)) + batch)


def kept_batches(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the gateway's index, the sequence and the batch, in the file's order."""
    with path.open("rb") as file:
        while head := file.read(_FRAME.size):
            place, sequence, length = _FRAME.unpack(head)
            yield place, sequence, file.read(length)


async def send_all(port: int, gateways: Sequence[Controller], path: Path) -> float:
    """Send the batches of a file, ``IN_FLIGHT`` at a time; return the seconds until all are acknowledged."""
    uplinks = Uplinks()
    await uplinks.connect(port, gateways)
    started = time.monotonic()
    for place, sequence, batch in kept_batches(path):
        await uplinks.at_most(IN_FLIGHT - 1)
        uplinks.send(gateways[place], batch, sequence)
    await uplinks.at_most(0)
    seconds = time.monotonic() - started
    uplinks.close()
    assert not uplinks.refused, f"{uplinks.refused} batches were refused"
    return seconds


def drain_town(folder: Path, server: Postgres | None, town: str, hours: int, blocks: int) -> Drained:
    """Send the backlog of every gateway of a town to a real utility; make the backlog at the first call."""
    with Site(folder, town, speed=1) as site:
        use_server(site, server)
        site.put_mosquitto("head-end")
        gateways = controllers(site, boundary=False)
        kept = folder.parent / f"batches-of-{blocks}"
        if not kept.exists():
            end = int(time.time()) // QUARTER_S
            make_batches(kept, gateways, range(end - 4 * hours, end), blocks)
        site.start("head-end", "utility")
        pids = {name: process.pid for name, process in site.processes.items()}
        costs = Costs(pids | ({} if server is None else {"PostgreSQL": server.pid}) | {"generator": os.getpid()})
        seconds = asyncio.run(send_all(site.address("head-end")[1], gateways, kept))
        found = costs.cpu_s(), costs.memory_bytes()
        series = sum(len(gateway.meter) for gateway in gateways)
        stored = site.metric("utility", "commonwatt_utility_slots_total")
        assert stored == series * SLOTS * 4 * hours, f"{stored} readings"
    return Drained(
        readings=int(stored),
        batches=sum(1 for _ in kept_batches(kept)),
        bytes=kept.stat().st_size,
        seconds=seconds,
        cpu_s=found[0],
        memory=found[1],
    )


def bench(*, smoke: bool = False) -> Section:
    """Deliver both backlogs, into SQLite and into PostgreSQL."""
    hours, town, runs = (1, RESIDENTIAL.format(2), 1) if smoke else (HOURS, WHOLE_TOWN, RUNS)
    ones: dict[str, list[Drained]] = {}
    towns: dict[tuple[str, str], Drained] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores: dict[str, Postgres | None] = {"SQLite": None}
        if not smoke:
            stores["PostgreSQL"] = stack.enter_context(Postgres(folder))
        for store, server in stores.items():
            ones[store] = [drain_one(folder / f"{store}{run}", server, hours) for run in range(runs)]
            for name, blocks in list(BATCHES.items())[: 1 if smoke else None]:
                one = towns[store, name] = drain_town(folder / f"{store}-town-{blocks}", server, town, hours, blocks)
                print(f"  the town into {store}, batches {name}: {one.seconds:.1f} s", flush=True)
    return _section(ones, towns)


def _section(ones: dict[str, list[Drained]], towns: dict[tuple[str, str], Drained]) -> Section:
    return Section(
        title="A backlog of twelve hours",
        about=ABOUT,
        tables=(_microgrid_table(ones), _town_table(towns)),
        goals=tuple(_goals(ones, towns)),
        notes=(
            "In addition, a gateway whose line is down tries to connect only every 5 to 10 s.",
            "The published figure for the town's backlog is 4 hours (ACES).",
        ),
    )


def _microgrid_table(ones: dict[str, list[Drained]]) -> Table:
    return Table(
        title="One microgrid, gateway to utility",
        columns=("store", "readings", "batches", "on the line", "seconds", "processor time, gateway", "utility"),
        rows=tuple(
            (
                store,
                f"{runs[0].readings:,}",
                spread([run.batches for run in runs]),
                f"{runs[0].bytes / runs[0].readings:.2f} bytes a reading",
                spread([run.seconds for run in runs], "s"),
                spread([run.cpu_s["gateway"] for run in runs], "s"),
                spread([run.cpu_s["utility"] for run in runs], "s"),
            )
            for store, runs in ones.items()
        ),
    )


def _town_table(towns: dict[tuple[str, str], Drained]) -> Table:
    return Table(
        title="The whole town, batches to commit",
        columns=("store", "batches", "of them", "readings", "seconds", "readings/s", "processor time", "memory"),
        rows=tuple(
            (
                store,
                name,
                f"{one.batches:,}, {one.bytes / one.batches / 1024:.1f} KiB each",
                f"{one.readings:,}",
                number(one.seconds),
                number(one.readings / one.seconds),
                ", ".join(f"{which} {taken:.1f} s" for which, taken in one.cpu_s.items()),
                ", ".join(f"{which} {size / MIB:.0f} MiB" for which, size in one.memory.items()),
            )
            for (store, name), one in towns.items()
        ),
    )


def _goals(ones: dict[str, list[Drained]], towns: dict[tuple[str, str], Drained]) -> Iterator[Goal]:
    """Yield the goals: one microgrid into each store, and the town into the last with batches as gateways make them."""
    for store, runs in ones.items():
        yield Goal(
            what=f"one microgrid, {store}",
            value=statistics.median(run.seconds for run in runs),
            unit="s",
            at_most=2,
            limited_by="The gateway finds, joins and packs its parts on one core, a batch at a time.",
        )
    store, name = list(ones)[-1], next(iter(BATCHES))
    yield Goal(
        what=f"the whole town, {store}, batches {name}",
        value=towns[store, name].seconds,
        unit="s",
        at_most=30,
        limited_by="One process receives, reads and commits each batch; the table shows its processor time.",
    )
