"""The utility's store on SQLite and PostgreSQL: time to commit and compact received batches, and their size."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import text

from benchmarks.databases import Peer, utility_database
from benchmarks.town import KINDS, RESOLUTIONS_MWH, Values, household, packed_batch
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.batches import batch_owner
from commonwatt.protocol.topics import BATCHES, gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Meter, Microgrid, Town
from harness.docs.measured import Goal, Section, Table, spread
from harness.real.postgres import Postgres
from harness.surroundings.messages import compact, ingest_of
from harness.world.world import town_of
from utility.database.database import Database
from utility.outbox.changes import Append
from utility.readings.ingest import MAX_GROUP
from utility.readings.store.writer import Writer

TOWN = 'microgrid = [{{id = "r", kind = "residential", count = {}}}]\n'
FIRST = 2_000_000
NOW = (FIRST + 500) * QUARTER_S
BLOCKS_A_BATCH = 1_500
MINUTE_SLOTS = 4


@dataclass(frozen=True)
class Size:
    """The extent of the measurement."""

    microgrids: int  # microgrids of the town
    batches: int  # batches of each load
    repeats: int  # measurements of each load
    meters: int  # meters whose bytes are measured
    quarters: int  # quarters of each of these meters
    peer_rows: int  # rows of the peer's load


FULL = Size(microgrids=50, batches=120, repeats=5, meters=200, quarters=96, peer_rows=600_000)
SMOKE = Size(microgrids=2, batches=2, repeats=1, meters=5, quarters=3, peer_rows=1_000)


@dataclass
class Rates:
    """Readings a second of one database, one for each repeat."""

    whole: list[float]
    again: list[float]
    minutes: list[float]
    compacted: list[float]


def messages(town: Town, count: int, *, minute: bool, seed: int) -> tuple[list[tuple[str, bytes]], int]:
    """Return batches as gateways send them, and their number of readings: whole quarters, or four slots of one."""
    rng = np.random.default_rng(seed)
    grids = list(town.microgrids.values())
    made, readings = [], 0
    for batch in range(count):
        grid = grids[batch % len(grids)]
        blocks = _blocks_of(rng, grid, batch // len(grids), minute=minute)
        readings += int((blocks.quality > 0).sum())
        made.append((gateway_up(grid.id, BATCHES), packed_batch(grid.id, batch, NOW, blocks)))
    return made, readings


def _blocks_of(rng: np.random.Generator, grid: Microgrid, turn: int, *, minute: bool) -> Blocks:
    """Return the blocks of a gateway after an outage, or the parts of many gateways' minutes together."""
    meters = [meter.id for meter in grid.meters if RecordType.THROUGH in meter.record_types]
    quarters = -(-BLOCKS_A_BATCH // len(meters))
    keys = [(m, 3, FIRST + turn * quarters + q) for q in range(quarters) for m in meters][:BLOCKS_A_BATCH]
    values = household(rng, len(keys), 1)
    quality = np.full((len(keys), SLOTS), 2)
    if minute:
        at = (turn % (SLOTS // MINUTE_SLOTS)) * MINUTE_SLOTS
        quality[:, :at] = quality[:, at + MINUTE_SLOTS :] = 0
    return make_blocks(keys, values, quality)


async def take_in(database: Database, sent: Sequence[tuple[str, bytes]]) -> float:
    """Return the seconds until every message is acknowledged, by the service's own ingest.

    It runs, and has read the registry, when the first one comes.
    """
    most = 2 * MAX_GROUP
    places = asyncio.Semaphore(most)

    def publish(_: Publish) -> None:
        places.release()

    ingest = ingest_of(database, Clock(origin=NOW, monotonic_origin=0, speed=0), publish)
    task = asyncio.create_task(ingest.run())
    topic, payload = sent[0]
    empty = packed_batch(batch_owner(payload), len(sent), NOW, make_blocks([], [], []))
    for messages in ([(topic, empty)], sent):
        began = time.perf_counter()
        for message in messages:
            await places.acquire()
            ingest.offer(*message)
        for _ in range(most):  # all are acknowledged
            await places.acquire()
        for _ in range(most):
            places.release()
    took = time.perf_counter() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ingest.close()
    return took


def rates(url: str, town: Town, size: Size) -> Rates:
    """Measure one database."""
    found = Rates([], [], [], [])
    whole, readings = messages(town, size.batches, minute=False, seed=1)
    minutes, few = messages(town, size.batches, minute=True, seed=2)
    for _ in range(size.repeats):
        with _database(url, town) as database:
            took = asyncio.run(take_in(database, whole))
            found.whole.append(readings / took)
            found.again.append(readings / asyncio.run(take_in(database, whole)))
            _forget(database)
            took = asyncio.run(take_in(database, whole))
            began = time.perf_counter()
            compact(database, NOW)
            found.compacted.append(readings / (took + time.perf_counter() - began))
            found.minutes.append(few / asyncio.run(take_in(database, minutes)))
    return found


@contextmanager
def _database(url: str, town: Town) -> Iterator[Database]:
    """Open a database with the town in it and no readings."""
    with utility_database(url, town) as database:
        _forget(database)
        yield database


def _forget(database: Database) -> None:
    with database.writes.begin() as connection:
        emptied = "TRUNCATE" if connection.dialect.name == "postgresql" else "DELETE FROM"
        for table in ("batch", "part", "compacted", "series"):
            connection.execute(text(f"{emptied} {table}"))


def bytes_a_reading(url: str, town: Town, size: Size, kind: str, resolution: int) -> float:
    """Return the bytes of the compacted blocks of one kind, with their index."""
    record_type, make = KINDS[kind]
    rng = np.random.default_rng(3)
    meters = [meter for meter in town.meters if record_type in meter.record_types][: size.meters]
    with _database(url, town) as database:
        for quarter in range(FIRST, FIRST + size.quarters):
            _keep(database, meters, record_type, quarter, make(rng, len(meters), resolution))
        compact(database, NOW)
        return _size_of(database) / (len(meters) * size.quarters * SLOTS)


def _keep(database: Database, meters: Sequence[Meter], record_type: int, quarter: int, values: Values) -> None:
    blocks = make_blocks([(m.id, record_type, quarter) for m in meters], values, np.full(values.shape, 2))
    append = Append(
        sender=meters[0].microgrid,
        owner=meters[0].microgrid,
        received=NOW,
        blocks=blocks,
        payloads=pack(blocks),
        events=[],
        dead_letters=[],
    )
    Writer(database).commit([append])


def _size_of(database: Database) -> int:
    with database.writes.begin() as connection:
        if connection.dialect.name == "postgresql":
            sizes = (
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
                " WHERE inhparent = 'compacted'::regclass AND pg_relation_size(inhrelid) > 0"
            )
        else:
            sizes = "SELECT sum(pgsize) FROM dbstat WHERE name IN ('compacted', 'sqlite_autoindex_compacted_1')"
        return int(connection.execute(text(sizes)).scalar_one())


def _peer(server: Postgres, size: Size) -> tuple[list[float], list[float], float]:
    """Return the peer's rates, its rates for the same rows again, and its bytes a reading."""
    first, again, taken = [], [], 0.0
    for _ in range(size.repeats):
        with closing(Peer(server)) as peer:
            first.append(peer.rate(size.peer_rows, size.meters))
            taken = peer.bytes_a_row(size.peer_rows)
            again.append(peer.rate(size.peer_rows, size.meters))
    return first, again, taken


def bench(*, smoke: bool = False) -> Section:
    """Measure both databases and the peer."""
    size = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as server:
        town = town_of(TOWN.format(size.microgrids))
        urls = {"PostgreSQL": server.url, "SQLite": f"sqlite:///{folder}/utility.db"}
        found = {name: rates(url, town, size) for name, url in urls.items()}
        taken = {
            (kind, resolution): {name: bytes_a_reading(url, town, size, kind, resolution) for name, url in urls.items()}
            for kind in KINDS
            for resolution in RESOLUTIONS_MWH
        }
        peer = _peer(server, size)
    return _section(found, taken, peer)


def _section(
    found: dict[str, Rates],
    taken: dict[tuple[str, int], dict[str, float]],
    peer: tuple[list[float], list[float], float],
) -> Section:
    loads = {
        "whole quarter-hours": "whole",
        "the same again": "again",
        "four slots of a quarter": "minutes",
        "whole, and compacted": "compacted",
    }
    rows = [(what, *(spread(getattr(found[name], load)) for name in found)) for what, load in loads.items()]
    peers = {"whole": spread(peer[0]), "again": spread(peer[1])}
    return Section(
        title="Readings made durable by one utility",
        about=f"Batches as gateways send them, {BLOCKS_A_BATCH:,} blocks or parts in each, go through the utility's "
        "own ingest, without a broker: each batch is expanded, checked, appended, and committed durably before it is "
        "acknowledged. *And compacted*: until every block is compacted, one step after the other. The peer, in the "
        "same run on the same PostgreSQL, stores a row for each reading, by COPY into a temporary table and an "
        "upsert.",
        tables=(
            Table(
                title="Readings a second: median (least to most)",
                columns=("load", *found, "peer: a row for each"),
                rows=tuple((*row, peers.get(load, "")) for row, load in zip(rows, loads.values(), strict=True)),
            ),
            Table(
                title="Bytes a reading after compaction, indexes included",
                columns=("readings", "resolution", *found),
                rows=(
                    *(
                        (kind, f"{resolution:,} mWh", *(f"{value:.2f}" for value in by.values()))
                        for (kind, resolution), by in taken.items()
                    ),
                    ("peer: a row for each", "", f"{peer[2]:.1f}", ""),
                ),
            ),
        ),
        goals=_goals(found["PostgreSQL"], statistics.median(peer[0]), taken["household", 1]),
    )


def _goals(server: Rates, peer: float, household_bytes: dict[str, float]) -> tuple[Goal, ...]:
    """Return the goals of the rates of PostgreSQL beside the peer's, and of the bytes a reading of each database."""
    again = statistics.median(server.again) / statistics.median(server.whole)
    return (
        _rate_goal("whole quarter-hours", server.whole, peer, 17),
        _rate_goal("four slots of a quarter", server.minutes, peer, 8),
        _rate_goal("whole, and compacted", server.compacted, peer, 3.4),
        Goal(
            what="PostgreSQL, the same again beside the first time",
            value=again,
            unit="times",
            at_least=0.5,
            limited_by="The index grows.",
        ),
        *(
            Goal(
                what=f"{name}, a household at 1 mWh",
                value=household_bytes[name],
                unit="bytes a reading",
                at_most=most,
                limited_by="A row's head and the seven columns that people query.",
            )
            for name, most in (("PostgreSQL", 3.5), ("SQLite", 3.0))
        ),
    )


def _rate_goal(load: str, samples: Sequence[float], peer: float, least: float) -> Goal:
    """Return a goal as a multiple of the peer in the same run: machines differ, the multiple hardly."""
    return Goal(
        what=f"PostgreSQL, {load}, beside a row for each",
        value=statistics.median(samples) / peer,
        unit="times",
        at_least=least,
        limited_by="Two cores, of which the server's process takes one.",
    )
