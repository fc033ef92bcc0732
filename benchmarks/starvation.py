"""The effect of one gateway that floods the utility on the other 801.

Each of a town's gateways relays the readings of its meters once a minute. Meanwhile another gateway sends a hundred
batches of 200 dead letters a second, each 590 bytes long. It runs in one process, on SQLite: the service's own ingest,
without the network.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.report import Goal, Section, Table
from commonwatt.codec.packing import pack
from commonwatt.codec.payloads import Payloads
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.topics import BATCHES, gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Microgrid, load_town
from harness.network.waiting import become
from utility.health import Health
from utility.ingest.ingest import Ingest
from utility.metrics import UtilityMetrics
from utility.store.database import open_database
from utility.store.registration import fill_registry

GATEWAYS = 801
FLOODS_A_S = 100
DEAD_LETTERS = 200
QUARTER = 2_000_000
NOW = QUARTER * QUARTER_S + 60
MOST_TIMES = 2.0


def _minute(grid: Microgrid, turn: int) -> bytes:
    """Return a gateway's batch of a minute: four slots of each of its meters and types."""
    keys = [(m.id, int(kind), QUARTER + turn // 15) for m in grid.meters for kind in m.record_types]
    quality = np.zeros((len(keys), SLOTS), np.uint8)
    at = 4 * (turn % 15)
    quality[:, at : at + 4] = 2
    blocks = make_blocks(keys, np.where(quality > 0, 5_000, 0), quality)
    return _batch(grid.id, turn, blocks.keys(), pack(blocks), [])


def _flood(grid: Microgrid, turn: int) -> bytes:
    """Return a batch of different dead letters with arbitrary content."""
    dead_letters = [
        DeadLetter(meter=grid.meters[0].id, log=1, reason=7, generation=turn, record_id=n, time=NOW, content=bytes(36))
        for n in range(DEAD_LETTERS)
    ]
    empty = make_blocks([], [], [])
    return _batch(grid.id, turn, empty.keys(), pack(empty), dead_letters)


def _batch(owner: str, turn: int, keys: Keys, payloads: Payloads, dead_letters: list[DeadLetter]) -> bytes:
    return Batch(
        owner=owner,
        store=7,
        sequence=turn,
        time=NOW,
        keys=keys,
        payloads=payloads,
        events=[],
        dead_letters=dead_letters,
    ).pack()


async def _play(folder: Path, gateways: int, seconds: float, *, flooded: bool) -> tuple[list[float], int]:
    """Return the latency of each honest batch, seconds, and the number of the flood's answered batches."""
    (folder / "town.toml").write_text(
        f'microgrid = [{{id = "r", kind = "residential", count = {gateways + 1}, houses = 10}}]\n'
    )
    town = load_town(folder / "town.toml")
    sent: dict[str, float] = {}
    latencies: list[float] = []
    answered = 0
    *grids, flooder = town.microgrids.values()

    def publish(message: Publish) -> None:
        nonlocal answered
        name = message.topic.split("/")[1]
        if name == flooder.id:
            answered += 1
        elif name in sent:
            latencies.append(time.perf_counter() - sent.pop(name))

    with closing(open_database(f"sqlite:///{folder}/utility.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        clock = Clock(origin=NOW, monotonic_origin=0, speed=0)
        ingest = Ingest.load(
            database, clock=clock, metrics=UtilityMetrics(), publish=publish, gap_age_s=1800, health=Health(None)
        )
        running = asyncio.create_task(ingest.run())
        # Made beforehand, since another machine makes them in reality.
        floods = [_flood(flooder, turn) for turn in range(int(FLOODS_A_S * seconds) + 1)] if flooded else []
        honest = [_minute(grid, 0) for grid in grids]
        end = time.perf_counter() + seconds

        async def paced(rate: float, send: Callable[[int], None]) -> None:
            began, turn = time.perf_counter(), 0
            while time.perf_counter() < end:
                send(turn)
                turn += 1
                await asyncio.sleep(max(0.0, min(end, began + turn / rate) - time.perf_counter()))

        def relay(turn: int) -> None:
            grid = grids[turn % gateways]
            if grid.id not in sent:  # It has one batch in flight.
                sent[grid.id] = time.perf_counter()
                ingest.offer(gateway_up(grid.id, BATCHES), honest[turn % gateways])

        topic = gateway_up(flooder.id, BATCHES)
        async with asyncio.TaskGroup() as group:
            group.create_task(paced(gateways / 60, relay))
            if flooded:
                group.create_task(paced(FLOODS_A_S, lambda turn: ingest.offer(topic, floods[turn])))
        await become(lambda: not sent)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ingest.close()
    return latencies, answered


def bench(*, smoke: bool = False) -> Section:
    """Measure a minute without the flood and a minute with the flood."""
    gateways, seconds = (3, 0.3) if smoke else (GATEWAYS, 33.0)
    found = {}
    for flooded in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            found[flooded] = asyncio.run(_play(Path(folder), gateways, seconds, flooded=flooded))
    worst = {flooded: float(np.percentile(latencies, 99)) for flooded, (latencies, _) in found.items()}
    table = Table(
        title=f"{gateways} gateways that relay each minute, {seconds:g} s",
        columns=("one more gateway", "batches", "median", "99 % within", "of the flood acknowledged"),
        rows=tuple(
            (
                f"floods: {FLOODS_A_S} batches/s of {DEAD_LETTERS} dead letters" if flooded else "is quiet",
                str(len(latencies)),
                f"{1000 * float(np.median(latencies)):.1f} ms",
                f"{1000 * worst[flooded]:.1f} ms",
                str(answered) if flooded else "",
            )
            for flooded, (latencies, answered) in found.items()
        ),
    )
    return Section(
        title="A gateway that floods the utility",
        about="The service's own ingest on SQLite, from a message to its acknowledgement.",
        tables=(table,),
        goals=(
            Goal(
                what="99 % latency of the others, flooded relative to quiet",
                value=worst[True] / worst[False],
                unit="times",
                at_most=MOST_TIMES,
                limited_by="commits of dead letters, one group at a time",
            ),
        ),
    )
