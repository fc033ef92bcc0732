"""Statistics of the whole town: a month at once, a day that is settled, a day of a microgrid that is settled again."""

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
from sqlalchemy import select

from benchmarks.databases import utility_database
from benchmarks.processes import peak_mb
from commonwatt.model.records import RecordType
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.loading import WHOLE_TOWN, load_town
from harness.docs.measured import Goal, Section, Table, number
from harness.settlement.emulated import small_town
from harness.statistics.stored import random_day, settle
from utility.database.bulk import insert_columns
from utility.database.database import Database
from utility.database.numbers import Column
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.readings.tables import compacted
from utility.registry.tables import controller, meter
from utility.settlement.store.settlement_members import owners
from utility.statistics.jobs.statistics import take_in

FIRST = (date(2026, 10, 1) - date(1970, 1, 1)).days
DAYS = 31

MOST_MONTH_S, MOST_MB = 60, 300
"""The goals: processor seconds of a month from the beginning; memory more than before, megabytes."""


def bench(*, smoke: bool = False) -> Section:
    """Take in a month of the town on SQLite."""
    town = small_town() if smoke else load_town(WHOLE_TOWN)
    days = 3 if smoke else DAYS
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        database = stack.enter_context(utility_database(f"sqlite:///{folder}/utility.db", town))
        with database.reads.begin() as connection:
            members = list(owners(connection).values())
        _readings(database, FIRST + days)
        for day in range(FIRST, FIRST + days):
            settle(database, members, random_day(members, day))
        month = _timed(database)
        settle(database, members, random_day(members, FIRST + days))
        one = _timed(database)
        settle(database, members[:1], random_day(members[:1], FIRST + 1, seed=1))
        again = _timed(database)
    rows = tuple(
        (what, *map(number, each))
        for what, each in (("month at once", month), ("one day more", one), ("a microgrid's day again", again))
    )
    return Section(
        title="Statistics of the town",
        about=f"{len(town.microgrids)} microgrids, {town.accounts} accounts, {days} settled days of random "
        "quarter-hours on SQLite; readings of the batteries for the day after them alone. Memory is how much "
        "the process grew.",
        goals=(
            Goal(
                what="the town's month",
                value=month[0],
                unit="CPU s",
                at_most=MOST_MONTH_S,
                limited_by="Reading days.",
            ),
            Goal(what="memory", value=month[2], unit="MB", at_most=MOST_MB, limited_by="A chunk's quarter-hours."),
        ),
        tables=(Table(title="Taken in", columns=("what", "CPU s", "s", "memory, MB"), rows=rows),),
    )


def _timed(database: Database) -> tuple[float, float, float]:
    Path("/proc/self/clear_refs").write_text("5")
    before, started, cpu = peak_mb(os.getpid()), time.monotonic(), time.process_time()
    turn = Turn(job="statistics", period=Period(start=0, end=0, name=""), attempt=1, now=0)
    asyncio.run(take_in(database, HERE, turn))
    return time.process_time() - cpu, time.monotonic() - started, peak_mb(os.getpid()) - before


def _readings(database: Database, day: int) -> None:
    """Store a day's readings of generation and level of every battery, with payloads of their usual length."""
    with database.reads.begin() as connection:
        statement = select(meter.c.no, controller.c.number).join(controller, controller.c.id == meter.c.microgrid)
        batteries = connection.execute(statement.where(meter.c.battery_capacity.is_not(None))).all()
    random = np.random.default_rng(0)
    count = 2 * len(batteries)
    for quarter in range(day * QUARTERS_A_DAY, (day + 1) * QUARTERS_A_DAY):
        values = Column(random.integers(0, 10**6, count))
        kinds = np.repeat([int(RecordType.GENERATION), int(RecordType.STORED)], len(batteries))
        columns = {
            "quarter": np.full(count, quarter),
            "meter_no": np.tile([row.no for row in batteries], 2),
            "owner_no": np.tile([row.number for row in batteries], 2),
            "record_type": kinds,
            "exact": np.full(count, 60),
            **{name: np.zeros(count, np.int64) for name in ("averaged", "conflicts", "received_minute", "sender_no")},
        }
        made = {name: Column(np.asarray(each, np.int64)) for name, each in columns.items()}
        made |= dict.fromkeys(("total", "first_reading", "last_reading", "min_reading", "max_reading"), values)
        with database.writes.begin() as connection:
            insert_columns(connection, compacted, made, [bytes(60)] * count)
