"""Records, interval blocks, times and cells of tables: what the docs promise, as algebra and by examples."""

import csv
import io
import re
from dataclasses import fields, replace
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
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
from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import (
    EVENT_BYTES,
    HISTORY_BYTES,
    MAX_RECORD_S,
    EventRecord,
    HistoryRecord,
    RecordType,
    Rejection,
    State,
    unpack_event,
    unpack_history,
)
from commonwatt.model.text import cell_of, line_of, text_of
from commonwatt.model.time import LONGEST_S, Recent
from commonwatt.model.units import GROUP_S, GROUP_SLOTS, MAX_ABS_READING, QUARTER_S, SLOT_S, SLOTS
from commonwatt.model.validation import FUTURE_S, Expected, judge_event, judge_history, limits_of, reading_faults
from gateway.shown.shown import ALARM_WINDOWS_S
from harness.docs.marked import DOCS
from harness.surroundings.messages import a_record

NOW = 1_790_000_400
GROUP = 1_790_000_100 // GROUP_S * GROUP_S
GOOD = HistoryRecord(
    record_type=3, lossy=0, record_id=5, meter_id=77, account=12, start=GROUP, end=GROUP + SLOT_S, reading=5_000
)
EVENT = EventRecord(previous_state=1, new_state=17, record_id=1, meter_id=77, time=NOW)
EXPECTED = Expected(meter_id=77, record_types=(RecordType.STORED, RecordType.THROUGH), now=NOW)

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
histories = st.builds(
    HistoryRecord,
    record_type=st.integers(0, 255),
    lossy=st.integers(0, 255),
    record_id=u64,
    meter_id=u64,
    account=u16,
    start=u32,
    end=u32,
    reading=st.integers(-(2**63), 2**63 - 1),
)
events = st.builds(EventRecord, previous_state=u16, new_state=u16, record_id=u64, meter_id=u64, time=u32)


@given(
    reading=st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from((-1, 0, 5_000, 5_001, MAX_ABS_READING, MAX_ABS_READING + 1)),
    limit=st.sampled_from((0, 5_000, MAX_ABS_READING)),
    slots_ahead=st.integers(-100, 1000),
    now=st.sampled_from((None, NOW)),
)
def test_a_record_has_the_first_fault_of_its_reading(
    reading: int, limit: int, slots_ahead: int, now: int | None
) -> None:
    end = (NOW // SLOT_S + slots_ahead) * SLOT_S
    record = GOOD._replace(start=end - SLOT_S, end=end, reading=reading)
    expected = replace(EXPECTED, now=now, limits={3: limit})
    faults = [why for why, faulty in reading_faults(reading, end, limit, now) if faulty]
    assert judge_history(record, expected) == (faults[0] if faults else None)


@given(histories)
def test_history_record_is_36_bytes_and_reads_back(record: HistoryRecord) -> None:  # req: M2
    data = record.pack()
    assert len(data) == HISTORY_BYTES == 36
    assert unpack_history(data) == record


@given(events)
def test_event_record_is_24_bytes_and_reads_back(event: EventRecord) -> None:  # req: M3
    data = event.pack()
    assert len(data) == EVENT_BYTES == 24
    assert unpack_event(data) == event


@given(st.binary(min_size=36, max_size=36))
def test_any_36_bytes_can_be_kept_as_a_record_and_judged(data: bytes) -> None:
    record = unpack_history(data)
    assert record.pack() == data
    judge_history(record, EXPECTED)


@given(st.binary(min_size=24, max_size=24))
def test_any_24_bytes_can_be_kept_as_an_event_and_judged(data: bytes) -> None:
    event = unpack_event(data)
    assert event.pack() == data
    judge_event(event, EXPECTED)


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"reading": 0},
        {"reading": MAX_ABS_READING},
        {"record_type": 2},
        {"end": GROUP + MAX_RECORD_S, "start": GROUP},
        {"lossy": 1, "end": GROUP + GROUP_S},
        {"lossy": 1, "start": GROUP + GROUP_S - SLOT_S, "end": GROUP + GROUP_S},
        {"end": NOW + FUTURE_S},
        {"account": 0},
    ],
)
def test_acceptable_record_is_accepted(good: dict[str, int]) -> None:
    expected = replace(EXPECTED, now=None) if good.get("end", 0) > NOW + FUTURE_S else EXPECTED
    assert judge_history(GOOD._replace(**good), expected) is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"meter_id": 78}, Rejection.WRONG_METER),
        ({"record_type": 0}, Rejection.UNKNOWN_TYPE),
        ({"record_type": 5}, Rejection.UNKNOWN_TYPE),
        ({"record_type": 1}, Rejection.TYPE_NOT_REGISTERED),
        ({"lossy": 2}, Rejection.BAD_FLAG),
        ({"start": GROUP + 1}, Rejection.UNALIGNED),
        ({"end": GROUP + 14}, Rejection.UNALIGNED),
        ({"lossy": 1, "end": GROUP + GROUP_S + SLOT_S}, Rejection.UNALIGNED),
        ({"lossy": 1, "start": GROUP - SLOT_S, "end": GROUP + SLOT_S}, Rejection.UNALIGNED),
        ({"end": GROUP}, Rejection.EMPTY),
        ({"end": GROUP - SLOT_S}, Rejection.EMPTY),
        ({"lossy": 1, "end": GROUP}, Rejection.EMPTY),
        ({"start": GROUP - MAX_RECORD_S}, Rejection.TOO_LONG),
        ({"reading": MAX_ABS_READING + 1}, Rejection.OUT_OF_RANGE),
        ({"reading": -(2**63)}, Rejection.OUT_OF_RANGE),
        ({"reading": -1}, Rejection.NEGATIVE),
        ({"end": NOW + FUTURE_S + SLOT_S}, Rejection.FUTURE),
    ],
)
def test_unacceptable_record_is_rejected_by_name(wrong: dict[str, int], reason: Rejection) -> None:
    assert judge_history(GOOD._replace(**wrong), EXPECTED) is reason


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"meter_id": 78}, Rejection.WRONG_METER),
        ({"time": NOW + FUTURE_S + 1}, Rejection.FUTURE),
    ],
)
def test_unacceptable_event_is_rejected_by_name(wrong: dict[str, int], reason: Rejection) -> None:
    assert judge_event(replace(EVENT, **wrong), EXPECTED) is reason


def test_every_state_is_accepted_in_an_event_those_of_later_versions_too() -> None:  # req: M1
    for state in (*State, 0x0080, 0x8001):
        assert judge_event(replace(EVENT, new_state=state), EXPECTED) is None


def test_nothing_is_from_the_future_while_the_clock_is_not_trusted() -> None:
    untrusted = replace(EXPECTED, now=None)
    assert judge_history(GOOD._replace(start=2**32 - 16 - 30, end=2**32 - 16), untrusted) is None
    assert judge_event(replace(EVENT, time=2**32 - 1), untrusted) is None


@pytest.mark.parametrize(("amps", "most"), [(200, 250_000), (100, 125_000), (4000, 5_000_000), (1, 1250)])
def test_a_slot_carries_a_watt_hour_for_each_ampere_and_a_quarter_more(amps: int, most: int) -> None:
    limits = limits_of(amps, None)
    assert limits[RecordType.THROUGH] == limits[RecordType.GENERATION] == most


def test_a_level_is_judged_by_the_capacity_if_it_is_known_and_a_register_never() -> None:
    assert limits_of(200, 28_800_000)[RecordType.STORED] == 36_000_000
    assert RecordType.STORED not in limits_of(200, None)
    assert RecordType.REGISTER not in limits_of(200, 28_800_000)


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


def test_a_counter_grows_within_its_window_and_is_forgotten_after_it() -> None:
    recent = Recent[str](0.0)
    for minute in range(61):
        recent.look({"faults": 3 if minute >= 10 else 0}, minute * 60.0)
        expected = 3 if 10 <= minute < 25 else 0
        assert recent.increase("faults", 900) == expected, minute
    assert recent.increase("faults", 3600) == 3


def test_what_happened_before_the_first_look_counts() -> None:
    recent = Recent[str](0.0)
    recent.look({"store_failures": 2}, 5.0)
    assert recent.increase("store_failures", 900) == 2
    assert recent.increase("faults", 900) == 0
    assert recent.watched_s == 5


def test_a_counter_that_began_again_counts_from_zero() -> None:
    recent = Recent[str](0.0)
    recent.look({"records": 500}, 60.0)
    recent.look({"records": 4}, 120.0)
    recent.look({"records": 4}, 1020.0)
    assert recent.increase("records", 900) == 0
    recent.look({"records": 7}, 1025.0)
    assert recent.increase("records", 960) == 7


def test_samples_are_bounded() -> None:
    recent = Recent[str](0.0)
    for second in range(0, 100_000, 5):
        recent.look({"records": second}, float(second))
    assert len(recent._samples) <= 62
    assert recent.watched_s == 3600
    assert abs(recent.increase("records", 900) - 900) <= 60
    assert max(ALARM_WINDOWS_S.values()) <= LONGEST_S


TOWN = ZoneInfo("America/New_York")
NOVEMBER = 1_793_505_600  # 2026-11-01T00:00:00-04:00


@pytest.mark.parametrize(
    "text",
    [
        "1793505600",
        "2026-11-01T00:00:00-04:00",
        "2026-11-01T04:00Z",
        "2026-11-01T04:00:00+00:00",
        " 2026-11-01 04:00:00Z ",
        "2026-11-01",
        "2026-11",
        "2026-11-01T00:00",
    ],
)
def test_one_moment_has_many_forms(text: str) -> None:
    assert parse_time(text, "--from", TOWN) == NOVEMBER
    assert iso(NOVEMBER) == "2026-11-01T04:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no time"),
        ("yesterday", "is no time"),
        ("2026", "a date has hyphens"),
        ("20261101", "a date has hyphens"),
        ("2026-11-31", "is no time"),
        ("2026-W45-1", "is no time"),
        ("-5", "is no time"),
        ("2026-11-01T04:00:00.5Z", "whole seconds"),
        ("9999999999", "between 1970 and 2106"),
        ("1969-12-31", "between 1970 and 2106"),
        ("2027-03-14T02:30", "does not exist in America/New_York"),
        ("2026-11-01T01:30", "exists twice in America/New_York"),
        ("٢٠٢٦", "is no time"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_options_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        parse_time(text, "--from", TOWN)
    assert str(refused.value).startswith("--from: ")


def test_without_a_zone_a_time_needs_its_offset() -> None:
    with pytest.raises(ConfigError, match="--to: 2026-11-01 has no offset from UTC"):
        parse_time("2026-11-01", "--to")


def test_the_refusal_of_an_hour_that_is_there_twice_names_both() -> None:
    with pytest.raises(ConfigError, match=r"2026-11-01T01:30-04:00 or 2026-11-01T01:30-05:00"):
        parse_time("2026-11-01T01:30", "--from", TOWN)
    first, second = (parse_time(f"2026-11-01T01:30-0{hours}:00", "--from", TOWN) for hours in (4, 5))
    assert second - first == 3600


FORMULAS = ["=cmd|'/C calc'!A0", "+1+cmd", "-1+cmd|x", "@SUM(A1)", "\t=1", "\r=1", "\x00", "'=1", "-", "+49 1", "--1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_like_a_formula_is_written_as_text(text: str) -> None:
    (row,) = csv.reader(io.StringIO(line_of([text, 1]), newline=""))
    assert (row[0][:2], text_of(row[0])) == (f"'{text[0]}", text)


@pytest.mark.parametrize("text", ["x;=cmd|'/C calc'!A0", "x; =1", "x\t@SUM(A1)", "x;'=1", "x\n+1", "x;;-1"])
def test_a_text_with_a_formula_after_another_separator_is_no_formula_there(text: str) -> None:
    (row,) = csv.reader(io.StringIO(line_of([text, 1]), newline=""))
    assert not [cell for cell in re.split(r"[;\t\n]", row[0]) if re.match(r" *[=+\-@]", cell)]
    assert text_of(row[0]) == text


@pytest.mark.parametrize("value", [-5, -0.25, Decimal("-12.50"), "-3.000000", 7, "+01:00", "-05:00", "a=b", "'a"])
def test_numbers_offsets_and_other_texts_stay_as_they_are(value: object) -> None:
    assert cell_of(value) == str(value)


def test_none_is_an_empty_cell() -> None:
    assert line_of([None, "a", 'b"c', "d,e"], "\n") == ',a,"b""c","d,e"\n'


@given(st.lists(st.text(alphabet="'=+-@\t\r\n\",a1:.; ", max_size=6), min_size=2))
@example(["\r' =", "; ' ="])
def test_every_text_is_read_back_unchanged(texts: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(line_of(texts), newline=""), strict=True)
    assert [text_of(cell) for cell in row] == texts
    assert not [cell for cell in row if re.match(r"[=+\-@\x00-\x1f]", cell) and not re.fullmatch(r"[-+\d.:]+", cell)]


def test_no_other_module_writes_csv() -> None:
    names = ("adapters", "commonwatt", "gateway", "meter_sim", "scenarios", "utility")
    paths = [path for name in names for path in (DOCS.parent / name).rglob("*.py")]
    assert [
        path for path in paths if re.search(r"csv\.(writer|DictWriter)|openpyxl|xlsxwriter", path.read_text())
    ] == []
