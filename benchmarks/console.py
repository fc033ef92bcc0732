"""The console before a whole town: times and bytes of pages, browsers that poll, memory, six months of readings."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
from sqlalchemy import text

from benchmarks.console_town import FULL, NOW, SMOKE, Filled, Size, filled
from benchmarks.processes import cpu_s
from benchmarks.report import Goal, Section, Table, number, percentile
from commonwatt.codec.packing import pack
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.service import run_service
from commonwatt.town.town import Town, load_town
from harness.network.waiting import free_ports
from harness.real.postgres import Postgres
from harness.settlement.emulated import EmulatedQuarter, EmulatedTown, small_town
from harness.settlement.truth import DAY
from scenarios.cli import TOWN
from utility.access.roles import Role
from utility.api.rights import COOKIE
from utility.shell import Service
from utility.store import access
from utility.store.bulk import Column, insert_columns
from utility.store.database import Database, open_database
from utility.store.parts import summaries
from utility.store.postgres.partitions import make_partitions, month_of
from utility.store.tables import compacted

BROWSERS, EVERY_S = 50, 5.0
"""Browsers that show the town at once, and how often each asks."""

MOST_MS, MOST_BYTES, MOST_MB, MOST_CORE = 200, 150_000, 250, 0.05
PLOT_MS, MONTH_MS, FIND_MS = 300, 1_000, 100
SIX_MONTHS_DAYS = 182
ACES_TB = 1.8
"""Six months of the town's readings in the ACES report."""

_STARTS_WITHIN_S = 300
_QUIET_S, _QUIET_CORE = 8, 0.05
"""Seconds that its jobs at the start are over, and the core that it uses then at most."""


def bench(*, smoke: bool = False) -> Section:
    """Measure the console on SQLite, and the size of readings on PostgreSQL."""
    size, town = (SMOKE, small_town()) if smoke else (FULL, load_town(TOWN))
    with tempfile.TemporaryDirectory() as folder:
        made = filled(Path(folder), town, size)
        with running(made.path) as (pid, address):
            pages = asyncio.run(_pages(address, _cookie(made.path), made, size, pid))
            asyncio.run(_polled(address, _cookie(made.path), pid, size))  # It also reads the day so far.
            core = asyncio.run(_polled(address, _cookie(made.path), pid, size))
            core -= _idle(pid, size)
            memory_mb = _rss_mb(pid)
        in_file = made.path.stat().st_size
    per_reading = 0.0 if smoke else bytes_of_a_reading(town)
    return _section(town, made, pages, (core, memory_mb, in_file / 1e9), per_reading)


@dataclass(frozen=True)
class Answers:
    """The answers of a page.

    Attributes:
        ms: Milliseconds of each request.
        cpu_ms: Mean milliseconds of the utility's processor time for a request.
        bytes: Bytes of the largest answer.
    """

    ms: list[float]
    cpu_ms: float
    bytes: int

    @property
    def p95(self) -> float:
        """The 95th percentile of the milliseconds."""
        return percentile(self.ms, 95)


Pages = dict[str, Answers]


async def _pages(address: str, cookie: str, made: Filled, size: Size, pid: int) -> Pages:
    today = date(2026, 11, 29)
    meters = list(islice(cycle(made.meters), size.requests))
    found: Pages = {}
    async with httpx.AsyncClient(base_url=address, headers={"Cookie": f"{COOKIE}={cookie}"}, timeout=60) as client:
        for name, paths in {
            "town": ["/console/town"] * size.requests,
            "town, its part that is polled": ["/console/town/live?since=9999999999"] * size.requests,
            "microgrids, 100 rows": [f"/console/microgrids?after={n * 10}" for n in range(size.requests)],
            "a microgrid": [f"/console/microgrids/{m.microgrid}" for m in meters],
            "a microgrid's day": [f"/console/microgrids/{m.microgrid}/day.json?day={today}" for m in meters],
            "meters, 100 rows": [f"/console/meters?after={n * 200}" for n in range(size.requests)],
            "a meter": [f"/console/meters/{m.id}" for m in meters],
            "plot of a day by 15 s": [_plot(m.id, "through", today, 1) for m in meters],
            "plot of a month of readings": [_plot(m.id, "through", today, 31) for m in meters],
            "plot of a settled year": [_plot(m.id, "settled", today, 366) for m in meters],
            "plot of five settled years": [_plot(m.id, "settled", today, 5 * 366) for m in meters],
            "search, three characters": [f"/console/find/results?text={100 + n}" for n in range(size.requests)],
            "the town's completeness of a month": ["/completeness/days?first=2026-11-01&last=2026-11-29"]
            * size.requests,
        }.items():
            found[name] = await _asked(client, paths, pid)
    return found


def _plot(meter: int, what: str, today: date, days: int) -> str:
    first = today - timedelta(days=days - 1)
    return f"/console/meters/{meter}/plot.json?what={what}&from={first}&to={today}"


async def _asked(client: httpx.AsyncClient, paths: Sequence[str], pid: int) -> Answers:
    await client.get(paths[0])  # Also loads what the first request loads.
    times, largest, cpu = list[float](), 0, cpu_s(pid)
    for path in paths:
        began = time.perf_counter()
        answer = await client.get(path)
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, (path, answer.text)
        largest = max(largest, len(answer.content))
    return Answers(times, 1000 * (cpu_s(pid) - cpu) / len(paths), largest)


async def _polled(address: str, cookie: str, pid: int, size: Size) -> float:
    """Return the busy cores of the utility while the browsers poll, with what it does anyway."""
    began, cpu = time.monotonic(), cpu_s(pid)
    ends = began + size.poll_s
    await asyncio.gather(*(_browser(address, cookie, n * EVERY_S / BROWSERS, ends) for n in range(BROWSERS)))
    return (cpu_s(pid) - cpu) / (time.monotonic() - began)


def _idle(pid: int, size: Size) -> float:
    began, cpu = time.monotonic(), cpu_s(pid)
    time.sleep(size.poll_s)
    return (cpu_s(pid) - cpu) / (time.monotonic() - began)


async def _browser(address: str, cookie: str, late_s: float, ends: float) -> None:
    async with httpx.AsyncClient(base_url=address, headers={"Cookie": f"{COOKIE}={cookie}"}, timeout=60) as client:
        await asyncio.sleep(late_s)
        version = "0"
        while time.monotonic() < ends:
            answer = await client.get(f"/console/town/live?since={version}")
            version = answer.text.split("since=")[1].split('"')[0]
            await asyncio.sleep(EVERY_S)


@contextmanager
def running(path: Path) -> Iterator[tuple[int, str]]:
    """Start a utility, without a broker, and wait until its first jobs are done; yield its pid and its address."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.console", str(path), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + _STARTS_WITHIN_S
        while not _answers(address) and time.monotonic() < ends:
            time.sleep(0.2)
        quiet = 0
        while time.monotonic() < ends and quiet < _QUIET_S:
            before = cpu_s(process.pid)
            time.sleep(1)
            quiet = quiet + 1 if cpu_s(process.pid) - before < _QUIET_CORE else 0
        yield process.pid, address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _cookie(path: Path) -> str:
    """Return the cookie of a viewer's session."""
    with closing(open_database(f"sqlite:///{path}", create=False)) as database:
        now = int(time.time())
        with database.writes.begin() as connection:
            if access.find_person(connection, "vera") is None:
                person = access.Person(
                    name="vera",
                    display="Vera",
                    state="active",
                    roles=frozenset({Role.VIEWER}),
                    account=None,
                    created=now,
                )
                access.add_person(connection, person, "benchmark")
                access.set_state(connection, "vera", "active")
            return access.open_session(connection, "vera", "127.0.0.1", "benchmark", now).cookie


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def bytes_of_a_reading(town: Town, quarters: int = 96) -> float:
    """Return the bytes of a reading of a day of the town on PostgreSQL, with indexes."""
    emulated = EmulatedTown(town, "normal").quarters(DAY * 96)
    count = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder)) as server,
        closing(open_database(server.url, create=True)) as database,
    ):
        for one in islice(emulated, quarters):
            count += _append(database, one)
        with database.reads.begin() as connection:
            tree = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('compacted')"
            return float(connection.execute(text(tree)).scalar() or 0) / (count * 60)


def _append(database: Database, one: EmulatedQuarter) -> int:
    """Store the blocks of a quarter as compacted ones."""
    read = one.readings
    keys = list(zip(read.meter.tolist(), read.record_type.tolist(), [one.quarter] * len(read.meter), strict=True))
    blocks = make_blocks(keys, read.values, np.full(read.values.shape, Quality.EXACT))
    same = np.ones(len(blocks), np.int64)
    columns = {"quarter": blocks.quarter.astype(np.int64), "record_type": blocks.record_type.astype(np.int64)}
    columns |= {"meter_no": np.arange(len(blocks)), "received_minute": same, "sender_no": same, "owner_no": same}
    made = {name: Column(values) for name, values in columns.items()} | summaries(blocks)
    with database.writes.begin() as connection:
        make_partitions(connection, {month_of(one.quarter)})
        return insert_columns(connection, compacted, made, list(pack(blocks)))


def _section(
    town: Town, made: Filled, pages: Pages, measured: tuple[float, float, float], per_reading: float
) -> Section:
    core, memory_mb, in_file_gb = measured
    rows = tuple(
        (name, number(percentile(one.ms, 50)), number(one.p95), number(one.cpu_ms), f"{one.bytes / 1000:,.1f}")
        for name, one in pages.items()
    )
    series = sum(len(meter.record_types) for meter in town.meters)
    readings = series * 5_760 * SIX_MONTHS_DAYS
    years = readings * per_reading / 1e12
    whole = [name for name in pages if "plot" not in name and "month" not in name and "search" not in name]
    slowest = max(pages[name].p95 for name in whole)
    by_shared = "The processor is shared with what else runs on the machine."
    goals = (
        Goal(what="pages, p95 of the slowest", value=slowest, unit="ms", at_most=MOST_MS, limited_by=by_shared),
        Goal(
            what="bytes of the largest page",
            value=max(pages[name].bytes for name in whole),
            unit="bytes",
            at_most=MOST_BYTES,
            limited_by="The 802 links of the town.",
        ),
        Goal(
            what="a meter's plot of five years, p95",
            value=pages["plot of five settled years"].p95,
            unit="ms",
            at_most=PLOT_MS,
            limited_by=by_shared,
        ),
        Goal(
            what="the town's completeness of a month, p95",
            value=pages["the town's completeness of a month"].p95,
            unit="ms",
            at_most=MONTH_MS,
            limited_by=by_shared,
        ),
        Goal(
            what="search as one types, p95",
            value=pages["search, three characters"].p95,
            unit="ms",
            at_most=FIND_MS,
            limited_by="It looks at every registered meter.",
        ),
        Goal(
            what=f"{BROWSERS} browsers that show the town",
            value=max(0.0, round(core, 4)),
            unit="cores",
            at_most=MOST_CORE,
            limited_by="Each request looks up its session.",
        ),
        Goal(what="memory of the utility", value=memory_mb, unit="MB", at_most=MOST_MB, limited_by="Its libraries."),
    )
    about = (
        f"The whole utility as a process of its own, without a broker, on SQLite: {len(town.microgrids)} microgrids, "
        f"{len(town.meters):,} meters, {made.settled_rows:,} settled days of five years, {made.blocks:,} blocks: a "
        "month of a tenth of the microgrids, the last two days of all. The payloads of the meters that are shown are "
        f"made for them, the others are copies. The file has {number(in_file_gb)} GB. Requests come one after the "
        "other, by HTTP on the same machine, each with a session, between two runs of the hourly jobs. The cost of the "
        "browsers is the utility's processor time while they poll, less its processor time without them, just after."
    )
    note = (
        "The size of six months is extrapolated from one emulated day of all meters, with the columns for queries. A "
        f"month of every meter would have about {number(series * 96 * 31 / 1e6)} million blocks in the SQLite file."
    )
    return Section(
        title="The console before a whole town",
        about=about,
        tables=(
            Table(
                title="Answers",
                columns=(
                    "page",
                    "median, ms",
                    "p95, ms",
                    "of it the utility's processor, mean ms",
                    "kB, not compressed",
                ),
                rows=rows,
            ),
            Table(
                title="Six months of the town's packed readings on PostgreSQL",
                columns=("readings", "bytes a reading, with index", "TB", "ACES, TB"),
                rows=((f"{readings:,}", number(per_reading), number(years), str(ACES_TB)),),
            ),
        ),
        goals=goals,
        notes=(note,),
    )


def _serve(path: str, port: str) -> None:
    settings = UtilitySettings.model_validate(
        {"database": f"sqlite:///{path}", "http": f"127.0.0.1:{port}", "head_end": "127.0.0.1:9"}
    )
    database = open_database(settings.database, create=True)
    # A clock that stands at the end of the data, and goes on.
    clock = Clock(origin=NOW, monotonic_origin=time.monotonic(), speed=1)
    try:
        run_service(Service(settings, clock, database, "secret").run)
    finally:
        database.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
