"""A day is read, settled, counted and exported from its file as from the database, by every part that reads it."""

import ast
import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from commonwatt.codec.dumps import block_lines
from commonwatt.config.utility import SettlementSettings
from commonwatt.model.blocks import join, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S
from commonwatt.runtime.clock import Clock
from commonwatt.settlement.settled import Quantity
from commonwatt.town.town import Town
from harness.docs.marked import DOCS
from harness.network.application import Client
from harness.real import databases
from harness.real.jobs import compact
from harness.settlement.stored import DAY, FIRST, SOON, store, town_blocks, without
from harness.worlds.sent import append, blocks
from utility.archive.store.archive import Archive
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.corrections.store import checking, estimating
from utility.database.database import Database
from utility.database.health import Health
from utility.database.postgres.partitions import first_quarter, month_of, months_later
from utility.exports.resolutions import Resolution
from utility.exports.selection import Selection
from utility.exports.store.exports import Asked, readings_export
from utility.exports.store.files import write_files
from utility.exports.writers import Format
from utility.jobs.calendar_periods import Period
from utility.jobs.reasons import Why
from utility.jobs.store.due import MarkedDay, mark
from utility.jobs.store.job_leases import Turn
from utility.jobs.tables import settlement_due
from utility.jobs.threads import HERE
from utility.overview.store import days, microgrid, series
from utility.overview.store import town as town_view
from utility.readings.store import reads, replaced_meters
from utility.readings.store.gap_finder import GapFinder
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.registry.store.accounts import load_dated_registry
from utility.research import homes as research_homes
from utility.research import store as research
from utility.settlement.jobs.settlement import SettlementJob
from utility.settlement.store.settled import load_settled
from utility.statistics.store import usage_sources
from utility.supply.store import rations
from utility.webkit.services import Api

kind = databases.both_kinds

LAST = FIRST + 95
MONTH = first_quarter(month_of(FIRST))
NEXT = first_quarter(months_later(month_of(FIRST), 1))
NUMBERS = list(range(1, 8))


def settled(database: Database) -> dict[str, Any]:
    """Settle the day again, and return it."""
    with database.writes.begin() as connection:
        mark(connection, settlement_due, {(DAY, 1), (DAY, 2)}, Why.LATE)
    job = SettlementJob(SettlementSettings(), database, UtilityMetrics().settlement, HERE, is_trusted=lambda: True)
    period = Period(start=SOON, end=SOON + 900, name="now")
    asyncio.run(job.run(Turn(job="settlement", period=period, attempt=1, now=SOON)))
    with database.reads.begin() as connection:
        found = load_settled(connection, None, FIRST, FIRST + 96)
    return {"meters": found.meters.tolist(), **{of.name: found.of(of).tolist() for of in Quantity}}


def answers(database: Database, folder: Path) -> dict[str, Any]:
    """Return what each reader of blocks returns of the day."""
    clock = Clock(origin=NEXT * QUARTER_S, monotonic_origin=0, speed=0)
    client = Client(make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None))))
    start, end = DAY * 86_400, (DAY + 1) * 86_400
    found: dict[str, Any] = {
        "readings": client.get("/readings", {"meter": "10001", "start": start, "end": end}).json(),
        "completeness": client.get("/completeness", {"start": start, "end": end}).json(),
        "dump": sorted(line for each in reads.all_blocks(database, 0, NEXT + 9) for line in block_lines(each)),
        "slots": asdict(series.slot_series(database, 1, 3, FIRST, LAST + 1)),
        "long": asdict(series.slot_series(database, 1, 3, MONTH, NEXT)),
        "settled": settled(database),
    }
    counting = days.DayCount(database, DAY, [MarkedDay(day=DAY, owner_no=2, marks=1)])
    counting.add(counting.quarters)
    with database.reads.begin() as connection:
        of_meters = microgrid.meters_of(connection, "r001")
        homes, meters = research_homes.homes_of(load_dated_registry(connection), FIRST, FIRST + 96)
        finder = GapFinder(database).plan(SOON, 0)
        found |= {
            "day": asdict(microgrid.day_of_microgrid(connection, of_meters, FIRST, LAST + 1)),
            "town": asdict(town_view.town_energy(connection, LAST)),
            "generated": usage_sources.generated(connection, FIRST, LAST + 1),
            "levels": usage_sources.levels(connection, LAST),
            "batteries": usage_sources.class_batteries(connection, DAY, {}, {1: 1, 2: 1}),
            "imports": rations._imports(connection, range(LAST - 3, LAST + 1), least_slots=1),
            "checked": sorted(map(tuple, checking._quarters(connection, NUMBERS, FIRST).tolist())),
            "totals": estimating._totals(connection, {(1, 3), (2, 3)}, range(FIRST, LAST + 1)),
            "replaced": replaced_meters.count_blocks(connection, 10001, FIRST),
            "missing": {key: mask for key, mask in finder.masks.items() if mask},
        }
    found["whole"] = counting.whole()
    for name, quarters in (("quarters", research.load_quarters), ("slots of homes", research.load_slots)):
        of = quarters(database, homes, meters, FIRST, FIRST + 96)
        found[name] = {measure.name: values.tolist() for measure, values in of.values.items()}
    for resolution in (Resolution.SLOT, Resolution.HOUR):
        for selection in (Selection(), Selection(meters=("10001",))):
            out = folder / f"{resolution}-{len(selection.meters)}"
            export = readings_export(database, Asked(start=start, end=end, resolution=resolution, selection=selection))
            write_files(export, Format.CSV, out, NEXT * QUARTER_S)
            found[str(out.name)] = [path.read_text() for path in sorted(out.glob("*.csv"))]
    return {name: plain(value) for name, value in found.items()}


def plain(value: Any) -> Any:
    """Return a value with lists instead of arrays, and text as the keys of dictionaries."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def test_each_reader_answers_as_before(database: Database, town: Town, tmp_path: Path) -> None:
    given = town_blocks(town)
    for name, grid in town.microgrids.items():
        kinds = [(m.id, int(k)) for m in grid.meters for k in m.record_types if k is not RecordType.THROUGH]
        keys = [(*one, quarter) for one in kinds for quarter in range(FIRST, LAST + 1)]
        values = np.random.default_rng(5).integers(0, 10**6, (len(keys), 60))
        given[name] = join([given[name], make_blocks(keys, values, np.full(values.shape, 2))])
    given["r001"] = without(given["r001"], 10001, range(FIRST + 10, FIRST + 14))
    store(database, given)
    # The newest reading, since what is old is told from it; and a part that is not joined yet.
    Writer(database).commit([append(blocks({0: 5}, quarter=NEXT + 5))])
    compact(database, (NEXT + 9) * QUARTER_S)
    Writer(database).commit([append(blocks({0: 5}, quarter=FIRST + 12))])
    before = answers(database, tmp_path / "before")
    assert len(before["readings"]["readings"]) == 92 * 60 + 1
    for name, value in before.items():
        assert value, name
    Archive(database, tmp_path, NEXT * QUARTER_S).run(NEXT)
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(compacted)).scalar() == 1
    after = answers(database, tmp_path / "after")
    for name, value in before.items():
        assert after[name] == value, name
    # Late readings are joined with the block in the file.
    compact(database, (NEXT + 9) * QUARTER_S)
    late = answers(database, tmp_path / "late")
    for name in ("readings", "dump", "slots"):
        assert late[name] == before[name], name


ALONE = {
    "archive/store/archive.py",
    "archive/store/months.py",
    "archive/store/writing.py",
    "assembly/backup/backup.py",
    "assembly/backup/restore.py",
    "assembly/recovery/recovery.py",
    "readings/store/quarters.py",  # The newest readings are in the database.
    "readings/store/retention.py",
}
"""Modules that select blocks from the database alone."""


def test_every_module_that_reads_blocks_reads_those_in_files() -> None:
    utility = DOCS.parent / "utility"
    found = set()
    for path in utility.rglob("*.py"):
        names = {
            alias.name: node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if names.get("compacted") == "utility.readings.tables" and not {"execute", "select_parts"} & set(names):
            found.add(str(path.relative_to(utility)))
    assert found - ALONE <= {"readings/store/archived.py", "readings/store/conflicts.py", "readings/store/parts.py"}
