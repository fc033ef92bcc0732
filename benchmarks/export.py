"""Exports: readings a second to Parquet and CSV, bytes a value, a town's day."""

import io
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.databases import utility_database
from benchmarks.processes import peak_mb
from benchmarks.town import household, levels, solar
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, unsigned64
from harness.docs.measured import Goal, Section, Table, number, spread
from harness.world.world import town_of
from utility.database.database import Database, open_database
from utility.database.numbers import Column as Nullable
from utility.exports.columns import Rows, count_of
from utility.exports.selection import Resolution
from utility.exports.store.exports import AskedExport, readings_export
from utility.exports.writers import Format, make_writer

TOWN = 'microgrid = [{{id = "r", kind = "residential", count = {}}}]\n'
FIRST = 1_996_628  # the first quarter: 1 December 2026 in New York
MONTH_DAYS = 31
_KINDS = {RecordType.THROUGH: household, RecordType.GENERATION: solar, RecordType.STORED: levels}
_INSERT = (
    "INSERT INTO compacted (total, quarter, meter_no, received_minute, record_type, sender_no, owner_no, exact,"
    " averaged, conflicts, payload) VALUES (?, ?, ?, 0, ?, 1, 1, 60, 0, 0, ?)"
)


@dataclass(frozen=True)
class Size:
    """The extent of the measurement."""

    microgrids: int  # microgrids of the town that rates are measured with
    town: int  # microgrids of the whole town
    quarters: int  # quarters of each
    repeats: int  # measurements of each


FULL = Size(microgrids=40, town=741, quarters=96, repeats=5)
SMOKE = Size(microgrids=1, town=1, quarters=8, repeats=1)


def filled(folder: Path, name: str, microgrids: int, quarters: int) -> tuple[Path, int]:
    """Make a database with compacted blocks; return it, and how many blocks it has."""
    path, town = folder / f"{name}.db", town_of(TOWN.format(microgrids))
    with utility_database(f"sqlite:///{path}", town):
        pass
    rng, count = np.random.default_rng(1), 0
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("PRAGMA synchronous = OFF")
        of = {unsigned64(one): no for one, no in raw.execute("SELECT id, no FROM meter")}
        for quarter in range(FIRST, FIRST + quarters):
            for kind, make in _KINDS.items():
                ids = [meter.id for meter in town.meters if kind in meter.record_types]
                values = make(rng, len(ids), 1)
                blocks = make_blocks([(one, kind, quarter) for one in ids], values, np.full(values.shape, 2))
                numbers, totals = [of[one] for one in ids], values.sum(axis=1).tolist()
                fields = zip(totals, [quarter] * len(ids), numbers, [int(kind)] * len(ids), pack(blocks), strict=True)
                raw.executemany(_INSERT, fields)
                count += len(ids)
    return path, count


@dataclass(frozen=True)
class Rate:
    """How fast an export is, and how long its values are."""

    readings: list[float]  # millions of stored readings in a second of CPU time, one for each repeat
    rows: list[float]  # millions of rows in a second of CPU time, one for each repeat
    bytes: float  # bytes a value


def rate(database: Database, blocks: int, resolution: Resolution, form: Format, size: Size) -> Rate:
    """Measure an export into memory, by this process."""
    end = (FIRST + size.quarters) * QUARTER_S
    made = Rate([], [], 0.0)
    length = rows = values = 0
    for _ in range(size.repeats + 1):  # The first one also loads modules.
        export = readings_export(database, AskedExport(start=FIRST * QUARTER_S, end=end, resolution=resolution))
        file, rows, values = io.BytesIO(), 0, 0
        writer = make_writer(form, file, export.table)
        began = time.process_time()
        for piece in export.pieces():
            for some in export.rows(piece):
                writer.write(some)
                rows, values = rows + count_of(some), values + _values(some)
        writer.close()
        took = time.process_time() - began
        made.readings.append(blocks * SLOTS / took / 1e6)
        made.rows.append(rows / took / 1e6)
        length = len(file.getvalue())
    return Rate(made.readings[1:], made.rows[1:], length / values)


def _values(rows: Rows) -> int:
    """Return how many energies and levels some rows have."""
    columns = [column for name, column in rows.items() if name.endswith("_milliwatt_hours")]
    return sum(int(one.known.sum()) for one in columns if isinstance(one, Nullable) and one.known is not None)


@dataclass(frozen=True)
class Day:
    """An export of all quarters of a town by the command, as a process of its own."""

    wall_s: float  # its duration
    cpu_s: float  # CPU time
    peak_mb: float  # the most memory
    bytes: int  # bytes of its files


def town_day(folder: Path, path: Path, size: Size) -> Day:
    """Export a town's quarters by ``commonwatt export``."""
    config, out = folder / "utility.toml", folder / "out"
    config.write_text(f'[utility]\ndatabase = "sqlite:///{path}"\n')
    words = ["export", "readings", "--config", str(config), "--out", str(out), "--resolution", "15min"]
    times = ["--from", str(FIRST * QUARTER_S), "--to", str((FIRST + size.quarters) * QUARTER_S)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "commonwatt", *words, *times], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        # The kernel's own figure of an ended process includes this process, which it was forked from.
        peak = max(peak, peak_mb(process.pid))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    assert process.returncode == 0
    length = sum(file.stat().st_size for file in out.glob("*.parquet"))
    return Day(time.perf_counter() - began, ended[2].ru_utime + ended[2].ru_stime, peak, length)


def bench(*, smoke: bool = False) -> Section:
    """Measure exports, and a town's day."""
    size = SMOKE if smoke else FULL
    ours: dict[tuple[Resolution, Format], Rate] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, count = filled(folder, "some", size.microgrids, size.quarters)
        with closing(open_database(f"sqlite:///{path}", create=False)) as database:
            for resolution in Resolution:
                if resolution is not Resolution.DAY or size.quarters == 96:
                    ours[resolution, Format.PARQUET] = rate(database, count, resolution, Format.PARQUET, size)
            ours[Resolution.QUARTER, Format.CSV] = rate(database, count, Resolution.QUARTER, Format.CSV, size)
        path, blocks = filled(folder, "town", size.town, size.quarters)
        day = town_day(folder, path, size)
    return _section(ours, day, blocks)


def _section(ours: dict[tuple[Resolution, Format], Rate], day: Day, blocks: int) -> Section:
    rows = tuple(
        (f"{resolution}, {form}", spread(found.readings), spread(found.rows), f"{found.bytes:.2f}")
        for (resolution, form), found in ours.items()
    )
    per_day = f"{number(day.wall_s)} s, {number(day.cpu_s)} s of CPU time, {number(day.bytes / 1e6)} MB"
    return Section(
        title="Exports",
        about="Compacted blocks of places with batteries and solar are read from SQLite, checked, unpacked, and "
        "written to a file in memory, on one thread. Readings are the stored values of 15 s that an export reads; a "
        "value is an energy, or a level's last, lowest or highest. The synthetic energies of quarter-hours are uniform "
        "over 1.1 kWh, which is 20 bits each.",
        tables=(
            Table(
                title="Millions in a second of CPU time: median (least to most)",
                columns=("export", "readings", "rows", "bytes a value"),
                rows=rows,
            ),
            Table(
                title=f"The quarter-hours of a town's day by the command: {blocks:,} blocks",
                columns=("a day", f"{MONTH_DAYS} times", "most memory, MB"),
                rows=(
                    (
                        per_day,
                        f"{number(day.cpu_s * MONTH_DAYS)} s of CPU time, {number(day.bytes * MONTH_DAYS / 1e6)} MB",
                        number(day.peak_mb),
                    ),
                ),
            ),
        ),
        goals=_goals(ours, day),
        notes=("A month is computed from the day: the export reads a range at a time and keeps nothing of it.",),
    )


def _goals(ours: dict[tuple[Resolution, Format], Rate], day: Day) -> tuple[Goal, ...]:
    slots, quarters = ours[Resolution.SLOT, Format.PARQUET], ours[Resolution.QUARTER, Format.PARQUET]
    return (
        _least("15 s to Parquet", slots.readings, 10),
        _least("sums of 15 min to Parquet", quarters.readings, 10),
        Goal(
            what="a quarter's value in Parquet",
            value=round(quarters.bytes, 2),
            unit="bytes",
            at_most=3,
            limited_by="Energies of 20 bits.",
        ),
        Goal(
            what="a town's month on one core, computed",
            value=round(day.cpu_s * MONTH_DAYS),
            unit="s of CPU time",
            at_most=600,
            limited_by="Rows of the database are read one by one.",
        ),
        Goal(
            what="most memory of the town's export",
            value=round(day.peak_mb),
            unit="MB",
            at_most=300,
            limited_by="The rows of a row group.",
        ),
    )


def _least(what: str, found: Sequence[float], at_least: float) -> Goal:
    return Goal(
        what=what,
        value=round(median(found), 1),
        unit="million readings in a second of CPU time",
        at_least=at_least,
        limited_by="Fetching rows, and packing values.",
    )
