"""A meter's records: its log, aggregation, reported times, and when it sends them."""

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.changes import LogRow
from commonwatt.device.records import (
    AHEAD_TOLERANCE_S,
    TOLERANCE_S,
    Aggregation,
    MeterLog,
    ReportedTime,
    TimeReport,
    average,
    consolidate,
    next_put,
    open_group,
)
from commonwatt.model.blocks import Quality, from_records
from commonwatt.model.blocks import average as average_blocks
from commonwatt.model.control import PUT_S
from commonwatt.model.records import HistoryRecord, Log, RecordType, unpack_history
from commonwatt.model.time import Trust
from commonwatt.model.units import GROUP_S, GROUP_SLOTS, QUARTER_S, SLOT_S
from commonwatt.model.validation import Expected, judge_history
from harness.surroundings.messages import a_record

START = 1_790_000_100
TYPES = (RecordType.STORED, RecordType.THROUGH)
EXPECTED = Expected(meter_id=7, record_types=TYPES, now=None)


def slot(record_id: int, at: int, reading: int, record_type: int = 3) -> HistoryRecord:
    start = START + at * SLOT_S
    return a_record(start, reading, meter=7, record_id=record_id, kind=record_type)


@st.composite
def logs(draw: st.DrawFn) -> list[HistoryRecord]:
    """A meter's log: a record of each of two types for each slot it was up, readings often alike."""
    records: list[HistoryRecord] = []
    at = draw(st.integers(0, 70))
    runs = st.lists(
        st.tuples(st.integers(1, 25), st.sampled_from([0, 0, 0, 1, 7]), st.sampled_from([0, 5, 5, 6, 2**53])),
        max_size=7,
    )
    for length, off, reading in draw(runs):
        at += off
        for _ in range(length):
            records.append(slot(len(records) + 1, at, reading))
            records.append(slot(len(records) + 1, at, draw(st.sampled_from([reading, 3])), 2))
            at += 1
    return records


Slots = dict[tuple[int, int], int]


def slots_of(records: list[HistoryRecord]) -> Slots:
    """What each slot holds, every slot at most once."""
    slots: Slots = {}
    for record in records:
        for start in range(record.start, record.end, SLOT_S):
            assert (record.record_type, start) not in slots, "a slot twice"
            slots[record.record_type, start] = record.reading
    return slots


@given(logs())
def test_lossless_keeps_every_reading_exactly(records: list[HistoryRecord]) -> None:  # req: M7
    consolidated = consolidate(records)
    assert slots_of(consolidated) == slots_of(records)
    assert not any(record.lossy for record in consolidated)
    ids = [record.record_id for record in consolidated]
    assert ids == sorted(set(ids))
    assert set(ids) <= {record.record_id for record in records}


@given(logs())
def test_lossless_never_crosses_a_quarter_hour(records: list[HistoryRecord]) -> None:
    for record in consolidate(records):
        assert record.start // QUARTER_S == (record.end - 1) // QUARTER_S


@given(logs())
def test_lossless_leaves_nothing_to_consolidate(records: list[HistoryRecord]) -> None:  # req: M7
    consolidated = consolidate(records)
    assert consolidate(consolidated) == consolidated
    for kind in TYPES:
        of = [record for record in consolidated if record.record_type == kind]
        for a, b in itertools.pairwise(of):
            assert a.end != b.start or a.reading != b.reading or b.start % QUARTER_S == 0


def test_lossless_keeps_accounts_apart() -> None:
    a, b = slot(1, 0, 5), slot(2, 1, 5)
    moved = b._replace(account=2)
    assert consolidate([a, moved]) == [a, moved]


def test_lossless_does_not_make_two_averages_one() -> None:
    first = START // GROUP_S * GROUP_S + GROUP_S
    base = (first - START) // SLOT_S
    averaged = average([slot(i + 1, base + i, 5) for i in range(20)])
    assert [record.lossy for record in averaged] == [1, 1]
    assert consolidate(averaged) == averaged


@given(logs())
def test_lossy_keeps_energy_within_half_a_unit_a_slot(records: list[HistoryRecord]) -> None:  # req: M7
    averaged = average(records)
    before, after = slots_of(records), slots_of(averaged)
    assert before.keys() == after.keys()
    for record in averaged:
        group = [(record.record_type, start) for start in range(record.start, record.end, SLOT_S)]
        if record.lossy:
            assert abs(2 * sum(before[key] - after[key] for key in group)) <= GROUP_SLOTS
        else:
            assert all(before[key] == after[key] for key in group)


@given(logs())
def test_lossy_averages_whole_aligned_groups_only(records: list[HistoryRecord]) -> None:  # req: M7
    averaged = average(records)
    count = Counter((kind, start // GROUP_S) for kind, start in slots_of(records))
    whole = {group for group, slots in count.items() if slots == GROUP_SLOTS}
    assert {(r.record_type, r.start // GROUP_S) for r in averaged if r.lossy} == whole
    for record in averaged:
        assert judge_history(record, EXPECTED) is None
        if record.lossy:
            assert (record.start % GROUP_S, record.end - record.start) == (0, GROUP_S)
    ids = [record.record_id for record in averaged]
    assert ids == sorted(set(ids))
    assert average(averaged) == averaged


@given(logs())
def test_lossy_meter_and_lossy_gateway_make_the_same_averages(records: list[HistoryRecord]) -> None:  # req: C6
    by_meter, by_gateway = from_records(average(records)), average_blocks(from_records(records))
    assert by_meter.values.tolist() == by_gateway.values.tolist()
    assert by_meter.quality.tolist() == by_gateway.quality.tolist()


def test_lossy_averages_consolidated_records_within_a_group() -> None:
    base = (START // GROUP_S * GROUP_S + GROUP_S - START) // SLOT_S
    records = consolidate([slot(i + 1, base + i, 5 if i < 7 else 9) for i in range(10)])
    assert len(records) == 2
    (only,) = average(records)
    assert (only.lossy, only.reading, only.record_id) == (1, 6, 1)
    assert (from_records([only]).quality.max(), only.end - only.start) == (Quality.AVERAGED, GROUP_S)


def test_lossy_makes_no_average_across_a_clock_that_was_set_back() -> None:
    slots = [*range(20, 25), *range(10, 15), *range(25, 30)]
    records = [slot(n + 1, at, 5) for n, at in enumerate(slots)]
    assert average(records) == records


T = 1_790_000_100


def record(number: int, kind: int, slot: int, reading: int) -> bytes:
    return a_record(T + 15 * slot, reading, meter=1, record_id=number, kind=kind, account=0).pack()


def log_of(*readings: tuple[int, ...]) -> MeterLog:
    """Return a log of one tuple of readings a slot, one of each type."""
    log = MeterLog(meter=1, log=Log.HISTORY, generation=1)
    for slot, values in enumerate(readings):
        log.add([record(log.next_id + n, n + 1, slot, value) for n, value in enumerate(values)])
    return log


def test_a_batch_ends_at_the_limit() -> None:
    log = log_of((1,), (2,), (3,))
    put = log.freeze(2)
    assert put is not None
    assert (put.first_id, put.last_id, len(put.records)) == (1, 2, 2)
    log.delete_batch()
    assert log.first_id == 3


def test_no_batch_ends_inside_what_a_consolidated_record_took_in() -> None:
    # Type 1 stays the same over three slots and takes in ids 3 and 5; type 2 changes.
    log = log_of((7, 1), (7, 2), (7, 3), (8, 4))
    log.aggregate(consolidate)
    put = log.freeze(1)
    assert put is not None
    # The ids 1 to 5 are complete with five rows taken in by three: 1 (to 5), 2, 4.
    assert [r.record_id for r in put.history()] == [1, 2, 4]
    assert (put.first_id, put.last_id) == (1, 5)


def test_what_was_consolidated_takes_in_more_later() -> None:
    log = log_of((7,), (7,))
    log.aggregate(consolidate)
    log.add([record(3, 1, 2, 7)])
    (change,) = log.aggregate(consolidate)
    assert [(row.first_id, row.last_id) for row in change.rows] == [(1, 3)]
    assert log.next_id == 4


def test_aggregation_leaves_the_batch_in_flight_alone() -> None:
    log = log_of((7,), (7,), (7,), (7,))
    put = log.freeze(2)
    log.aggregate(consolidate)
    assert log.batch() == put
    assert len(log.rows) == 3


@pytest.mark.parametrize(("limit", "rows"), [(2, 91), (70, 91), (130, 32), (150, 3), (None, 3)])
def test_aggregation_takes_whole_quarters_when_it_takes_a_part(limit: int | None, rows: int) -> None:
    log = log_of(*[(7,)] * 150)
    log.aggregate(consolidate, limit)
    assert len(log.rows) == rows


def counted_slots(records: Iterable[HistoryRecord]) -> Counter[tuple[int, int]]:
    """Count the slots of records by type and start."""
    return Counter((r.record_type, start) for r in records for start in range(r.start, r.end, 15))


@given(
    runs=st.lists(st.tuples(st.integers(1, 80), st.sampled_from([0, 0, 1, 7]), st.integers(5, 6)), max_size=5),
    back=st.integers(1, 300),
    turn=st.integers(0, 4),
    algorithm=st.sampled_from([consolidate, average]),
)
def test_every_batch_has_the_slots_of_its_ids_after_a_clock_was_set_back(
    runs: list[tuple[int, int, int]], back: int, turn: int, algorithm: Aggregation
) -> None:
    log, slot = MeterLog(meter=1, log=Log.HISTORY, generation=1), 300
    for n, (length, off, reading) in enumerate(runs):
        slot += off - (back if n == turn else 0)
        for at in range(slot, slot + length):
            log.add([record(log.next_id, 1, at, 5), record(log.next_id + 1, 2, at, reading + at % 2)])
        slot += length
    old = [unpack_history(data) for data in log.rows]
    log.aggregate(algorithm)
    while put := log.freeze(1):
        assert counted_slots(put.history()) == counted_slots(old[put.first_id - 1 : put.last_id])
        assert len(put.records) <= 120, "two types in the 60 slots of a quarter"
        log.delete_batch()
    assert log.first_id == log.next_id == len(old) + 1


def test_averages_of_equal_value_stay_one_to_a_group() -> None:
    log = log_of(*[(7,)] * 20)
    log.aggregate(average)
    assert len(log.rows) == 2
    assert log.aggregate(consolidate) == []


def test_records_that_end_after_a_moment_stay_behind() -> None:
    log = log_of((1,), (2,), (3,))
    put = log.freeze(10, before=T + 30)
    assert put is not None
    assert put.last_id == 2


def test_a_log_comes_back_from_its_rows_with_its_batch() -> None:
    log = log_of((7, 1), (7, 2), (8, 3))
    log.aggregate(consolidate)
    put = log.freeze(3)
    rows = [LogRow(log._id(n), log._took.get(log._id(n), log._id(n)), data) for n, data in enumerate(log.rows)]
    again = MeterLog(meter=1, log=Log.HISTORY, generation=1, next_id=7, rows=rows, frozen_last=log.frozen_last)
    assert again.batch() == put
    assert again.frozen == 3
    assert again.readings_in_flight() == log.readings_in_flight() == 4


NOW = 1_782_000_000.0


def test_turns_are_a_minute_apart_and_those_of_neighbours_a_second() -> None:
    first = next_put(17, NOW)
    assert NOW < first <= NOW + PUT_S
    assert next_put(17, first) == first + PUT_S
    assert next_put(18, first) == first + 1


def test_the_group_being_measured_waits_and_one_far_off_does_not() -> None:
    start = int(NOW) // GROUP_S * GROUP_S
    assert open_group(start + 15, start + 20) == start
    assert open_group(start, start + 5) is None, "the last one is whole"
    assert open_group(start + 15, start - 3600) is None, "the clock was set back"


@pytest.mark.parametrize(
    ("behind_s", "asked_s_ago", "by_s"),
    [
        (0, None, 0),
        (TOLERANCE_S, None, 0),
        (TOLERANCE_S + 1, None, TOLERANCE_S + 1),
        (-3600, None, 0),  # the answer may have travelled for an hour
        (-AHEAD_TOLERANCE_S, 0, 0),
        (-3600, 0, -3600),
        (-3600, 600, -3000),  # no more than is certain
    ],
)
def test_of_a_told_time_what_is_certain_is_taken(behind_s: int, asked_s_ago: int | None, by_s: int) -> None:
    for offset_s in (0, 500):
        since = None if asked_s_ago is None else NOW - asked_s_ago
        told = TimeReport(int(NOW) + offset_s + behind_s, Trust.NETWORK, since)
        assert ReportedTime().step_s(told, Trust.NONE, offset_s, NOW) == by_s
