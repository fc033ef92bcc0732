"""Completeness of finished days, counted by the job, beside the slot-by-slot count of the same time."""

import asyncio
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.town.town import Town
from harness.real import databases
from harness.settlement.stored import DAY, FIRST, SOON, remove_meter, store, town_blocks, without
from utility.database.database import Database, save_setting
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.overview.jobs import count_days
from utility.overview.store.days import CountedDays, counted_days
from utility.readings.store.completeness import Completeness, by_microgrid, completeness
from utility.readings.store.retention import KEPT_FROM
from utility.registry.store.accounts import load_for_change, save_dated_registry

SERIES_A_DAY = 96 * 60


def run(database: Database, now: int = SOON) -> CountedDays:
    turn = Turn(job="completeness", period=Period(start=now, end=now, name="now"), attempt=1, now=now)
    asyncio.run(count_days(database, HERE, lambda: True, turn))
    with database.reads.begin() as connection:
        return counted_days(connection, DAY - 5, DAY + 5)


def directly(database: Database, first: int = FIRST, end: int = FIRST + 96) -> dict[str, Completeness]:
    return by_microgrid(completeness(database, first, end))


def enter_removal(database: Database, meter: int, end: int) -> None:
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        after = replace(before, meters={**before.meters, meter: replace(before.meters[meter], end=end)})
        assert save_dated_registry(connection, before, after, "ben", SOON, ZoneInfo("UTC")) == 1


@databases.on_both_kinds
def test_days_counted_by_the_job_are_what_a_count_of_each_slot_finds(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lacking = without(blocks["r001"], 10001, range(FIRST + 3, FIRST + 9))
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.by_microgrid == directly(database)
    assert found.by_microgrid["r001"].missing == 6 * 60
    assert found.by_microgrid["r002"].missing == 0, "a whole microgrid was counted from its sums"
    assert found.by_day[DAY].expected == len(town.meters) * SERIES_A_DAY
    assert (found.pending, found.computed) == (0, SOON)


def test_removed_meter_is_not_missing(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lacking = without(blocks["r001"], 10001, range(FIRST + 40, FIRST + 96))
    remove_meter(database, 10001, FIRST + 40)
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.total.missing == 0
    assert found.by_day[DAY].expected == len(town.meters) * SERIES_A_DAY - 56 * 60


def test_a_removal_that_is_entered_late_counts_its_days_again(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    store(database, blocks | {"r001": without(blocks["r001"], 10001, range(FIRST + 40, FIRST + 96))})
    lacking = run(database)
    assert lacking.total.missing == 56 * 60
    enter_removal(database, 10001, FIRST + 40)
    found = run(database, SOON + 3600)
    assert found.by_day[DAY].missing == 0
    assert found.by_microgrid == directly(database)
    enter_removal(database, 10001, FIRST + 96)
    assert run(database, SOON + 7200).by_microgrid == lacking.by_microgrid, "it was removed later than that"


def test_readings_of_a_removed_meter_hide_no_missing_ones(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    first, second = sorted({int(each) for each in blocks["r001"].meter})[:2]
    lacking = without(blocks["r001"], first, range(FIRST + 40, FIRST + 96))
    remove_meter(database, second, FIRST + 40)
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.by_microgrid == directly(database)
    assert found.total.missing == 56 * 60 * len(set(lacking.record_type[lacking.meter == first].tolist()))


def test_late_readings_and_silent_days_are_counted_again(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lost = np.isin(blocks["r001"].meter, [10001]) & (blocks["r001"].quarter == FIRST + 4)
    store(database, blocks | {"r001": without(blocks["r001"], 10001, range(FIRST + 4, FIRST + 5))})
    assert run(database).total.missing == 60
    store(database, {"r001": blocks["r001"].take(np.flatnonzero(lost))}, SOON + 900)
    assert run(database, SOON + 3600).total.missing == 0, "the late reading marked its day"
    found = run(database, SOON + 86_400)
    assert found.by_day[DAY + 1].missing == len(town.meters) * SERIES_A_DAY, "a day without any reading counts"
    assert found.by_day[DAY].missing == 0


def test_nothing_waits_to_be_counted_of_days_whose_readings_are_no_longer_kept(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    store(database, blocks)
    before = run(database)
    with database.writes.begin() as connection:
        save_setting(connection, KEPT_FROM, str(FIRST + 96))
    store(database, blocks, SOON + 900)
    after = run(database, SOON + 3600)
    assert (after.pending, after.by_day[DAY]) == (0, before.by_day[DAY])
