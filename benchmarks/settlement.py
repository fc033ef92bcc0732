"""Settlement of the whole town from stored readings: a day, a late reading, and the bytes of a settled quantity."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import select, text

from benchmarks.databases import utility_database
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, Quality, make_blocks
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.town import Town
from harness.docs.measured import Goal, Section, Table, number
from harness.real.postgres import Postgres
from harness.settlement.compare import FIRST_DAY
from harness.settlement.emulated import EmulatedTown, small_town
from harness.surroundings.messages import append, compact
from utility.assembly.metrics import UtilityMetrics
from utility.database.bulk import insert_columns
from utility.database.database import Database
from utility.database.numbers import Column
from utility.database.postgres.partitions import make_partitions, month_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import HERE, Period, Why
from utility.jobs.store import Turn, mark
from utility.jobs.tables import settlement_due
from utility.outbox.changes import Append
from utility.readings.flows import summaries
from utility.readings.store.reads import numbers_of
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.registry.tables import controller, meter
from utility.settings import SettlementSettings
from utility.settlement.jobs import SettlementJob

SOON = (FIRST_DAY + 1) * 86_400 + 4 * 3600


def bench(*, smoke: bool = False) -> Section:
    """Settle a day of the town on SQLite and on PostgreSQL."""
    town = small_town(50) if smoke else load_town(WHOLE_TOWN)
    blocks = _day(town, 2 if smoke else QUARTERS_A_DAY)
    rows = []
    found: dict[str, float] = {}
    for name, opened in (("SQLite", _sqlite), ("PostgreSQL", _postgres))[: 1 if smoke else 2]:
        with opened(town) as database:
            one = _measured(database, blocks)
        rows.append((name, *(number(one[what]) for what in ("day", "cpu", "late", "bytes"))))
        found |= {what: max(found.get(what, 0.0), value) for what, value in one.items()}
    goals = (
        Goal(what="the town's day settled", value=found["day"], unit="s", at_most=20, limited_by="Reading blocks."),
        Goal(what="its month", value=found["day"] * 31 / 60, unit="min", at_most=10, limited_by="Reading blocks."),
        Goal(what="a late reading settled", value=found["late"], unit="s", at_most=1, limited_by="Reading blocks."),
        Goal(what="a settled quantity", value=found["bytes"], unit="bytes", at_most=3, limited_by="Noise of loads."),
    )
    return Section(
        title="Settling a day of the town",
        about=f"A day of {len(town.microgrids)} microgrids with {len(town.meters)} meters, with boundaries, from "
        "compacted blocks to settled days, by `pro_rata`; the month is 31 such days. A late reading: of one house, "
        "from the compaction of its part on. Bytes: the table with its indexes, divided by the quarter-hours of two "
        "quantities a meter.",
        goals=goals,
        tables=(
            Table(
                title="A day of the town",
                columns=("database", "day, s", "of it CPU of the job, s", "late reading, s", "bytes a quantity"),
                rows=tuple(rows),
            ),
        ),
    )


def _day(town: Town, quarters: int) -> list[Blocks]:
    found = []
    for one in islice(EmulatedTown(town, "normal").quarters(FIRST_DAY * QUARTERS_A_DAY - 1), quarters + 1):
        read = one.readings
        keys = [(meter, kind, one.quarter) for meter, kind, _ in read.keys]
        found.append(make_blocks(keys, read.values, np.full(read.values.shape, Quality.EXACT)))
    return found


@contextmanager
def _sqlite(town: Town) -> Iterator[Database]:
    with (
        tempfile.TemporaryDirectory() as folder,
        utility_database(f"sqlite:///{folder}/utility.db", town) as database,
    ):
        yield database


@contextmanager
def _postgres(town: Town) -> Iterator[Database]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder)) as server,
        utility_database(server.url, town) as database,
    ):
        yield database


def _measured(database: Database, blocks: list[Blocks]) -> dict[str, float]:
    late = _fill(database, blocks)
    with database.writes.begin() as connection:
        numbers = list(connection.execute(select(controller.c.number)).scalars())
        mark(connection, settlement_due, [(FIRST_DAY, owner) for owner in numbers], Why.FIRST)
    started, cpu = time.monotonic(), time.process_time()
    metrics = _run(database)
    result = {"day": time.monotonic() - started, "cpu": time.process_time() - cpu}
    versions = metrics.registry.get_sample_value("commonwatt_utility_settled_versions_total")
    Writer(database).commit([late])
    started = time.monotonic()
    compact(database, SOON)
    _run(database)
    result["late"] = time.monotonic() - started
    with database.reads.begin() as connection:
        statement = "SELECT pg_total_relation_size('settled')"
        if database.has_one_writer:
            statement = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%settled' OR name LIKE '%uq_settled%'"
        size = int(connection.execute(text(statement)).scalar() or 0)
    # Each row has the two quantities of its direction; the few places with four count as two.
    result["bytes"] = size / max(1.0, float(versions or 0)) / (2 * QUARTERS_A_DAY)
    return result


def _fill(database: Database, blocks: list[Blocks]) -> Append:
    """Store all blocks but one as compacted; return the one."""
    with database.reads.begin() as connection:
        number_of = numbers_of(connection, np.unique(blocks[0].meter).tolist())
        owners = {
            row.id: (row.number, row.microgrid)
            for row in connection.execute(
                select(meter.c.id, meter.c.microgrid, controller.c.number).join(
                    controller, controller.c.id == meter.c.microgrid
                )
            )
        }
    last = blocks[1]
    row = int(np.flatnonzero(last.record_type == 3)[-1])
    late = last.take([row])
    blocks = [blocks[0], last.take(np.delete(np.arange(len(last)), row)), *blocks[2:]]
    with database.writes.begin() as connection:
        make_partitions(connection, {month_of(int(each.quarter[0])) for each in blocks})
        for each in blocks:
            ids = each.meter.tolist()
            columns = {
                "quarter": each.quarter,
                "meter_no": [number_of[i] for i in ids],
                "record_type": each.record_type,
                "sender_no": [owners[i][0] for i in ids],
                "owner_no": [owners[i][0] for i in ids],
                "received_minute": [SOON // 60] * len(ids),
            }
            made = {name: Column(np.asarray(values, np.int64)) for name, values in columns.items()}
            insert_columns(connection, compacted, made | summaries(each), list(pack(each)))
    owner = owners[int(late.meter[0])][1]
    sent = append(late, sender=owner, received=SOON)
    return Append(**{**vars(sent), "owner": owner})


def _run(database: Database) -> UtilityMetrics:
    metrics = UtilityMetrics()
    job = SettlementJob(SettlementSettings(), database, metrics.settlement, HERE, is_trusted=lambda: True)
    period = Period(start=SOON, end=SOON, name="now")
    asyncio.run(job.run(Turn(job="settlement", period=period, attempt=1, now=SOON)))
    return metrics
