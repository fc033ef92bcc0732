"""Months of a tenth of the town: through the ingest, to files, and read there."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from benchmarks.databases import utility_database
from benchmarks.store import NOW, take_in
from benchmarks.town import packed_batch, readings
from commonwatt.model.blocks import make_blocks
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.model.words import counted, moment
from commonwatt.protocol.topics import BATCHES, gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Microgrid
from harness.docs.measured import Goal, Section, Table, number
from harness.network.application import Client
from harness.real.jobs import compact
from harness.real.postgres import Postgres
from harness.world.world import town_of
from utility.archive.store.archive import Archive
from utility.archive.store.months import months
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.database.postgres.partitions import first_quarter, month_of, months_later
from utility.webkit.services import Api

TOWN = 'microgrid = [{{id = "r", kind = "residential", count = {}}}]\n'
BLOCKS_A_BATCH = 1_500
NEWEST = first_quarter((2027, 1))  # of which the newest reading is: months before it go to files


@dataclass(frozen=True)
class Size:
    """The extent of the measurement."""

    microgrids: int  # microgrids of the town
    days: int  # days of each month, from its first
    months: int  # months before 2027
    requests: int  # requests of the API


FULL = Size(microgrids=80, days=3, months=1, requests=200)
SMOKE = Size(microgrids=2, days=1, months=1, requests=5)


@dataclass
class Figures:
    """What was measured, on one database."""

    days: int  # in the database at first
    months: int
    ingest_s: float = 0
    archive_s: float = 0
    before_bytes: int = 0  # of the database with all months
    after_bytes: int = 0  # of the database without them
    file_bytes: int = 0
    blocks: int = 0
    database_ms: tuple[float, ...] = ()  # of each request, before
    file_ms: tuple[float, ...] = ()  # of each request, from files


def _batches(grids: Sequence[Microgrid], quarters: range, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield batches with whole quarters, of each microgrid in turn, as after an outage."""
    for grid in grids:
        series = [(meter.id, int(kind)) for meter in grid.meters for kind in meter.record_types]
        step = max(1, BLOCKS_A_BATCH // len(series))
        for at in range(quarters.start, quarters.stop, step):
            some = range(at, min(quarters.stop, at + step))
            keys = [(*one, quarter) for quarter in some for one in series]
            values = readings(np.array([key[1] for key in keys], np.uint8), rng)
            blocks = make_blocks(keys, values, np.full(values.shape, 2))
            yield gateway_up(grid.id, BATCHES), packed_batch(grid.id, at, NOW, blocks)


def _bytes_of(database: Database, url: str) -> int:
    if database.has_one_writer:
        path = Path(url.removeprefix("sqlite:///"))
        return path.stat().st_size - database.free_bytes()
    with database.reads.begin() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _ask(client: Client, numbers: Sequence[int], days: Sequence[int], requests: int) -> tuple[float, ...]:
    """Return the milliseconds of requests for one meter's day each."""
    rng = np.random.default_rng(8)
    took = []
    for _ in range(requests):
        day = int(rng.choice(days))
        query: dict[str, Any] = {"meter": str(rng.choice(numbers)), "start": day * 86_400, "end": (day + 1) * 86_400}
        began = time.perf_counter()
        answer = client.get("/readings", query)
        took.append((time.perf_counter() - began) * 1000)
        assert len(answer.json()["readings"]) == QUARTERS_A_DAY * SLOTS
    return tuple(took)


def measure_one(url: str, folder: Path, size: Size) -> Figures:
    """Fill a database, bring its months to files, and read them."""
    found = Figures(days=size.days * size.months, months=size.months)
    town = town_of(TOWN.format(size.microgrids))
    files = folder / "archive"
    files.mkdir()
    firsts = [first_quarter(months_later(month_of(NEWEST), -back)) for back in range(size.months, 0, -1)]
    days = [first // QUARTERS_A_DAY + day for first in firsts for day in range(size.days)]
    with utility_database(url, town) as database:
        rng, grids = np.random.default_rng(4), list(town.microgrids.values())
        for quarters in (*(range(day * 96, day * 96 + 96) for day in days), range(NEWEST, NEWEST + 1)):
            sent = list(_batches(grids, quarters, rng))
            began = time.perf_counter()
            asyncio.run(take_in(database, sent))
            compact(database, NOW)
            found.ingest_s += time.perf_counter() - began
            print(f"  {moment(quarters.start * QUARTER_S)[:10]}: {found.ingest_s:.0f} s", flush=True)
        clock = Clock(origin=NOW, monotonic_origin=0, speed=0)
        client = Client(make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None))))
        ids = [meter.id for meter in town.meters]
        found.database_ms = _ask(client, ids, days, size.requests)
        found.before_bytes = _bytes_of(database, url)
        archive = Archive(database, files, NOW)
        began = time.perf_counter()
        archive.run(NEWEST)
        found.archive_s = time.perf_counter() - began
        found.after_bytes = _bytes_of(database, url)
        with database.reads.begin() as connection:
            filed = months(connection)
        assert [month.state for month in filed] == ["archived"] * size.months
        found.file_bytes, found.blocks = sum(m.size for m in filed), sum(m.rows for m in filed)
        found.file_ms = _ask(client, ids, days, size.requests)
    return found


def bench(*, smoke: bool = False) -> Section:
    """Measure on SQLite and on PostgreSQL."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as place:
        if not smoke:
            with Postgres(Path(place)) as server:
                found["PostgreSQL"] = measure_one(server.url, Path(place), FULL)
    with tempfile.TemporaryDirectory() as place:
        found["SQLite"] = measure_one(f"sqlite:///{place}/utility.db", Path(place), SMOKE if smoke else FULL)
    rows = tuple((name, *_cells(one)) for name, one in found.items())
    worst = {name: statistics.quantiles(one.file_ms, n=20)[-1] for name, one in found.items()}
    return Section(
        title="Old months in files",
        about=(
            "Eighty microgrids with their boundaries send days of whole months at 1 mWh, as after an outage, through "
            "the service's ingest and the compactor. The months go to files: written, read back and compared, then "
            "gone from the database. "
            "200 requests each ask the API for a day of one meter, from any of these days."
        ),
        tables=(
            Table(
                title="Months to files, and what reads them",
                columns=(
                    *("database", "days", "readings", "ingest", "to files"),
                    *("database, before and after", "file, bytes a reading", "API p50, p95: database"),
                    "API p50, p95: file",
                ),
                rows=rows,
            ),
        ),
        goals=(
            Goal(
                what="a file",
                value=max(one.file_bytes / (one.blocks * SLOTS) for one in found.values()),
                unit="bytes a reading",
                at_most=1.6,
                limited_by="The payload has 1.3 of them.",
            ),
            *(
                Goal(
                    what=f"{name}, a meter's archived day by the API, 95 %",
                    value=p95,
                    unit="ms",
                    at_most=200,
                    limited_by="A row group is read whole.",
                )
                for name, p95 in worst.items()
            ),
        ),
    )


def _cells(one: Figures) -> tuple[str, ...]:
    readings_of = one.blocks * SLOTS
    spans = [
        f"{statistics.median(ms):.0f}, {statistics.quantiles(ms, n=20)[-1]:.0f} ms"
        for ms in (one.database_ms, one.file_ms)
    ]
    return (
        f"{one.days} of {counted(one.months, 'month')}",
        number(readings_of),
        f"{one.ingest_s:,.0f} s",
        f"{one.archive_s:,.1f} s",
        f"{one.before_bytes / 1e6:,.0f} MB, {one.after_bytes / 1e6:,.0f} MB",
        f"{one.file_bytes / readings_of:.2f}",
        *spans,
    )
