"""What 1, 100 and 1,000 towns need: reckoned from constants that the same run measures."""

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from benchmarks.town import MINUTE_SLOTS, RESIDENTIAL, WHOLE_TOWN, controllers, use_server
from benchmarks.town_load import QUARTER_MIN, load
from commonwatt.config.files import load_settings
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Function
from harness.docs.measured import Section, Table, number
from harness.network.waiting import eventually
from harness.real.postgres import Postgres
from harness.real.site import Site
from utility.archive.store.months import FiledMonth
from utility.archive.store.writing import write
from utility.database.database import open_database

MINUTES = 3.0
QUARTERS = 4  # whole quarter-hours that are sent at once, before the minutes
# Period of compaction, seconds: the quarter-hours are compacted in the run, and not before all of them are there.
COMPACT_S, SMOKE_COMPACT_S = 240, 15
COMPACTED_WITHIN_S = 300.0

TOWNS = (1, 100, 1_000)
DAYS, FILED_DAYS = 182, 151  # of six months; of five, which may be in files of the archive
GB, TB = 1e9, 1e12

_LOG_BYTES = "SELECT pg_current_wal_lsn() - '0/0'"
_BLOCKS = "SELECT count(*) FROM compacted"
_COMPACTED_BYTES = (
    "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'compacted'::regclass"
)
USED = 0.5  # share of each machine's cores, memory, disk and line that is planned with


CORES, MEMORY_BYTES, DISK_BYTES, LINE_BITS_S = 8, 256 * GB, 2 * TB, 200e6
"""The utility's machine and its line (T9)."""

LTE_DOLLARS, LINE_DOLLARS = 10, 100
"""A month of a controller's or a meter's LTE line, and of a machine's broadband line (T9)."""


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What one town needs."""

    controllers: int  # its controllers
    meters: int  # its meters, without the two at each boundary
    series: int  # readings of a slot
    cores: float  # busy cores of head-end, utility and PostgreSQL
    memory_bytes: float  # their memory
    reading_bytes: float  # of a compacted reading in the database, indexes included
    log_bytes: float  # of a reading in the database's log
    file_bytes: float  # of a reading in the archive
    line_bytes: float  # of a reading in a batch, as the head-end receives it

    @property
    def readings_a_day(self) -> int:
        """How many readings a day has."""
        return self.series * SLOTS * QUARTERS_A_DAY

    def needs(self, towns: int) -> Mapping[str, float]:
        """Return what the utility's side of some towns needs, by resource of a machine."""
        a_second = towns * self.series * SLOTS / QUARTER_S
        return {
            "cores": towns * self.cores / CORES,
            "memory": towns * self.memory_bytes / MEMORY_BYTES,
            "disk": towns * self.readings_a_day * DAYS * self.reading_bytes / DISK_BYTES,
            "line": a_second * self.line_bytes * 8 / LINE_BITS_S,
        }


def bench(*, smoke: bool = False, minutes: float = MINUTES) -> Section:
    """Measure one town's constants, and reckon with them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Postgres(folder))
        site = stack.enter_context(Site(folder / "site", RESIDENTIAL.format(3) if smoke else WHOLE_TOWN, speed=1))
        found = _measured(site, server, *((0.05, SMOKE_COMPACT_S) if smoke else (minutes, COMPACT_S)))
    return _section(found)


def _measured(site: Site, server: Postgres, minutes: float, compact_s: int) -> Constants:
    site.put_mosquitto("head-end")
    use_server(site, server, compact_s)
    site.start("head-end", "utility")
    database = load_settings(site.layout.part("utility").config, "utility", UtilitySettings).database
    pids = {name: process.pid for name, process in site.processes.items()} | {"PostgreSQL": server.pid}
    gateways = controllers(site)
    series = sum(len(one.meter) for one in gateways)
    log_before = _asked(database, _LOG_BYTES)
    found, uplinks, memory = asyncio.run(load(site, pids, minutes, QUARTERS * QUARTER_MIN))
    busy = [sum(minute.cores[name] for name in pids) for minute in found]
    # What is above the least is compaction: of these quarter-hours' minutes, all in a few.
    least = min(busy)
    readings = (
        series * MINUTE_SLOTS * (QUARTERS * QUARTER_MIN + sum(minute.offered for minute in found) / len(gateways))
    )
    eventually(lambda: _asked(database, _BLOCKS) >= QUARTERS * series, COMPACTED_WITHIN_S)
    compacted = _asked(database, _BLOCKS) * SLOTS  # also a quarter-hour that ended in the minutes
    return Constants(
        controllers=len(gateways),
        meters=sum(meter.function is not Function.BOUNDARY for meter in site.layout.town.installed),
        series=series,
        cores=least + sum(each - least for each in busy) / (QUARTERS * QUARTER_MIN),
        memory_bytes=sum(memory.values()),
        reading_bytes=_asked(database, _COMPACTED_BYTES) / compacted,
        log_bytes=(_asked(database, _LOG_BYTES) - log_before) / readings,
        file_bytes=_file_bytes(database, site.folder / "month.parquet") / compacted,
        line_bytes=uplinks.sent_bytes / readings,
    )


def _asked(database: str, query: str) -> float:
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return float(connection.execute(text(query)).scalar() or 0)


def _file_bytes(database: str, file: Path) -> int:
    """Return the bytes of a file with all compacted blocks, as the archive writes it."""
    with closing(open_database(database, create=False)) as opened:
        first = int(_asked(database, "SELECT min(quarter) FROM compacted"))
        until = int(_asked(database, "SELECT max(quarter) FROM compacted")) + 1
        return write(opened, FiledMonth(first_quarter=first, until_quarter=until, path=str(file), made=0)).size


def _section(found: Constants) -> Section:
    return Section(
        title="What towns need",
        about=(
            f"One town of {found.controllers:,} controllers and {found.meters:,} meters with {found.series:,} series: "
            "simulated gateways relay an hour at once and then some minutes at their times, through a real "
            "head-end (Mosquitto) to a real utility on PostgreSQL, as in the benchmark of the whole town's load. More "
            "towns are reckoned: each has a database, a head-end and a utility of its own, so that all figures but "
            f"machines are multiples. Machines are those of the requirements (T9): {CORES} cores, "
            f"{number(MEMORY_BYTES / GB)} GB, {number(DISK_BYTES / TB)} TB, {number(LINE_BITS_S / 1e6)} Mbit/s for "
            f"{LINE_DOLLARS} dollars a month, of which {100 * USED:.0f} % are planned with."
        ),
        tables=(_constants(found), _towns(found)),
        notes=("The disk has readings only; a database's log is kept until it is archived.",),
    )


def _constants(found: Constants) -> Table:
    return Table(
        title="Measured, one town",
        columns=("what", "figure"),
        rows=(
            ("readings a day", f"{found.readings_a_day:,}"),
            ("busy cores of head-end, utility and PostgreSQL", number(found.cores)),
            ("their memory", f"{found.memory_bytes / GB:.2f} GB"),
            ("bytes of a compacted reading, indexes included", f"{found.reading_bytes:.2f}"),
            ("bytes of a reading in the database's log", f"{found.log_bytes:.2f}"),
            ("bytes of a reading in a file of the archive", f"{found.file_bytes:.2f}"),
            ("bytes of a reading on the head-end's line", f"{found.line_bytes:.2f}"),
        ),
    )


def _towns(found: Constants) -> Table:
    return Table(
        title="Reckoned: towns",
        columns=(
            "towns",
            "cores",
            "memory",
            "disk a day",
            "log a day",
            "disk in six months",
            "with five of them in files",
            "head-end's line",
            "machines",
            "they are for",
            "LTE lines",
            "dollars a month",
        ),
        rows=tuple(_row(found, towns) for towns in TOWNS),
    )


def _row(found: Constants, towns: int) -> tuple[str, ...]:
    needs = found.needs(towns)
    machines = ceil(max(needs.values()) / USED)
    lines = towns * (found.controllers + found.meters)
    disk_a_day = towns * found.readings_a_day * found.reading_bytes
    filed = towns * found.readings_a_day * found.file_bytes * FILED_DAYS
    return (
        f"{towns:,}",
        number(needs["cores"] * CORES),
        f"{number(needs['memory'] * MEMORY_BYTES / GB)} GB",
        f"{number(disk_a_day / GB)} GB",
        f"{number(towns * found.readings_a_day * found.log_bytes / GB)} GB",
        f"{number(disk_a_day * DAYS / TB)} TB",
        f"{number((disk_a_day * (DAYS - FILED_DAYS) + filed) / TB)} TB",
        f"{number(needs['line'] * LINE_BITS_S / 1e6)} Mbit/s",
        f"{machines:,}",
        max(needs, key=lambda name: needs[name]),
        f"{lines:,}",
        f"{lines * LTE_DOLLARS + machines * LINE_DOLLARS:,}",
    )
