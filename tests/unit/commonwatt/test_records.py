"""The specification's two records, and every reason a receiver may give for not taking one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from commonwatt.model.units import GROUP_S, MAX_ABS_READING, SLOT_S
from commonwatt.model.validation import FUTURE_S, Expected, judge_event, judge_history, reading_faults

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
