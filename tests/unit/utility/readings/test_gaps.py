"""Gaps: found, asked for, excused by events; what is older than it is kept is dropped and asked for no more."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from commonwatt.model.blocks import join
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES
from commonwatt.sqlite import DamagedError
from harness.network.waiting import eventually
from harness.surroundings import databases
from harness.surroundings.messages import append, blocks, compact, find_gaps
from harness.surroundings.stored import remove_meter
from utility.assembly.recovery import recover
from utility.database.database import Database, open_database, save_setting
from utility.database.engines import Lock, take
from utility.database.postgres.partitions import first_quarter, make_partitions, month_of, months_later, partitions
from utility.jobs.plans import Why
from utility.jobs.store import mark
from utility.jobs.tables import settlement_due
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.outbox.store import open_commands
from utility.readings import gaps
from utility.readings.gaps import ALL_SLOTS, WantedSlots, off_mask, off_times
from utility.readings.store import completeness, reads, retention
from utility.readings.store import gaps as gap_finder
from utility.readings.store.batches import execute
from utility.readings.store.compactor import SETTLE_S, Compactor
from utility.readings.store.dead_letters import dead_letter_row
from utility.readings.store.gaps import GapFinder, Off
from utility.readings.store.parts import quarantine, select_fresh
from utility.readings.store.retention import KEPT_FROM, Retention, kept_from, make_ahead
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, dead_letter, gap, quarantined
from utility.readings.tables import event as event_table
from utility.registry.tables import installed

kind = databases.both_kinds

QUARTER = 2_000_000
BEGIN = QUARTER * 900
AGE = 1800
UP = int(State.INITIALIZED)
FULL = dict.fromkeys(range(60), 1)


def event(number: int, time: int, new: int, previous: int | None = None) -> tuple[int, EventRecord]:
    before = UP - new if previous is None else previous
    return 1, EventRecord(previous_state=before, new_state=new, record_id=number, meter_id=10001, time=time)


def find(database: Database, now: int) -> list[OpenCommand]:
    """Run the finder, and return the commands it gave out."""
    with database.reads.begin() as connection:
        before = {c.id for c in open_commands(connection)}
    find_gaps(database, now, AGE)
    with database.reads.begin() as connection:
        return [c for c in open_commands(connection) if c.id not in before]


def asked(commands: list[OpenCommand]) -> list[tuple[str, int, int, str]]:
    return [tuple(block) for command in commands for block in json.loads(command.message)["blocks"]]


@pytest.mark.parametrize(("times", "seconds"), [(1, 300), (2, 600), (7, 19_200), (8, 21_600), (100, 21_600)])
def test_backoff_doubles_up_to_six_hours(times: int, seconds: int) -> None:
    assert gaps.backoff_s(times) == seconds


def test_slot_not_wholly_inside_an_up_time_is_off() -> None:
    off = off_times([event(5, BEGIN + 31, 0), event(6, BEGIN + 61, UP)])
    assert off == [(BEGIN + 31, BEGIN + 61)]
    assert off_mask(off, QUARTER) == 0b11100
    assert off_mask(off, QUARTER - 1) == off_mask(off, QUARTER + 1) == 0
    assert off_mask(off_times([event(5, BEGIN + 30, 0), event(6, BEGIN + 45, UP)]), QUARTER) == 0b100


def test_meter_that_stays_off_is_off_from_then_on() -> None:
    off = off_times([event(5, BEGIN - 10, 0), event(6, BEGIN - 5, 0)])
    assert off_mask(off, QUARTER) == off_mask(off, QUARTER + 1000) == ALL_SLOTS
    assert off_mask(off, QUARTER - 2) == 0


def test_power_lost_without_a_word_makes_the_slot_of_the_return_off() -> None:
    off = off_times([event(5, BEGIN - 9000, UP, previous=UP), event(6, BEGIN + 20, UP, previous=0)])
    assert off_mask(off, QUARTER) == 0b10
    assert off_mask(off_times([event(6, BEGIN + 15, UP, previous=0)]), QUARTER) == 0


def test_first_entry_of_a_log_says_there_was_nothing_before() -> None:
    off = off_times([event(1, BEGIN + 30, UP, previous=0)])
    assert (off_mask(off, QUARTER), off_mask(off, QUARTER - 1)) == (0b11, ALL_SLOTS)


def test_new_log_after_lost_memory_does_not_excuse_the_time_the_meter_was_up() -> None:
    up = EventRecord(previous_state=UP, new_state=UP, record_id=7, meter_id=10001, time=BEGIN)
    born = EventRecord(previous_state=0, new_state=UP, record_id=1, meter_id=10001, time=BEGIN + 895)
    assert off_mask(off_times([(1, up), (2, born)]), QUARTER) == 1 << 59


def test_requests_fit_the_longest_message() -> None:
    wanted = [
        WantedSlots(
            microgrid="r001",
            controller="r001" if n % 2 else "r002",
            meter=2**64 - 1 - n,
            record_type=3,
            quarter=QUARTER,
            mask=ALL_SLOTS,
        )
        for n in range(1000)
    ]
    made = list(gaps.requests(wanted, BEGIN, iter(map(str, range(100))), {"r001": (2**32 - 1, 65_535)}))
    assert all(len(command.pack()) <= MAX_COMMAND_BYTES for _, command in made)
    assert max(len(command.pack()) for _, command in made) > MAX_COMMAND_BYTES * 0.8
    of_r002 = [command.command for controller, command in made if controller == "r002"]
    plain = [command for controller, command in made if controller == "r001"]
    assert sum(len(command.blocks or ()) for command in [*plain, *of_r002] if command is not None) == 1000
    assert len({command.id for _, command in made}) == len(made)


def test_exactly_the_missing_slots_are_asked_for_with_backoff_until_they_come(database: Database) -> None:
    writer = Writer(database)
    part = {slot: 1 for slot in range(60) if slot not in (3, 59)}
    writer.commit([append(blocks(part)), append(blocks(FULL, quarter=QUARTER + 1))])
    young = BEGIN + 900 + AGE - 1
    assert find(database, young) == []
    mask = f"{1 << 3 | 1 << 59:x}"
    first = find(database, young + 1)
    assert [c.controller for c in first] == ["r001"]
    assert asked(first) == [("10001", 3, QUARTER, mask)]
    assert find(database, young + 300) == []
    assert asked(find(database, young + 301)) == [("10001", 3, QUARTER, mask)]
    assert find(database, young + 900) == []
    writer.commit([append(blocks({3: 1}))])
    compact(database, young + 300 + 300)
    find(database, young + 300 + 300)
    with database.reads.begin() as connection:
        assert [g["slots"] for g in reads.gaps(connection, 5)] == [1]
    writer.commit([append(blocks({59: 1}))])
    compact(database, young + 700)
    find(database, young + 700)
    with database.reads.begin() as connection:
        assert [g for g in reads.gaps(connection, 500) if g["start"] == BEGIN] == []


def test_quarters_without_any_block_are_gaps_and_compacted_ones_are_seen(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(FULL)), append(blocks(FULL, quarter=QUARTER + 2))])
    compactor = Compactor(database)
    replacement = compactor.plan(BEGIN + 9000)
    assert replacement is not None
    assert compactor.apply(replacement) == 2
    commands = find(database, BEGIN + 3 * 900 + AGE)
    assert asked(commands) == [("10001", 3, QUARTER + 1, f"{ALL_SLOTS:x}")]


def test_older_data_that_comes_late_widens_the_search(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(FULL))])
    assert find(database, BEGIN + 900 + AGE) == []
    writer.commit([append(blocks(FULL, quarter=QUARTER - 3))])
    assert [block[2] for block in asked(find(database, BEGIN + 900 + AGE))] == [QUARTER - 2, QUARTER - 1]
    assert find(database, BEGIN + 900 + AGE) == []


def test_a_run_looks_through_so_many_blocks_and_the_next_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utility.readings.store.gaps.MAX_SCANNED", 3)
    Writer(database).commit([append(blocks(FULL)), append(blocks(FULL, meter=10002))])
    quarters = sorted((block[0], block[2] - QUARTER) for block in asked(find(database, BEGIN + 5 * 900 + AGE)))
    assert quarters == [(meter, q) for meter in ("10001", "10002") for q in (1, 2, 3, 4)]


def test_off_slots_are_not_asked_for(database: Database) -> None:
    off = [event(5, BEGIN + 45, 0), event(6, BEGIN + 60, UP)]
    slots = {slot: 1 for slot in range(60) if slot not in (3, 4)}
    Writer(database).commit([append(blocks(slots), events=off)])
    assert asked(find(database, BEGIN + 900 + AGE)) == [("10001", 3, QUARTER, "10")]


def test_nothing_is_expected_of_a_removed_meter(database: Database) -> None:
    Writer(database).commit([append(blocks(FULL)), append(blocks(FULL, quarter=QUARTER + 1))])
    now = BEGIN + 4 * 900 + AGE
    assert [block[2] for block in asked(find(database, now))] == [QUARTER + 2, QUARTER + 3]
    remove_meter(database, 10001, QUARTER + 3)
    assert [block[2] for block in asked(find(database, now + 90_000))] == [QUARTER + 2]
    with database.reads.begin() as connection:
        assert [one["start"] for one in reads.gaps(connection, 500)] == [BEGIN + 2 * 900], "the open gap was closed"
    counts = completeness.completeness(database, QUARTER, QUARTER + 96)[0].counts
    assert (counts.exact, counts.missing, counts.expected) == (120, 60, 180)


def test_damaged_date_of_removal_stops_no_requests_silently(database: Database) -> None:
    Writer(database).commit([append(blocks(FULL))])
    with database.writes.begin() as connection:
        connection.execute(update(installed).where(installed.c.meter == 10001).values(until=QUARTER + 1))
    with pytest.raises(DamagedError, match="installed"):
        find(database, BEGIN + 4 * 900 + AGE)


def test_absent_slots_are_not_asked_for_again_but_may_still_come(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(dict.fromkeys(range(58), 1)))])
    now = BEGIN + 900 + AGE
    (command,) = find(database, now)
    absent = ((10001, 3, QUARTER, 1 << 58), (20001, 3, QUARTER, 1), (777, 3, QUARTER, 1))
    writer.commit([CloseCommand(id=command.id, controller="r001", state="done", outcome="{}", absent=absent)])
    assert [b for b in asked(find(database, now + 300)) if b[2] == QUARTER] == [("10001", 3, QUARTER, f"{1 << 59:x}")]
    tally = completeness.completeness(database, QUARTER, QUARTER + 1)[0].counts
    assert (tally.exact, tally.absent, tally.missing, tally.expected) == (58, 1, 1, 60)
    writer.commit([append(blocks({58: 1, 59: 1}))])
    find(database, now + 301)
    assert completeness.completeness(database, QUARTER, QUARTER + 1)[0].counts.exact == 60


def test_completeness_counts_each_slot_under_one_reason(database: Database) -> None:
    off = [event(5, BEGIN + 45, 0), event(6, BEGIN + 60, UP)]
    Writer(database).commit(
        [
            append(blocks(dict.fromkeys(range(10, 20), 1)), events=off),
            append(blocks({20: 4}, q=1)),
            append(blocks({20: 4}, q=1, meter=10002)),
        ]
    )
    found = completeness.completeness(database, QUARTER - 1, QUARTER + 2, "r001")
    assert [(entry.meter, entry.record_type) for entry in found] == [(10001, 3), (10002, 3)]
    told = {name: count for name, count in vars(found[0].counts).items() if count}
    assert told == {"exact": 10, "averaged": 1, "off": 1, "missing": 108}
    sums = completeness.by_microgrid(found)
    assert sums["r001"].expected == 240
    assert completeness.completeness(database, QUARTER, QUARTER + 1, "r002") == []
    assert completeness.settled_range(BEGIN + 950, BEGIN - 1, BEGIN + 9000) == (QUARTER, QUARTER + 1)


def test_old_commands_of_the_finder_are_forgotten(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}))])
    now = BEGIN + 900 + AGE
    (command,) = find(database, now)
    writer.commit([CloseCommand(id=command.id, controller="r001", state="expired")])
    find(database, now + 300)
    with database.reads.begin() as connection:
        assert len(reads.commands(connection, 10)) == 2
    find(database, now + 90_000)
    with database.reads.begin() as connection:
        assert command.id not in [c["id"] for c in reads.commands(connection, 500)]


def test_gaps_are_found_after_the_clock_was_once_ten_days_ahead(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(dict.fromkeys(range(59), 1)))])
    now = BEGIN + 900 + AGE
    ahead = find(database, now + 10 * 86_400)
    assert len(asked(ahead)) > 900
    # The gateway's clock was ahead too.
    absent = tuple((int(meter), kind, quarter, int(mask, 16)) for meter, kind, quarter, mask in asked(ahead)[1:])
    for command in ahead:
        writer.commit([CloseCommand(id=command.id, controller="r001", state="done", outcome="{}", absent=absent)])
    assert asked(find(database, now)) == [("10001", 3, QUARTER, f"{1 << 59:x}")]
    with database.reads.begin() as connection:
        assert [g["start"] for g in reads.gaps(connection, 5)] == [BEGIN]
    writer.commit([append(blocks(FULL, quarter=QUARTER + 1))])
    again = asked(find(database, now + 1800))
    assert {block[2:] for block in again} == {(QUARTER, f"{1 << 59:x}"), (QUARTER + 2, f"{ALL_SLOTS:x}")}


def test_slots_excused_as_off_are_asked_for_when_the_event_of_the_return_comes_late(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(FULL), events=[event(5, BEGIN + 900, 0)])])
    now = BEGIN + 4 * 900 + AGE
    assert find(database, now) == []
    writer.commit([append(events=[event(6, BEGIN + 2 * 900 + 450, UP)])])
    wanted = [("10001", 3, QUARTER + 2, f"{ALL_SLOTS >> 30 << 30:x}"), ("10001", 3, QUARTER + 3, f"{ALL_SLOTS:x}")]
    told = completeness.completeness(database, QUARTER, QUARTER + 4)[0].counts
    assert (told.exact, told.off, told.missing) == (60, 90, 90)
    assert asked(find(database, now)) == wanted
    # The same event again, or one of now, asks for nothing twice.
    writer.commit([append(events=[event(6, BEGIN + 2 * 900 + 450, UP), event(7, now, UP, previous=UP)])])
    assert find(database, now + 1) == []


def test_a_gap_is_closed_by_the_first_entry_of_a_log_which_says_that_the_meter_was_off_until_then(
    database: Database,
) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}))])
    now = BEGIN + 900 + AGE
    assert asked(find(database, now)) == [("10001", 3, QUARTER, f"{ALL_SLOTS & ~1:x}")]
    born = event(1, BEGIN + 5 * 900, UP, previous=0)
    writer.commit([append(events=[born])])
    find(database, now + 1)
    with database.reads.begin() as connection:
        assert reads.gaps(connection, 5) == []
    # An earlier one shows that the log was not the meter's first, and that it was up.
    writer.commit([append(events=[event(7, BEGIN + 2 * 900, UP, previous=UP)])])
    assert asked(find(database, now + 2)) == [("10001", 3, QUARTER, f"{ALL_SLOTS & ~1:x}")]


def test_what_a_gateway_does_not_have_is_not_asked_for_again_because_an_event_came_late(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}))])
    now = BEGIN + 900 + AGE
    (command,) = find(database, now)
    absent = ((10001, 3, QUARTER, ALL_SLOTS & ~1),)
    writer.commit([CloseCommand(id=command.id, controller="r001", state="done", outcome="{}", absent=absent)])
    writer.commit([append(events=[event(6, BEGIN, UP, previous=UP)])])
    assert find(database, now) == []


def test_event_that_comes_while_the_finder_looks_is_not_missed(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks(FULL), events=[event(5, BEGIN + 900, 0)])])
    find(database, BEGIN + 900 + AGE)
    now = BEGIN + 2 * 900 + AGE
    finder = GapFinder(database)
    run = finder.plan(now, AGE)
    writer.commit([append(events=[event(6, BEGIN + 915, UP)])])
    assert finder.apply(run, now) == 0
    assert asked(find(database, now)) == [("10001", 3, QUARTER + 1, f"{ALL_SLOTS & ~1:x}")]


def test_more_late_data_than_one_run_looks_at_is_looked_at_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utility.readings.store.gaps.MAX_TOUCHED", 3)
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}, quarter=QUARTER + n)) for n in range(8)])
    now = BEGIN + 8 * 900 + AGE
    assert len(asked(find(database, now))) == 8
    writer.commit([append(blocks(FULL, quarter=QUARTER + n)) for n in range(8)])
    compact(database, now + 1)
    find(database, now + 1)
    with database.reads.begin() as connection:
        assert reads.gaps(connection, 10) == []


def test_a_meters_events_of_years_are_not_read_at_every_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counting(events: list[tuple[int, EventRecord]]) -> list[gaps.Interval]:
        read.append(len(events))
        return off_times(events)

    monkeypatch.setattr("utility.readings.store.gaps.off_times", counting)
    old = [event(n, BEGIN - 100_000 + n, UP, previous=UP) for n in range(2, 500)]
    future = [event(n, BEGIN + 9000 + n, UP, previous=UP) for n in range(500, 600)]
    Writer(database).commit([append(blocks({0: 1}), events=[*old, event(499, BEGIN + 5, UP, previous=UP), *future])])
    find(database, BEGIN + 900 + AGE)
    completeness.completeness(database, QUARTER, QUARTER + 1)
    assert max(read) <= 3


def test_an_event_that_comes_late_has_its_meter_looked_through_again_not_the_town(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    key_of = gap_finder._key

    def counting(row: Any) -> tuple[int, int, int]:
        read.append(row)
        return key_of(row)

    writer = Writer(database)
    writer.commit([append(blocks(FULL, quarter=QUARTER + n, meter=m)) for n in range(20) for m in (10001, 10002)])
    compact(database, BEGIN + 100 * 900)
    find(database, BEGIN + 19 * 900 + AGE)
    writer.commit([append(events=[event(6, BEGIN, UP, previous=UP)])])
    monkeypatch.setattr(gap_finder, "_key", counting)
    assert find(database, BEGIN + 20 * 900 + AGE) == []
    # The twenty quarters of its meter, and the new one of the other.
    assert len(read) == 21


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("who", ["writer", "compactor", "reader"])
def test_of_those_who_change_gaps_none_waits_for_another_that_waits_for_it(
    kind: str, who: str, database: Database
) -> None:
    some = {0: 1}
    writer, compactor = Writer(database), Compactor(database)
    writer.commit([append(blocks(some, quarter=QUARTER + n)) for n in range(2)])
    now = BEGIN + 2 * 900 + AGE
    (command,) = find(database, now)
    absent = tuple((10001, 3, QUARTER + n, 2) for n in range(2))
    closed = CloseCommand(id=command.id, controller="r001", state="done", outcome="{}", absent=absent)
    replacement = compactor.plan(now + 9000)
    assert replacement is not None
    with database.reads.begin() as connection:
        rows = execute(connection, select_fresh(lambda c: c.quarter >= QUARTER)).all()
    changes: dict[str, Callable[[], object]] = {
        "writer": lambda: writer.commit([closed]),
        "compactor": lambda: compactor.apply(replacement),
        "reader": lambda: quarantine(database, rows),
    }
    touch = gap.update().values(next_time=now)
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as thread:
        with database.writes.begin() as connection:
            take(connection, Lock.GAPS)
            connection.execute(touch.where(gap.c.quarter == QUARTER + 1))
            other = thread.submit(changes[who])
            eventually(lambda: connection.execute(waits).scalar_one())
            # What the other has locked before it waits would never be let go.
            connection.execute(touch.where(gap.c.quarter == QUARTER))
        other.result(timeout=20)


Moments = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([0, UP]), st.sampled_from([0, UP]), st.integers(1, 2)), max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=Moments, first=st.integers(-1, 4), length=st.integers(1, 3))
def test_events_of_a_range_excuse_the_same_slots_as_all_events(
    database: Database, moments: list[tuple[int, int, int, int]], first: int, length: int
) -> None:
    made = [
        (generation, EventRecord(previous_state=a, new_state=b, record_id=n, meter_id=10001, time=BEGIN + at * 90))
        for n, (at, a, b, generation) in enumerate(sorted(moments))
    ]
    with database.writes.begin() as connection:
        connection.execute(event_table.delete())
    Writer(database).commit([append(events=made)])
    with database.reads.begin() as connection:
        off = Off.read(connection, {1: (QUARTER + first, QUARTER + first + length)})
    for quarter in range(QUARTER + first, QUARTER + first + length):
        assert off.mask(1, quarter) == off_mask(off_times(made), quarter)


MONTHS = [(2026, 11), (2026, 12), (2027, 1), (2027, 2)]
QUARTERS = [first_quarter(month) + 100 for month in MONTHS]
NOW = QUARTERS[-1] * QUARTER_S + 86_400


@pytest.fixture
def filled(database: Database) -> Database:
    Writer(database).commit([append(blocks({0: 5}, quarter=quarter)) for quarter in QUARTERS])
    compact(database, NOW + SETTLE_S)
    settle(database)
    return database


def settle(database: Database, before: int = NOW // 86_400) -> None:
    """Have all days before one be settled."""
    with database.writes.begin() as connection:
        connection.execute(settlement_due.delete().where(settlement_due.c.day < before))


def drop(database: Database, keep_months: int, now: int = NOW) -> None:
    retaining = Retention(database, keep_months)
    first = retaining.plan(now)
    assert first is not None
    while retaining.apply(first):
        pass


def quarters(database: Database) -> list[int]:
    found = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    return sorted(found.quarter.tolist())


def first_gap(database: Database) -> int:
    find_gaps(database, NOW)
    with database.reads.begin() as connection:
        return int(connection.execute(select(func.min(gap.c.quarter))).scalar_one())


def test_whole_months_are_kept_and_what_is_older_goes(
    filled: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_BLOCKS", 1)
    drop(filled, 12)
    assert quarters(filled) == QUARTERS
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:]
    if kind == "postgresql":
        with filled.reads.begin() as connection:
            assert {month for month in partitions(connection) if month < MONTHS[2]} == set()


def test_dead_letters_go_with_the_readings_of_their_time_unless_a_person_decided(filled: Database) -> None:
    old, new = QUARTERS[0] * QUARTER_S, QUARTERS[-1] * QUARTER_S
    with filled.writes.begin() as connection:
        states = [(old, ""), (old, "quarantined"), (old, "refused"), (new, ""), (30, "quarantined")]
        for number, (time, state) in enumerate(states):
            kept = DeadLetter(meter=1, log=1, reason=2, generation=0, record_id=number, time=time, content=b"")
            connection.execute(dead_letter.insert().values(dead_letter_row("r001", kept, state)))
        for no in connection.execute(select(dead_letter.c.no).where(dead_letter.c.state != "")).scalars().all():
            # The last one is new, but of a clock that was not set.
            quarter = QUARTERS[0] if no <= len(MONTHS) else QUARTERS[-1]
            slots = {"meter_no": 1, "record_type": 3, "quarter": quarter, "letter_no": no, "mask": 1}
            connection.execute(quarantined.insert().values(slots))
    drop(filled, 1)
    with filled.reads.begin() as connection:
        found = connection.execute(select(dead_letter.c.record_id).order_by(dead_letter.c.record_id)).scalars()
        assert list(found) == [2, 3, 4]
        assert len(connection.execute(select(quarantined)).all()) == 2


def test_what_was_dropped_is_not_asked_for_and_does_no_harm_when_it_comes_again(filled: Database) -> None:
    assert first_gap(filled) < first_quarter(MONTHS[1])
    drop(filled, 1)
    assert first_gap(filled) == first_quarter(MONTHS[2])
    (counts,) = completeness.completeness(filled, 0, QUARTERS[-1] + 1)
    assert counts.counts.expected == (QUARTERS[-1] + 1 - first_quarter(MONTHS[2])) * 60
    assert Writer(filled).commit([append(blocks({0: 5}, quarter=QUARTERS[0]))]).blocks == 1
    compact(filled, NOW + SETTLE_S)
    assert first_gap(filled) == first_quarter(MONTHS[2])
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:]


def test_a_month_is_kept_while_a_day_of_it_is_not_settled(filled: Database) -> None:
    """Else its bill could never be made."""
    for quarter in QUARTERS[:2]:
        Writer(filled).commit([append(blocks({1: 5}, quarter=quarter))])
    compact(filled, NOW + SETTLE_S)
    drop(filled, 1)
    assert quarters(filled) == QUARTERS
    settle(filled, before=QUARTERS[1] // 96)
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[1:]
    Writer(filled).commit([append(blocks({1: 5}, quarter=QUARTERS[0]))])
    compact(filled, NOW + SETTLE_S)
    settle(filled, before=0)
    with filled.writes.begin() as connection:
        connection.execute(settlement_due.delete().where(settlement_due.c.day == QUARTERS[1] // 96))
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:], "late readings of a month that was dropped hold up nothing"


def test_the_levels_before_a_day_that_is_to_be_settled_are_kept(filled: Database) -> None:
    with filled.writes.begin() as connection:
        mark(connection, settlement_due, [(first_quarter(MONTHS[2]) // 96, 1)], Why.LATE)
    assert Retention(filled, 1).plan(NOW) == first_quarter(MONTHS[1])


def test_what_was_dropped_stays_so_when_more_is_to_be_kept(filled: Database) -> None:
    drop(filled, 1)
    drop(filled, 12)
    with filled.reads.begin() as connection:
        assert kept_from(connection) == first_quarter(MONTHS[2])


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_was_dropped_is_not_looked_for_after_a_recovery(kind: str, filled: Database, tmp_path: Path) -> None:
    drop(filled, 1)
    filled.close()
    recover(tmp_path / "utility.db", NOW)
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=False)) as mended:
        assert first_gap(mended) == first_quarter(MONTHS[2])
        with mended.writes.begin() as connection:
            save_setting(connection, KEPT_FROM, str(NOW // QUARTER_S + 1))
    recover(tmp_path / "utility.db", NOW)
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=False)) as damaged:
        assert first_gap(damaged) < first_quarter(MONTHS[2]), "a time to come is not what was written"


def test_a_clock_that_is_years_ahead_drops_nothing_that_is_to_be_kept(filled: Database) -> None:
    drop(filled, 1, now=NOW + 20 * 365 * 86_400)
    assert quarters(filled) == QUARTERS[2:]


def test_of_an_empty_database_nothing_is_dropped(database: Database) -> None:
    assert Retention(database, 1).plan(NOW) is None


def test_months_before_and_after_are_counted_over_years() -> None:
    assert months_later((2027, 1), -1) == (2026, 12)
    assert months_later((2026, 12), 1) == (2027, 1)
    assert months_later((2027, 2), -26) == (2024, 12)
    assert month_of(first_quarter((2027, 2)) - 1) == (2027, 1)


# Of PostgreSQL alone


@pytest.mark.parametrize("kind", ["postgresql"])
def test_partitions_are_made_ahead_and_by_two_at_once(kind: str, database: Database, url: str) -> None:
    waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with closing(open_database(url, create=False)) as other, ThreadPoolExecutor(1) as thread:
        with database.writes.begin() as connection:
            make_partitions(connection, [(2031, 12)])
            second = thread.submit(make_ahead, other, first_quarter((2031, 12)) * QUARTER_S)
            eventually(lambda: connection.execute(waits).scalar_one())
        second.result(timeout=20)
        with other.reads.begin() as connection:
            assert {(2031, 12), (2032, 1)} <= set(partitions(connection))


@pytest.mark.parametrize("kind", ["postgresql"])
def test_whoever_reads_for_long_holds_up_the_drop_and_nothing_else(
    kind: str, filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "50ms")
    with filled.reads.begin() as connection:
        connection.execute(select(func.count()).select_from(compacted))
        retaining = Retention(filled, 1)
        first = retaining.plan(NOW)
        assert first is not None
        assert not retaining.apply(first), "it is not tried again at once"
        Writer(filled).commit([append(blocks({1: 5}, quarter=first_quarter((2033, 5))))])
        compactor = Compactor(filled)
        replacement = compactor.plan(first_quarter((2033, 6)) * QUARTER_S)
        assert replacement is not None
        assert compactor.apply(replacement) == 1, "a new month is made although somebody reads"
        connection.execute(text("SELECT 1"))
    assert QUARTERS[0] in quarters(filled)
    assert first_gap(filled) == first_quarter(MONTHS[2]), "nor is it looked for meanwhile"
    drop(filled, 1)
    assert QUARTERS[0] not in quarters(filled)
