"""The console before a whole town: times and bytes of pages, browsers with streams, memory."""

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle, islice
from pathlib import Path

import httpx

from benchmarks.console_town import FULL, NOW, SMOKE, Filled, Size, filled
from benchmarks.processes import cpu_s, peak_mb
from commonwatt.runtime.clock import Clock, load_clock, save_clock
from commonwatt.runtime.service import run_service
from commonwatt.town.loading import WHOLE_TOWN, load_town
from harness.docs.measured import Goal, Section, Table, number, percentile
from harness.network.waiting import free_ports
from harness.settlement.emulated import small_town
from utility.access.people import Role
from utility.access.store import access
from utility.assembly.service import KEEP_S, UtilityService
from utility.database.database import open_database
from utility.jobs.plans import catalogue
from utility.settings import UtilitySettings
from utility.webkit.rights import COOKIE

PAGE_EVERY_S = 0.1  # how often a page is asked for while the jobs run

_STARTS_WITHIN_S, _JOBS_WITHIN_S = 300, 900
_WAITING = {"bills"}  # jobs that wait for what the town does not have: a tariff

# Requests with goals of their own.
PLOT, MONTH, FIND = "plot of five settled years", "the town's completeness of a month", "search, three characters"
_SHARED = "The processor is shared with what else runs on the machine."

_QUIET_CORE = 0.05  # the core that it uses at most once its jobs at the start are over


@dataclass(frozen=True)
class Answers:
    """The answers of a page."""

    ms: list[float]  # milliseconds of each request
    cpu_ms: float  # mean milliseconds of the utility's processor time for a request
    bytes: int  # bytes of the largest answer


def bench(*, smoke: bool = False) -> Section:
    """Measure the console on SQLite."""
    size, town = (SMOKE, small_town()) if smoke else (FULL, load_town(WHOLE_TOWN))
    with tempfile.TemporaryDirectory() as folder:
        made = filled(Path(folder), town, size)
        cookie = _cookie(made.path, "vera")
        with running(made.path) as (pid, address):
            _wait_for_jobs(made.path, set() if smoke else {"rates"})
            began = time.monotonic()
            jobs = set() if smoke else {plan.name for plan in catalogue(UtilitySettings())} - _WAITING
            beside_jobs = asyncio.run(_while_jobs_run(address, cookie, made, pid, jobs))
            jobs_s = time.monotonic() - began
            start_mb = peak_mb(pid)
            _wait_until_quiet(pid, size.quiet_s)
            pages = asyncio.run(_pages(address, cookie, made, size, pid))
            cookies = [_cookie(made.path, f"vera{n}") for n in range(size.browsers)]
            asyncio.run(_watched(address, cookies, pid, size))  # It also reads the day so far.
            core = asyncio.run(_watched(address, cookies, pid, size))
            core -= _idle(pid, size)
            memory_mb = peak_mb(pid)
        file_gb = made.path.stat().st_size / 1e9
    return Section(
        title="The console before a whole town",
        about=f"The whole utility as a process of its own, without a broker, on SQLite: {len(town.microgrids)} "
        f"microgrids, {len(town.meters):,} meters, {made.settled_rows:,} settled days of five years, {made.blocks:,} "
        "blocks: a month of a tenth of the microgrids, the last two days of all. The payloads of the meters that are "
        f"shown are made for them, the others are copies. The file has {number(file_gb)} GB. Requests come one after "
        "the other, by HTTP on the same machine, each with a session, between two runs of the hourly jobs; those of "
        "the second table while the jobs run that are due at the start: among them a day of the whole town that is "
        "settled again, counted for completeness, searched for gaps, and taken into its month's usage. The cost of the "
        "browsers is the utility's processor time while each has a stream and asks when the town changed, less its "
        "processor time without them, just after.",
        tables=_tables(pages, beside_jobs.ms, jobs_s, start_mb),
        goals=_goals(pages, beside_jobs.ms, core, memory_mb),
    )


def _tables(pages: Mapping[str, Answers], ms: Sequence[float], jobs_s: float, start_mb: float) -> tuple[Table, ...]:
    figures = jobs_s, len(ms), percentile(ms, 50), percentile(ms, 95), max(ms), start_mb
    return (
        Table(
            title="Answers",
            columns=("page", "median, ms", "p95, ms", "the utility's processor, mean ms", "kB, not compressed"),
            rows=tuple(
                (
                    name,
                    number(percentile(one.ms, 50)),
                    number(percentile(one.ms, 95)),
                    number(one.cpu_ms),
                    f"{one.bytes / 1e3:,.1f}",
                )
                for name, one in pages.items()
            ),
        ),
        Table(
            title="A microgrid's page, asked ten times a second while the hourly jobs run",
            columns=("jobs, s", "requests", "median, ms", "p95, ms", "slowest, ms", "peak of the utility's MB"),
            rows=(tuple(map(number, figures)),),
        ),
    )


def _goals(pages: Mapping[str, Answers], ms: Sequence[float], core: float, memory_mb: float) -> tuple[Goal, ...]:
    whole = [one for name, one in pages.items() if "plot" not in name and name not in (MONTH, FIND)]
    p95 = {name: percentile(one.ms, 95) for name, one in pages.items()}
    return tuple(
        Goal(what=what, value=value, unit=unit, at_most=at_most, limited_by=limited_by)
        for what, value, unit, at_most, limited_by in (
            ("pages, p95 of the slowest", max(percentile(one.ms, 95) for one in whole), "ms", 200, _SHARED),
            ("a microgrid's page while the hourly jobs run, p95", percentile(ms, 95), "ms", 200, _SHARED),
            (
                "bytes of the largest page",
                max(one.bytes for one in whole),
                "bytes",
                150_000,
                "The town's 802 links.",
            ),
            ("a meter's plot of five years, p95", p95[PLOT], "ms", 300, _SHARED),
            ("the town's completeness of a month, p95", p95[MONTH], "ms", 1_000, _SHARED),
            ("search as one types, p95", p95[FIND], "ms", 100, "It looks at every registered meter."),
            (f"{FULL.browsers} browsers that show the town", max(0.0, round(core, 4)), "cores", 0.05, "Sessions."),
            ("memory of the utility", memory_mb, "MB", 250, "Its libraries."),
        )
    )


async def _while_jobs_run(address: str, cookie: str, made: Filled, pid: int, jobs: Collection[str]) -> Answers:
    """Ask for pages of microgrids at a fixed rate until some jobs are done."""
    times, largest, cpu = list[float](), 0, cpu_s(pid)
    names = cycle([meter.microgrid for meter in made.meters])

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal largest
        began = time.perf_counter()
        answer = await client.get(f"/console/microgrids/{next(names)}")
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text
        largest = max(largest, len(answer.content))

    # Each with a connection of its own: the service closes one that was idle, perhaps just when it is used again.
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(
            base_url=address, headers=_headers(cookie), timeout=_STARTS_WITHIN_S, limits=limits
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        done = tasks.create_task(asyncio.to_thread(_wait_for_jobs, made.path, jobs))
        while not (done.done() and times):
            tasks.create_task(ask(client))
            await asyncio.sleep(PAGE_EVERY_S)
    return Answers(times, 1000 * (cpu_s(pid) - cpu) / len(times), largest)


def _wait_for_jobs(path: Path, jobs: Collection[str]) -> None:
    """Wait until each of some jobs was done once."""
    ends = time.monotonic() + _JOBS_WITHIN_S
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        while left := {*jobs} - {name for (name,) in raw.execute("SELECT job FROM period WHERE done IS NOT NULL")}:
            assert time.monotonic() < ends, f"jobs that were not done: {left}"
            time.sleep(0.2)


def _headers(cookie: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={cookie}"}


async def _pages(address: str, cookie: str, made: Filled, size: Size, pid: int) -> dict[str, Answers]:
    today = date(2026, 11, 29)
    meters = list(islice(cycle(made.meters), size.requests))
    found = dict[str, Answers]()
    async with httpx.AsyncClient(base_url=address, headers=_headers(cookie), timeout=60) as client:
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
            PLOT: [_plot(m.id, "settled", today, 5 * 366) for m in meters],
            FIND: [f"/console/find/results?text={100 + n}" for n in range(size.requests)],
            MONTH: ["/completeness/days?first=2026-11-01&last=2026-11-29"] * size.requests,
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


async def _watched(address: str, cookies: Sequence[str], pid: int, size: Size) -> float:
    """Return the busy cores of the utility while the browsers show the town, with what it does anyway."""
    began, cpu = time.monotonic(), cpu_s(pid)
    ends = began + size.poll_s
    await asyncio.gather(*(_browser(address, cookie, ends) for cookie in cookies))
    return (cpu_s(pid) - cpu) / (time.monotonic() - began)


def _idle(pid: int, size: Size) -> float:
    began, cpu = time.monotonic(), cpu_s(pid)
    time.sleep(size.poll_s)
    return (cpu_s(pid) - cpu) / (time.monotonic() - began)


async def _browser(address: str, cookie: str, ends: float) -> None:
    """Show the town: ask for what changed at each event of the stream, and open the next stream when one ends."""
    kept = httpx.Limits(keepalive_expiry=KEEP_S - 1)  # As browsers do; the service closes it later.
    async with httpx.AsyncClient(base_url=address, headers=_headers(cookie), timeout=60, limits=kept) as client:
        version = "0"
        while time.monotonic() < ends:
            async with client.stream("GET", "/console/events?of=town&of=alarms") as events:
                assert events.status_code == 200
                async for line in events.aiter_lines():
                    if line == "event: town":
                        answer = await client.get(f"/console/town/live?since={version}")
                        version = answer.text.split("since=")[1].split('"')[0]
                    if time.monotonic() >= ends:
                        break


@contextmanager
def running(path: Path) -> Iterator[tuple[int, str]]:
    """Start a utility, without a broker; yield its pid and its address once it answers."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.console", str(path), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + _STARTS_WITHIN_S
        while not _answers(address) and time.monotonic() < ends:
            time.sleep(0.2)
        yield process.pid, address
    finally:
        process.terminate()
        process.wait()


def _wait_until_quiet(pid: int, quiet_s: int) -> None:
    quiet, ends = 0, time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < ends and quiet < quiet_s:
        before = cpu_s(pid)
        time.sleep(1)
        quiet = quiet + 1 if cpu_s(pid) - before < _QUIET_CORE else 0


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _cookie(path: Path, name: str) -> str:
    """Return the cookie of a viewer's session."""
    with closing(open_database(f"sqlite:///{path}", create=False)) as database:
        now = int(time.time())
        with database.writes.begin() as connection:
            if access.find_person(connection, name) is None:
                roles = frozenset({Role.VIEWER})
                person = access.Person(name=name, display=name, state="active", roles=roles, account=None, created=now)
                access.add_person(connection, person, "benchmark")
                access.set_state(connection, name, "active")
            return access.open_session(connection, name, "127.0.0.1", "benchmark", now).cookie


def _serve(path: str, port: str) -> None:
    # A clock that stands at the end of the data, and goes on; with a file of it, the machine's is not followed.
    clock = Path(path).with_name("clock.json")
    save_clock(clock, Clock(origin=NOW, monotonic_origin=time.monotonic()))
    given = {"database": f"sqlite:///{path}", "http": f"127.0.0.1:{port}", "head_end": "127.0.0.1:9"}
    files = {"clock": str(clock), "tokens": str(clock.with_name("tokens.json"))}
    settings = UtilitySettings.model_validate(given | files)
    database = open_database(settings.database, create=True)
    try:
        run_service(UtilityService(settings, load_clock(clock), database, "secret").run, lives_long=False)
    finally:
        database.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
