"""A log's ids, batches and rows, without the meter around them."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.changes import LogRow
from commonwatt.device.records.aggregation import average, consolidate
from commonwatt.device.records.log import Aggregation, MeterLog
from commonwatt.model.records import HistoryRecord, Log, unpack_history
from harness.surroundings.records import a_record

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


def slots_of(records: Iterable[HistoryRecord]) -> Counter[tuple[int, int]]:
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
        assert slots_of(put.history()) == slots_of(old[put.first_id - 1 : put.last_id])
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
