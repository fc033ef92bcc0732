"""Joining, cutting and averaging interval blocks: what docs/architecture.md promises, as algebra."""

from dataclasses import fields
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.blocks import (
    Blocks,
    Quality,
    average,
    concatenate,
    empty,
    flags_of,
    from_records,
    join,
    make_blocks,
    mask_of,
)
from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import GROUP_SLOTS, MAX_ABS_READING, QUARTER_S, SLOT_S, SLOTS
from harness.surroundings.records import a_record

Key = tuple[int, int, int]
Slots = dict[int, tuple[Quality, frozenset[int]]]  # by slot: the quality, and the values seen at it

KEYS: list[Key] = [(1, 3, 100), (1, 3, 101), (1, 1, 100), (2**64 - 1, 3, 100)]
QUARTER_START = 1_790_000_100 // QUARTER_S * QUARTER_S

slot_sets = st.tuples(
    st.sampled_from([Quality.AVERAGED, Quality.EXACT]),
    st.frozensets(st.sampled_from([-MAX_ABS_READING, -1, 0, 7, 8, MAX_ABS_READING]), min_size=1, max_size=3),
)
part_slots = st.dictionaries(st.sampled_from([0, 1, 9, 10, 59]), slot_sets, max_size=5)
parts = st.lists(st.tuples(st.sampled_from(KEYS), part_slots), max_size=5)


def build(content: list[tuple[Key, Slots]]) -> Blocks:
    """Make one block of each (key, slots), the smallest value standing and the others as extras."""
    values, quality = np.zeros((len(content), SLOTS), np.int64), np.zeros((len(content), SLOTS), np.uint8)
    extras = []
    for row, (_, slots) in enumerate(content):
        for slot, (q, seen) in slots.items():
            values[row, slot], quality[row, slot] = min(seen), q
            extras += [(row, slot, value) for value in sorted(seen)[1:]]
    return make_blocks([key for key, _ in content], values, quality, extras)


batches = parts.map(build)


def assert_same(a: Blocks, b: Blocks) -> None:
    for field in fields(Blocks):
        left, right = getattr(a, field.name), getattr(b, field.name)
        assert left.dtype == right.dtype, field.name
        assert left.tolist() == right.tolist(), field.name


def slots_of(blocks: Blocks) -> dict[Key, Slots]:
    """Read blocks back into what ``build`` takes."""
    content: dict[Key, Slots] = {}
    for row, key in enumerate(blocks.keys()):
        extras = blocks.extras_of(row)
        content[key] = {
            slot: (
                Quality(blocks.quality[row, slot]),
                frozenset({int(blocks.values[row, slot])} | {v for s, v in extras if s == slot}),
            )
            for slot in np.flatnonzero(blocks.quality[row]).tolist()
        }
    return content


def record(start_slot: int, slots: int, reading: int, *, lossy: int = 0, meter: int = 1) -> HistoryRecord:
    start = QUARTER_START + start_slot * SLOT_S
    return a_record(start, reading, end=start + slots * SLOT_S, meter=meter, account=0, lossy=lossy)


@given(batches, batches, batches)
def test_join_in_steps_gives_the_same_bill_as_at_once(a: Blocks, b: Blocks, c: Blocks) -> None:
    at_once = join([a, b, c])
    assert_same(join([join([a, b]), c]), at_once)
    assert_same(join([a, join([b, c])]), at_once)


@given(parts, parts)
def test_join_keeps_every_slot_its_best_quality_and_all_values_seen_at_it(
    a: list[tuple[Key, Slots]], b: list[tuple[Key, Slots]]
) -> None:
    expected: dict[Key, Slots] = {}
    for key, slots in a + b:
        block = expected.setdefault(key, {})
        for slot, (quality, seen) in slots.items():
            best, values = block.get(slot, (Quality.MISSING, frozenset()))
            if quality > best:
                block[slot] = quality, seen
            elif quality == best:
                block[slot] = quality, seen | values
    joined = join([build(a), build(b)])
    assert slots_of(joined) == expected
    assert joined.keys() == sorted(expected)
    # The smallest stands, the rest are extras, ascending; and missing slots hold nothing.
    for row, key in enumerate(joined.keys()):
        rest = []
        for slot, (_, seen) in sorted(expected[key].items()):
            assert joined.values[row, slot] == min(seen)
            rest += [(slot, value) for value in sorted(seen)[1:]]
        assert joined.extras_of(row) == rest
    assert not joined.values[joined.quality == 0].any()


def test_join_of_nothing_is_nothing() -> None:
    assert len(join([])) == len(join([empty(), empty()])) == len(concatenate([])) == 0


@given(batches, st.data())
def test_take_and_concatenate_move_conflicts_with_their_blocks(blocks: Blocks, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(blocks))))
    cut = data.draw(st.integers(0, len(rows)))
    taken = blocks.take(rows)
    assert taken.keys() == [blocks.key(row) for row in rows]
    assert [taken.extras_of(i) for i in range(len(rows))] == [blocks.extras_of(row) for row in rows]
    assert_same(concatenate([blocks.take(rows[:cut]), blocks.take(rows[cut:])]), taken)
    some = blocks.take(rows[:cut])
    assert [some.extras_of(i) for i in range(cut)] == [blocks.extras_of(row) for row in rows[:cut]]


def test_from_records_cuts_a_long_record_at_quarter_hours() -> None:
    blocks = from_records([record(50, 140, 7)])
    first = QUARTER_START // QUARTER_S
    assert blocks.quarter.tolist() == [first, first + 1, first + 2, first + 3]
    assert (blocks.quality > 0).sum(axis=1).tolist() == [10, 60, 60, 10]
    assert np.flatnonzero(blocks.quality[0]).tolist() == list(range(50, 60))
    assert np.flatnonzero(blocks.quality[3]).tolist() == list(range(10))


@given(
    st.lists(
        st.tuples(st.integers(1, 130), st.integers(0, 5), st.integers(0, 10**9), st.sampled_from([1, 2])), max_size=8
    ),
    st.randoms(use_true_random=False),
)
def test_from_records_keeps_all_energy_in_any_order(runs: list[tuple[int, int, int, int]], random: Random) -> None:
    at = {1: 0, 2: 0}
    records = []
    for slots, gap, reading, meter in runs:
        records.append(record(at[meter] + gap, slots, reading, meter=meter))
        at[meter] += gap + slots
    random.shuffle(records)
    blocks = from_records(records)
    assert int(blocks.values.sum()) == sum(slots * reading for slots, _, reading, _ in runs)
    assert int((blocks.quality == Quality.EXACT).sum()) == sum(slots for slots, *_ in runs)
    assert not len(blocks.extras)


@given(
    st.lists(
        st.builds(
            record,
            st.integers(0, 130),
            st.integers(0, 70),
            st.integers(7, 9),
            lossy=st.sampled_from([0, 0, 1]),
            meter=st.sampled_from([1, 2**64 - 1]),
        ),
        max_size=8,
    )
)
def test_from_records_is_the_join_of_each_record_by_itself(records: list[HistoryRecord]) -> None:
    assert_same(from_records(records), join([from_records([each]) for each in records]))


def test_from_records_keeps_contradicting_records_as_a_conflict() -> None:
    blocks = from_records([record(0, 4, 9), record(2, 4, 8), record(3, 1, 8)])
    assert blocks.values[0, :6].tolist() == [9, 9, 8, 8, 8, 8]
    assert blocks.extras_of(0) == [(2, 9), (3, 9)]


full_blocks = st.lists(
    st.lists(st.integers(-MAX_ABS_READING, MAX_ABS_READING), min_size=SLOTS, max_size=SLOTS), max_size=2
).map(lambda rows: make_blocks([(1, 3, i) for i in range(len(rows))], rows, np.full((len(rows), SLOTS), 2)))


@given(full_blocks)
@settings(max_examples=30)
def test_average_keeps_energy_within_half_a_unit_a_slot(blocks: Blocks) -> None:  # req: M7
    averaged = average(blocks)
    assert (averaged.quality == Quality.AVERAGED).all()
    for before, after in zip(blocks.values.tolist(), averaged.values.tolist(), strict=True):
        for at in range(0, SLOTS, GROUP_SLOTS):
            group = after[at : at + GROUP_SLOTS]
            assert len(set(group)) == 1
            assert abs(2 * (sum(group) - sum(before[at : at + GROUP_SLOTS]))) <= GROUP_SLOTS


@given(batches, batches)
def test_average_leaves_groups_alone_that_are_not_whole(a: Blocks, b: Blocks) -> None:
    # The strategies fill at most two slots of any group, so nothing may change.
    joined = join([a, b])
    assert_same(average(joined), joined)


def test_average_leaves_a_group_alone_that_holds_a_conflict() -> None:
    block = make_blocks([(1, 3, 5)], [list(range(SLOTS))], [[2] * SLOTS], [(0, 15, 99)])
    averaged = average(block)
    assert averaged.values[0, 10:20].tolist() == list(range(10, 20))
    assert averaged.quality[0].tolist() == [1] * 10 + [2] * 10 + [1] * 40
    assert averaged.extras_of(0) == [(15, 99)]


def test_average_of_an_average_is_the_same_so_two_gateways_agree() -> None:
    block = make_blocks([(1, 3, 5)], [[(7 * i) % 23 for i in range(SLOTS)]], [[2] * SLOTS])
    once = average(block)
    assert_same(average(once), once)
    assert_same(average(join([block, block])), once)
    assert_same(join([average(block), once]), once)
    # What was averaged at one place and is exact at another is exact when they meet.
    assert_same(join([once, block]), block)


def test_average_of_no_blocks_is_no_blocks() -> None:
    assert len(average(empty())) == 0


@pytest.mark.parametrize(("total", "mean"), [(5, 1), (4, 0), (-5, 0), (-6, -1), (15, 2)])
def test_average_rounds_half_up_as_the_meters_do(total: int, mean: int) -> None:
    block = make_blocks([(1, 3, 5)], [[total] + [0] * 59], [[2] * 10 + [0] * 50])
    assert average(block).values[0, 0] == mean


@given(st.integers(0, 2**SLOTS - 1))
def test_mask_names_exactly_the_slots_asked_for(mask: int) -> None:
    flags = flags_of(mask)
    assert [bool(mask >> slot & 1) for slot in range(SLOTS)] == flags.tolist()
    assert mask_of(flags) == mask


def test_missing_slots_hold_no_value_so_equal_blocks_are_equal_bytes() -> None:
    block = make_blocks([(1, 3, 5)], [[77] * SLOTS], [[0, 2] * 30])
    assert block.values[0, :2].tolist() == [0, 77]
