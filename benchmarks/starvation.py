"""The effect of one gateway that floods the utility on the other 801.

Each of a town's gateways relays the readings of its meters once a minute. Meanwhile another gateway sends a hundred
batches of 200 different dead letters a second, until its quota of the day is used up and beyond: in its own name, then
in the names of all others, for which it may not relay. It runs in one process, on SQLite: the service's own ingest,
without the network.
"""

import asyncio
import gc
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from benchmarks.databases import utility_database
from benchmarks.town import packed_batch
from commonwatt.model.blocks import make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.topics import BATCHES, gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.service import NEW_OBJECTS
from commonwatt.town.town import Microgrid
from harness.docs.measured import Goal, Table, number
from harness.network.waiting import become
from harness.world.world import town_of
from harness.worlds.utility import ingest_of
from utility.readings.tables import dead_letter

GATEWAYS = 801
FLOODS_A_S = 100
DEAD_LETTERS = 200
CONTENT_BYTES = 120
WARM_S = 3.0
QUARTER = 2_000_000
NOW = QUARTER * QUARTER_S + 60
MOST_TIMES = 1.5
QUIET, OWN_NAME, OTHERS_NAMES = "is quiet", "floods", "floods in the others' names"
MOST_MIB = 100.0
"""Most that a sender's dead letters of a day may take on the disk, with their indexes; their content is 32 MiB."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What happened."""

    latencies_s: list[float]  # from each honest batch to its acknowledgement
    offered: int  # dead letters of the flood
    rows: int  # dead letters that are kept
    disk_bytes: int  # the database's size, with its write-ahead log folded in


def _minute(grid: Microgrid, turn: int) -> bytes:
    """Return a gateway's batch of a minute: four slots of each of its meters and types."""
    keys = [(m.id, int(kind), QUARTER + turn // 15) for m in grid.meters for kind in m.record_types]
    quality = np.zeros((len(keys), SLOTS), np.uint8)
    at = 4 * (turn % 15)
    quality[:, at : at + 4] = 2
    blocks = make_blocks(keys, np.where(quality > 0, 5_000, 0), quality)
    return packed_batch(grid.id, turn, NOW, blocks)


def _flood(grid: Microgrid, owner: str, turn: int) -> bytes:
    """Return a batch of different dead letters with arbitrary content, in the name of an owner."""
    dead_letters = [
        DeadLetter(
            meter=grid.meters[0].id,
            log=1,
            reason=7,
            generation=turn,
            record_id=number,
            time=NOW,
            content=(turn * DEAD_LETTERS + number).to_bytes(CONTENT_BYTES),
        )
        for number in range(DEAD_LETTERS)
    ]
    return packed_batch(owner, turn, NOW, make_blocks([], [], []), dead_letters)


async def _play(folder: Path, gateways: int, seconds: float, flood: str) -> Played:
    """Let gateways relay for some seconds, with or without a flood."""
    town = town_of(f'microgrid = [{{id = "r", kind = "residential", count = {gateways + 1}, houses = 10}}]\n')
    sent: dict[str, float] = {}
    latencies: list[float] = []
    *grids, flooder = town.microgrids.values()
    counted_from = math.inf

    def publish(message: Publish) -> None:
        name = message.topic.split("/")[1]
        # The first batches wait for what a start does once, flooded or not.
        if (since := sent.pop(name, None)) is not None and since >= counted_from:
            latencies.append(time.perf_counter() - since)

    with utility_database(f"sqlite:///{folder}/utility.db", town) as database:
        ingest = ingest_of(database, Clock(origin=NOW, monotonic_origin=0, speed=0), publish)
        running = asyncio.create_task(ingest.run())
        # Made beforehand, since another machine makes them in reality.
        named = {QUIET: [], OWN_NAME: [flooder], OTHERS_NAMES: grids}[flood]
        floods = [
            _flood(flooder, named[turn % len(named)].id, turn)
            for turn in range(int(FLOODS_A_S * seconds) + 1 if named else 0)
        ]
        honest = [_minute(grid, 0) for grid in grids]
        end = time.perf_counter() + seconds
        counted_from = end - seconds + (WARM_S if seconds > 2 * WARM_S else 0)

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
            if floods:
                group.create_task(paced(FLOODS_A_S, lambda turn: ingest.offer(topic, floods[turn])))
        await become(lambda: not sent)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ingest.close()
        with database.writes.begin() as connection:
            rows = connection.execute(select(func.count()).select_from(dead_letter)).scalar_one()
    size = (folder / "utility.db").stat().st_size
    return Played(latencies_s=latencies, offered=DEAD_LETTERS * len(floods), rows=rows, disk_bytes=size)


def flooded_utility(*, smoke: bool) -> tuple[Table, tuple[Goal, ...]]:
    """Measure without and with the floods in turn, three times, so that a busy moment of the machine counts less."""
    gc.set_threshold(*NEW_OBJECTS)  # As in the service: else searches for cycles are the longest delays.
    gateways, seconds, rounds = (3, 0.3, 1) if smoke else (GATEWAYS, 20.0, 3)
    found: dict[str, Played] = {}
    for flood in (QUIET, OWN_NAME, OTHERS_NAMES) * rounds:
        with tempfile.TemporaryDirectory() as folder:
            played = asyncio.run(_play(Path(folder), gateways, seconds, flood))
        earlier = found[flood].latencies_s if flood in found else []
        found[flood] = replace(played, latencies_s=earlier + played.latencies_s)
    worst = {flood: float(np.percentile(played.latencies_s, 99)) for flood, played in found.items()}
    grown = max(0, *(found[flood].disk_bytes - found[QUIET].disk_bytes for flood in (OWN_NAME, OTHERS_NAMES)))
    table = Table(
        title=f"{gateways} gateways that relay each minute to the utility, {rounds} times {seconds:g} s",
        columns=("one more gateway", "batches", "median", "99 % within", "dead letters kept", "database"),
        rows=tuple(
            (
                f"{flood}: {number(played.offered)} different dead letters" if played.offered else flood,
                str(len(played.latencies_s)),
                f"{1000 * float(np.median(played.latencies_s)):.1f} ms",
                f"{1000 * worst[flood]:.1f} ms",
                number(played.rows),
                f"{played.disk_bytes / (1 << 20):.0f} MiB",
            )
            for flood, played in found.items()
        ),
    )
    limited_by = "a commit of dead letters in progress"
    return table, (
        *(
            Goal(
                what=f"99 % latency of the other gateways, relative to quiet: one more {flood}",
                value=worst[flood] / worst[QUIET],
                unit="times",
                at_most=MOST_TIMES,
                limited_by=limited_by,
            )
            for flood in (OWN_NAME, OTHERS_NAMES)
        ),
        Goal(
            what="growth of the database by the flood, of which a day has no more",
            value=grown / (1 << 20),
            unit="MiB",
            at_most=MOST_MIB,
            limited_by="the index that knows a dead letter again",
        ),
    )
