"""Makes a past: a database with settled months, issued bills and readings; and its archive."""

import asyncio
import io
import json
import random
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
import zstandard

from commonwatt.audit.folder import PAST
from commonwatt.codec.packing import pack
from commonwatt.demo.parts import LEVELS, WINDOW_BYTES
from commonwatt.model.blocks import Blocks, empty, join
from commonwatt.model.calendar import local_day, midnight, month_after, month_of, month_quarters
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.time import Trust
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, MeterId
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from harness.past.energy import Energy, Span
from harness.past.office import NEXT_TARIFF, TARIFF, Office
from harness.settlement.compare import settle_day
from harness.town_month.month import register
from utility.assembly.jobs import ServiceJobs
from utility.assembly.metrics import UtilityMetrics
from utility.database.bulk import insert_columns
from utility.database.database import Database, open_database, save_setting
from utility.database.health import Health
from utility.database.numbers import Column
from utility.database.town_zone import EMULATED_UNTIL
from utility.energy.quarters import QUARTERS_A_DAY, Corrected
from utility.jobs.plans import Period, Threads, Why
from utility.jobs.store import Turn
from utility.outbox.changes import Append
from utility.readings.ingest import Ingest
from utility.readings.store.reads import numbers_of
from utility.readings.store.retention import KEPT_FROM
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, relayed_day, tally
from utility.registry.layout import Day, layout_of
from utility.settings import UtilitySettings
from utility.settlement.day import SettlementRules
from utility.settlement.store.readings import DueDay, owners
from utility.settlement.store.settled import save
from utility.statistics.jobs import take_in

DATABASE = "utility.db"
RESOLUTION = 100  # of the emulated meters, milliwatt-hours
BILLED_AFTER_S = 3 * 86_400 + 14 * 3_600  # seconds from a month's end to its bills
LATE_S = 34 * 86_400  # seconds from a day's end to its late readings: after the bills of its month
PAID_AFTER_S, REMINDED_AFTER_S = 9 * 86_400, 27 * 86_400  # seconds from the bills to their payments, and reminders
MOVE_TOLD_BEFORE_S, MOVES_AFTER_S = 3 * 86_400, 12 * 86_400  # seconds from the move's entry to the end, to its day
PROPOSED_BEFORE_S = 20 * 3_600  # seconds before the end at which the next tariff was proposed

_UNUSED = ("received_minute", "sender_no", "averaged", "conflicts")

Tell = Callable[[str, float], object]  # takes what is done, and which part of it
Happening = tuple[EpochSeconds, Callable[[], object]]  # a time, and what happened then


@dataclass(frozen=True, kw_only=True)
class Late:
    """Readings that came after the bills of their month."""

    meter: MeterId  # the meter
    day: Day  # the day, of UTC


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The past that is made."""

    town: Town  # the town
    span: Span  # its extent
    folder: Path  # an empty folder for the database and the files
    late: Late | None = None  # the readings that correct a bill; ``None``: none
    release: tuple[EpochSeconds, EpochSeconds] | None = None  # the period of the open release; ``None``: no release


def make(asked: Asked, tell: Tell = lambda _, __: None) -> Path:
    """Make a past; return its database. The same past has the same bytes."""
    path = asked.folder / DATABASE
    with _same_secrets(), _opened(path) as database:
        _Making(asked, database, tell).make()
    return path


@contextmanager
def _same_secrets() -> Iterator[None]:
    """Have every secret of this process follow from one seed: salts and ids are then the same each time."""
    # Every function of ``secrets`` draws from it.
    with patch("random._urandom", random.Random(20).randbytes):
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{path.absolute()}", create=True)
    try:
        yield database
    finally:
        database.close()


def settings_in(folder: Path) -> UtilitySettings:
    """Return the utility's settings, with its files below a folder."""
    own = UtilitySettings()
    place = {"releases": folder / "utility" / "releases", "secret": folder / "secret"}
    (folder / "utility").mkdir(exist_ok=True)
    office = own.office.model_copy(update={"key": folder / "utility" / own.office.key.name})
    return own.model_copy(update={"research": own.research.model_copy(update=place), "office": office})


class _Making:
    def __init__(self, asked: Asked, database: Database, tell: Tell) -> None:
        self._asked, self._span, self._database, self._tell = asked, asked.span, database, tell
        self._zone = ZoneInfo(asked.town.table.timezone)
        self._settings = settings_in(asked.folder)
        self._office = Office(database, self._settings)
        self._energy = Energy(asked.town, asked.span)
        self._rules = SettlementRules(
            resolution=RESOLUTION, battery_loss_permille=asked.town.table.charging_loss_permille
        )
        # The day begins in the evening before.
        self._first_month = month_of(self._span.first * QUARTERS_A_DAY + QUARTERS_A_DAY // 2, self._zone)
        self._waiting: list[Happening] = []  # what still happens beside the days, in order
        self._kept: list[Corrected] = []  # the readings of the late day, as they came in the end

    def make(self) -> None:
        """Make everything, in the order in which it happened."""
        begin = self._span.first * 86_400
        first = month_quarters(self._first_month, self._zone)[0]
        register(self._database, self._asked.town, max(first, self._span.first * QUARTERS_A_DAY), self._zone)
        self._office.hire(begin - 30 * 86_400)
        self._office.publish(TARIFF.read_text(), begin - 29 * 86_400)
        self._office.name(begin - 28 * 86_400)
        with self._database.reads.begin() as connection:
            self._owners = list(owners(connection).values())
            numbers = numbers_of(connection, [meter.id for owner in self._owners for meter in owner.meters])
        # The number of each meter, and that of its microgrid.
        self._numbers = {m.id: (numbers[m.id], owner.number) for owner in self._owners for m in owner.meters}
        self._waiting = sorted(self._events(), key=lambda each: each[0])
        for day, readings in self._energy.days():
            self._tell("days settled", (day - self._span.first) / (self._span.fine - self._span.first))
            self._happen(day * 86_400)
            self._settle(day, readings)
            self._store_batteries(day, readings)
        self._store_faults()
        self._count_usage()
        self._read()
        self._write_levels()
        self._happen(self._span.end)
        self._work()

    def _happen(self, until: EpochSeconds) -> None:
        """Do what happened before a time."""
        while self._waiting and self._waiting[0][0] < until:
            self._waiting.pop(0)[1]()

    def _events(self) -> Iterator[Happening]:
        """Yield what happened beside the days, with its time."""
        month, office = self._first_month, self._office
        while (at := month_quarters(month, self._zone)[1] * QUARTER_S + BILLED_AFTER_S) < self._span.end:
            yield at, partial(office.bill, month, at)
            for after_s, what in ((PAID_AFTER_S, partial(office.collect, month)), (REMINDED_AFTER_S, office.remind)):
                if at + after_s < self._span.end:
                    yield at + after_s, partial(what, at + after_s)
            month = month_after(month)
        for fault in self._span.faults:
            if fault.announced is not None:
                yield fault.announced, partial(office.announce, fault)
        if self._asked.late is not None:
            yield (self._asked.late.day + 1) * 86_400 + LATE_S, self._settle_late
        proposed = self._span.end - PROPOSED_BEFORE_S
        yield proposed, partial(office.propose, NEXT_TARIFF.read_text(), proposed)
        told = self._span.end - MOVE_TOLD_BEFORE_S
        at = midnight(local_day(self._span.end + MOVES_AFTER_S, self._zone), self._zone)
        yield told, partial(office.plan_move, at, told)

    def _settle(self, day: Day, readings: list[Corrected]) -> None:
        late = self._asked.late
        if late is not None and day == late.day:
            self._kept = readings
            readings = [readings[0], *(_without(one, late.meter) for one in readings[1:])]
        self._store(day, readings, (day + 1) * 86_400 + 3_600, Why.FIRST)

    def _settle_late(self) -> None:
        late = self._asked.late
        assert late is not None
        self._store(late.day, self._kept, (late.day + 1) * 86_400 + LATE_S, Why.LATE)

    def _store(self, day: Day, readings: list[Corrected], now: EpochSeconds, why: Why) -> None:
        layouts = [layout_of(owner.microgrid, owner.meters, day) for owner in self._owners]
        first = day * QUARTERS_A_DAY - 1
        found = settle_day(day, layouts, lambda quarter: readings[quarter - first], self._rules)
        due = [DueDay(day=day, owner_no=owner.number, marks=1, why=why) for owner in self._owners]
        with self._database.writes.begin() as connection:
            save(connection, found, self._owners, due, self._rules.convention, now, is_over=True)

    def _store_batteries(self, day: Day, readings: list[Corrected]) -> None:
        """Store what statistics need of batteries and panels; the readings of a day that is long over were dropped."""
        with self._database.writes.begin() as connection:
            for n, one in enumerate(readings[1:]):
                rows = np.flatnonzero(one.keys.record_type != RecordType.THROUGH)
                last = one.values[rows, -1]
                of = [self._numbers[meter] for meter in one.keys.meter[rows].tolist()]
                meter_no, owner_no = np.array(of, np.int64).T
                is_flow = one.keys.record_type[rows] == RecordType.GENERATION
                columns = {
                    "total": Column(one.values[rows].sum(axis=1), is_flow),
                    "last_reading": Column(last),
                    "quarter": Column(np.full(len(rows), day * QUARTERS_A_DAY + n)),
                    "meter_no": Column(meter_no),
                    "record_type": Column(one.keys.record_type[rows].astype(np.int64)),
                    "owner_no": Column(owner_no),
                    "exact": Column(np.full(len(rows), SLOTS)),
                }
                columns |= {name: Column(np.zeros(len(rows), np.int64)) for name in _UNUSED}
                insert_columns(connection, compacted, columns, [b""] * len(rows))

    def _store_faults(self) -> None:
        """Store what boundaries reported before the last days, by which statistics count a microgrid's islands."""
        at = self._span.fine * 86_400
        Writer(self._database).commit(list(self._appends([(empty(), self._energy.faults)], at)))

    def _count_usage(self) -> None:
        """Let the statistics take the months in, then drop what they needed."""
        self._tell("statistics", 0)
        now = self._span.fine * 86_400
        turn = Turn(job="statistics", period=Period(start=now, end=now + 1, name=""), attempt=1, now=now)
        asyncio.run(take_in(self._database, Threads(read=_at_once, write=_at_once), turn))
        with self._database.writes.begin() as connection:
            connection.execute(compacted.delete())

    def _read(self) -> None:
        """Store the readings and events of the last days, as the gateways sent them, hour by hour."""
        with self._database.writes.begin() as connection:
            # Readings before were never there: settled days stay, nothing is requested.
            save_setting(connection, KEPT_FROM, str(self._span.fine * QUARTERS_A_DAY - 1))
            save_setting(connection, EMULATED_UNTIL, str(self._span.end))
        writer = Writer(self._database)
        some: list[tuple[Blocks, list[EventRecord]]] = []
        grids, began = {meter.id: meter.microgrid for meter in self._asked.town.meters}, dict[str, EpochSeconds]()
        for blocks, events in self._energy.fine():
            some.append((blocks, events))
            for event in events:
                if event.new_state & ~event.previous_state & State.DEAD_FEEDER:
                    began[grids[event.meter_id]] = event.time
                elif event.previous_state & ~event.new_state & State.DEAD_FEEDER and grids[event.meter_id] in began:
                    # Of the two meters of a boundary the first one tells.
                    self._office.note_island(grids[event.meter_id], began.pop(grids[event.meter_id]), event.time)
            quarter = int(blocks.quarter[0])
            if len(some) == 4 or (quarter + 1) * QUARTER_S == self._span.end:
                writer.commit(list(self._appends(some, (quarter + 1) * QUARTER_S)))
                some = []
                self._tell("readings of 15 s", 1 - (self._span.end // QUARTER_S - quarter) / (8 * QUARTERS_A_DAY))

    def _write_levels(self) -> None:
        """Write the levels of the batteries at the end, from which the live town goes on."""
        levels = {str(meter): level for meter, level in self._energy.levels().items()}
        (self._asked.folder / LEVELS).write_text(json.dumps(levels, indent=1) + "\n")

    def _appends(self, some: Sequence[tuple[Blocks, list[EventRecord]]], now: EpochSeconds) -> Iterator[Append]:
        of = {meter.id: meter.microgrid for meter in self._asked.town.meters}
        blocks = join([each for each, _ in some])
        owner = np.array([of[meter] for meter in blocks.meter.tolist()], np.str_)
        for name in self._asked.town.microgrids:
            ours = blocks.take(np.flatnonzero(owner == name))
            told = [(1, event) for _, events in some for event in events if of[event.meter_id] == name]
            yield Append(
                sender=name, owner=name, received=now, blocks=ours, payloads=pack(ours), events=told, dead_letters=[]
            )

    def _work(self) -> None:
        """Let the utility's jobs do what is due at the end, then make the release."""
        self._tell("jobs", 0)
        # The second time they do what the first one left: what was shared is counted after the readings are joined.
        for now in (self._span.end - 3_600, self._span.end):
            asyncio.run(_jobs(self._settings, self._database, now))
        if self._asked.release is not None:
            self._tell("release", 0)
            self._office.release(*self._asked.release, self._span.end - 3_600)
        with self._database.writes.begin() as connection:
            # They count what gateways send while the town lives.
            for table in (tally, relayed_day):
                connection.execute(table.delete())


async def _at_once(work: Callable[..., Any], *arguments: object) -> Any:
    return work(*arguments)


async def _jobs(settings: UtilitySettings, database: Database, now: EpochSeconds) -> None:
    clock, metrics = Clock(origin=now, monotonic_origin=0, speed=0), UtilityMetrics()
    ingest = Ingest(
        database,
        clock=clock,
        metrics=metrics.readings,
        publish=lambda _: None,
        gap_age_s=settings.gap_age_s,
        health=Health(None),
    )
    ingest.trust = Trust.NETWORK
    jobs = ServiceJobs(settings, database, clock, ingest, metrics)
    try:
        await jobs.tick()
    finally:
        jobs.close()
        ingest.close()


def _without(readings: Corrected, meter: MeterId) -> Corrected:
    others = np.flatnonzero(readings.keys.meter != meter)
    return Corrected(keys=readings.keys.take(others), values=readings.values[others], quality=readings.quality[others])


_LEVEL = 19


def write_archive(asked: Asked, out: Path) -> None:
    """Write the archive of a past that was made."""
    packed = asked.folder / "packed.db"
    with closing(sqlite3.connect(asked.folder / DATABASE)) as connection:
        connection.execute("VACUUM INTO ?", (str(packed),))
    (asked.folder / PAST).write_text(json.dumps({"until": asked.span.end}) + "\n")
    releases = (path for path in sorted((asked.folder / "utility" / "releases").rglob("*")) if path.is_file())
    files = {f"utility/{DATABASE}": packed}
    files |= {str(path.relative_to(asked.folder)): path for path in releases}
    files |= {name: asked.folder / name for name in (PAST, LEVELS, "utility/office-key")}
    window_log = WINDOW_BYTES.bit_length() - 1
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=window_log, enable_ldm=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o600
            with path.open("rb") as file:
                archive.addfile(entry, file)
    out.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(content.getvalue()))
