"""The meters' aggregation: lossless loses nothing, lossy no more than half a unit a slot."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.records.aggregation import average, consolidate
from commonwatt.model.blocks import Quality, from_records
from commonwatt.model.blocks import average as average_blocks
from commonwatt.model.records import HistoryRecord, RecordType
from commonwatt.model.units import GROUP_S, GROUP_SLOTS, QUARTER_S, SLOT_S
from commonwatt.model.validation import Expected, judge_history
from harness.surroundings.records import a_record

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
