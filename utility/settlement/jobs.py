"""The jobs of settlement and of sharing: what finished days and quarter-hours came to, and late data.

A microgrid's day is stored in one transaction with the deletion of its mark. So a job that is killed begins again with
the microgrids that are left. The sharing of a quarter-hour is computed when all its readings are there, or two hours
after its end; and again when late ones come.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import takewhile

from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, MicrogridId, Quarter
from utility.corrections.store.corrections import overlay, take_changed
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY, applied
from utility.jobs.plans import Threads, Why
from utility.jobs.store import Turn, mark, unmark
from utility.jobs.tables import settlement_due
from utility.readings.store.gaps import events_by_meter
from utility.readings.store.parts import chunks
from utility.readings.store.reads import numbers_of
from utility.readings.store.retention import kept_from
from utility.registry.layout import Day, Layout, ids_of, layout_of
from utility.settings import SettlementSettings
from utility.settlement.day import SettledDay, SettlementRules, Settling, deadline
from utility.settlement.metrics import SettlementMetrics
from utility.settlement.shared_quarter import NOTHING, SharedQuarter, shared_in, sharing_slots
from utility.settlement.store.readings import (
    DueDay,
    ReadingsOfQuarters,
    due_days,
    due_on,
    mark_first,
    owners,
    sharing_of_day,
    silent_days,
    whole_day,
)
from utility.settlement.store.settled import (
    RESIDUAL_DAYS,
    conventions,
    counts,
    finish_day,
    provisional_days,
    residuals,
    save,
)
from utility.settlement.store.sharing import Due, due, forget_dropped, save_sharing
from utility.supply.store import loss_permille
from utility.tariffs.store import holidays

FINISHED_S = 3_600  # seconds after a day's end before it is settled: its last readings are still on their way
# Days after which a day without any reading of the town, between others, is settled: most may still come.
SILENT_DAYS = 3

OWNERS_AT_A_TIME = 200
"""Most microgrids settled at once, to bound the memory, and stored in one transaction, so that arriving batches wait
only briefly."""


@dataclass(eq=False)
class SettlementJob:
    """Settles what is due on the jobs' thread, a quarter-hour in a step, and writes on the thread for writes."""

    settings: SettlementSettings  # how days are settled, and when they are final
    database: Database  # the database
    metrics: SettlementMetrics  # what is counted of it
    threads: Threads  # where it reads and writes
    _: KW_ONLY
    is_trusted: Callable[[], bool]  # returns whether the clock is synchronized
    tell: Callable[[Day, float], object] = lambda _, __: None  # called with a day and the part of it that is settled
    _deadline: Callable[[Day], EpochSeconds] = field(init=False)  # returns when a day is final

    async def run(self, turn: Turn) -> None:
        """Settle every finished day that is due, make days final whose deadline has passed, and count.

        It waits for a trusted clock: with another one, days would seem to be over.
        """
        if not self.is_trusted():
            return
        read, write, database = self.threads.read, self.threads.write, self.database
        self._deadline = await read(database.read, self._deadlines)
        await write(database.write, _mark_corrected)
        before = (turn.now - FINISHED_S) // 86_400
        for day in await read(database.read, silent_days, before - SILENT_DAYS):
            await write(database.write, mark_first, day)
        for day in await read(database.read, due_days, before):
            await self._settle(day, turn.now)
        for day in await read(database.read, provisional_days):
            if turn.now >= self._deadline(day):
                await write(database.write, finish_day, day)
        await read(database.read, self._count, turn.now)

    async def _settle(self, day: Day, now: EpochSeconds) -> None:
        write, database = self.threads.write, self.database
        await write(database.write, mark_first, day)
        parts, forgotten = await self.threads.read(database.read, self._parts, day)
        if forgotten:
            await write(database.write, unmark, settlement_due, forgotten)
        for number, part in enumerate(parts):
            work = await self.threads.read(_Work, self.database, day, part)
            if not work.owners:
                await write(database.write, unmark, settlement_due, part.due)
                continue
            for done, quarter in enumerate(work.quarters):
                await self.threads.read(work.step, quarter)
                self.tell(day, (number + done / (QUARTERS_A_DAY + 1)) / len(parts))
            settled = await self.threads.read(work.finished)
            self.metrics.settled_versions.inc(await write(database.write, self._save, settled, work, now))

    def _parts(self, connection: Connection, day: Day) -> "tuple[list[_Part], list[DueDay]]":
        """Return what of a day is settled at once, by convention, and the marks of readings that were dropped."""
        due, settled_by, kept = due_on(connection, day), conventions(connection, day), kept_from(connection)
        if day * QUARTERS_A_DAY < kept:
            return [], due
        # Without the levels before the day a settled one would lose its first quarter-hour.
        forgotten = [d for d in due if day * QUARTERS_A_DAY == kept and d.owner_no in settled_by]
        rules = _rules(connection, self.settings)
        by: dict[str, list[DueDay]] = {}
        for due_day in due:
            if due_day not in forgotten:
                by.setdefault(settled_by.get(due_day.owner_no, self.settings.convention), []).append(due_day)
        return [
            _Part(due=some, rules=replace(rules, convention=name))
            for name, marks in by.items()
            for some in chunks(marks, OWNERS_AT_A_TIME)
        ], forgotten

    def _save(self, connection: Connection, settled: SettledDay, work: "_Work", now: EpochSeconds) -> int:
        is_over, due = now >= self._deadline(settled.day), work.part.due
        return save(connection, settled, work.owners, due, work.part.rules.convention, now, is_over=is_over)

    def _deadlines(self, connection: Connection) -> Callable[[Day], EpochSeconds]:
        """Return the deadline of a day, by the town's zone and the holidays of its tariffs."""
        zone, free = zone_of(connection), holidays(connection)
        return lambda day: deadline(day, zone, free)

    def _count(self, connection: Connection, now: EpochSeconds) -> None:
        today = now // 86_400
        rows = residuals(connection, today - RESIDUAL_DAYS, today)
        self.metrics.residuals_beyond.set(sum(r.excess > 0 for r in rows))
        self.metrics.settlement_provisional.set(counts(connection)["provisional"])


def settled_so_far(
    database: Database, settings: SettlementSettings, day: Day, microgrids: Collection[MicrogridId], until: Quarter
) -> SettledDay:
    """Settle a day of some microgrids before a quarter by the readings that have come; nothing is stored."""
    with database.reads.begin() as connection:
        part = _Part(due=whole_day(connection, day, microgrids), rules=_rules(connection, settings))
    work = _Work(database, day, part)
    for quarter in takewhile(lambda q: q < until, work.quarters):
        work.step(quarter)
    return work.finished()


def _rules(connection: Connection, settings: SettlementSettings) -> SettlementRules:
    return SettlementRules(
        convention=settings.convention,
        resolution=settings.resolution_mwh,
        battery_loss_permille=loss_permille(connection),
        loop_loss_permille=settings.loop_loss_permille,
    )


def _mark_corrected(connection: Connection) -> None:
    """Mark the days whose corrections in force changed; a day that is not over yet is settled at its end."""
    mark(connection, settlement_due, take_changed(connection), Why.CORRECTION)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What of a day is settled at once: the marks of some microgrids."""

    due: Sequence[DueDay]
    rules: SettlementRules


class _Work:
    """The settlement of a part of a day."""

    def __init__(self, database: Database, day: Day, part: _Part) -> None:
        self.part, rules = part, part.rules
        with database.reads.begin() as connection:
            self.owners = list(owners(connection, [d.owner_no for d in part.due]).values())
            layouts = [layout_of(owner.microgrid, owner.meters, day) for owner in self.owners]
            numbers = numbers_of(connection, [i for layout in layouts for i in ids_of(layout.meters)])
            self._corrections = overlay(connection, numbers, day * QUARTERS_A_DAY - 1, (day + 1) * QUARTERS_A_DAY)
        batteries = {numbers[i]: i for layout in layouts for i in _batteries(layout, rules)}
        sharing = database.read(sharing_of_day, batteries, day) if rules.convention == "sharing_first" else {}
        self._settling = Settling(day, layouts, rules, sharing)
        self.quarters = self._settling.quarters
        self._readings = ReadingsOfQuarters(database, numbers, list(batteries)).over(self.quarters)

    def step(self, quarter: Quarter) -> None:
        """Settle the next quarter."""
        self._settling.add(applied(next(self._readings), self._corrections.of(quarter)))

    def finished(self) -> SettledDay:
        """Return the settled day."""
        return self._settling.finished()


def _batteries(layout: Layout, rules: SettlementRules) -> list[MeterId]:
    places = layout.batteries if rules.convention == "sharing_first" else layout.unmetered
    return [layout.senders[place.sender].id for place in places]


SETTLED_S = QUARTER_S  # seconds after a quarter-hour's end before it is computed: its readings are still on their way
DEADLINE_S = 7_200  # seconds after a quarter-hour's end from which it is computed with the readings that are there


async def record_sharing(database: Database, threads: Threads, turn: Turn) -> None:
    """Compute what is due and ready on the jobs' thread, and store it on the one for writes."""
    await threads.write(database.write, forget_dropped)
    after = (-1, -1)
    while True:
        before = (turn.now - SETTLED_S) // QUARTER_S
        waiting: list[Due] = await threads.read(database.read, due, before, after)
        if not waiting:
            return
        computed = await threads.read(_computed, database, waiting, turn.now)
        await threads.write(database.write, save_sharing, computed, turn.now)
        after = waiting[-1].quarter, waiting[-1].owner_no


def _computed(database: Database, waiting: Sequence[Due], now: EpochSeconds) -> list[tuple[Due, SharedQuarter]]:
    with database.reads.begin() as connection:
        town, loss = owners(connection, {d.owner_no for d in waiting}), loss_permille(connection)
        numbers = numbers_of(connection, [meter.id for owner in town.values() for meter in owner.meters])
    computed = []
    for item in waiting:
        owner, result = town.get(item.owner_no), NOTHING
        if owner is not None:
            whole = item.quarter, item.quarter + 1
            there = [meter for meter in owner.meters if meter.within(*whole) == whole]
            layout = layout_of(owner.microgrid, there, item.quarter // QUARTERS_A_DAY)
            result = _compute(database, layout, numbers, item.quarter, loss)
        if result.complete or now >= (item.quarter + 1) * QUARTER_S + DEADLINE_S:
            computed.append((item, result))
    return computed


def _compute(
    database: Database, layout: Layout, numbers: Mapping[MeterId, int], quarter: Quarter, loss: int
) -> SharedQuarter:
    batteries = {numbers[i]: i for i in (layout.senders[place.sender].id for place in layout.batteries)}
    events = database.read(events_by_meter, list(batteries), quarter * QUARTER_S, (quarter + 1) * QUARTER_S)
    sharing = {batteries[number]: sharing_slots(changes, quarter) for number, changes in events.items()}
    if not any(slots.any() for slots in sharing.values()):
        return NOTHING
    ours = {i: numbers[i] for i in ids_of(layout.meters)}
    readings = list(ReadingsOfQuarters(database, ours, list(batteries)).over((quarter - 1, quarter)))
    return shared_in(layout, numbers, sharing, readings, quarter, loss)
