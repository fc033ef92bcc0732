"""What a gateway does with what meters send: records, power now, and one meter that asks for much work."""

from typing import Any

import pytest

from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import join
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, Rejection, unpack_event
from commonwatt.model.time import Trust
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, LiveLevel, Put, PutAck, Refusal, unpack_put_ack
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway.collect import (
    ACCOUNTS_A_DAY,
    ALL_REJECTED_A_DAY,
    BURST_SLOTS,
    REJECTED_A_DAY,
    SLOTS_A_MINUTE,
    LastMinute,
    SlotAllowance,
)
from gateway.shown.status import heartbeat
from gateway.store.changes import AppendRecords
from gateway.store.store import PORTION_SLOTS
from harness.surroundings.gateway import CAPACITY, START, World, commands, readings
from harness.surroundings.messages import a_record
from tests.unit.gateway.test_manager import households


def stored_slots(world: World) -> int:
    parts = list(world.store.all_parts(unsent_only=False))
    return int((join([unpack([p.key for p in parts], [p.payload for p in parts])]).quality > 0).sum())


def test_readings_are_in_the_store_when_they_are_acknowledged(world: World) -> None:
    records = readings(1, 1, 4)
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=4, records=tuple(r.pack() for r in records))
    ack = world.put(1, 1, records)
    assert ack.confirms(put)
    world.crash()
    assert stored_slots(world) == 4
    assert world.store.coverage(1, Log.HISTORY, 1) == [(1, 4)]


def test_a_put_sent_again_is_acknowledged_again_and_counts_once(world: World) -> None:
    first = world.put(1, 1, readings(1, 1, 4))
    world.crash()
    assert world.put(1, 1, readings(1, 1, 4)).accepted == first.accepted
    assert stored_slots(world) == 4


def test_ids_are_not_identity_a_reused_id_with_other_readings_is_kept_as_well(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.put(1, 1, readings(1, 1, 4, start=START + 600))
    assert stored_slots(world) == 8


@pytest.mark.parametrize("portion", [1, 5, PORTION_SLOTS])
def test_records_of_one_transaction_are_kept_whole_in_any_portions(
    world: World, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr("gateway.store.store.PORTION_SLOTS", portion)
    changes = [AppendRecords(tuple(readings(meter, 1, 4, start=START + 60 * n))) for n in range(3) for meter in (1, 2)]
    world.store.commit(changes)
    assert stored_slots(world) == 2 * 3 * 4
    if portion == PORTION_SLOTS:
        assert [part.key[0] for part in world.store.all_parts(unsent_only=False)] == [1, 2], "one part of each block"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"meter_id": 2}, Rejection.WRONG_METER),
        ({"record_type": 9}, Rejection.UNKNOWN_TYPE),
        ({"record_type": 4}, Rejection.TYPE_NOT_REGISTERED),
        ({"start": START + 1}, Rejection.UNALIGNED),
        ({"end": START}, Rejection.EMPTY),
        ({"reading": 2**53 + 1}, Rejection.OUT_OF_RANGE),
        ({"reading": -1}, Rejection.NEGATIVE),
        ({"start": START + 90_000, "end": START + 90_015}, Rejection.FUTURE),
        ({"lossy": 2}, Rejection.BAD_FLAG),
        ({"record_id": 99}, Rejection.ID_OUTSIDE_RANGE),
        ({"reading": 250_001}, Rejection.IMPLAUSIBLE),
        ({"record_type": 2, "reading": CAPACITY * 5 // 4 + 1}, Rejection.IMPLAUSIBLE),
    ],
)
def test_a_bad_record_is_named_and_kept_and_the_rest_goes_through(
    world: World, wrong: dict[str, int], reason: Rejection
) -> None:
    good, bad = readings(1, 1, 2)
    bad = bad._replace(**wrong)
    ack = world.put(1, 1, [good, bad], last_id=2)
    assert ack.rejected == ((bad.record_id, reason),)
    assert ack.accepted == ((3, 1),)
    assert [dead_letter.content for dead_letter in world.store.dead_letters()] == [bad.pack()]
    world.put(1, 1, [good, bad], last_id=2)
    assert len(world.store.dead_letters()) == 1, "sent again, the dead letter is not kept twice"


def test_a_record_of_another_account_is_accepted_and_told_to_the_utility_once_a_day(world: World) -> None:
    def put(first: int, account: int) -> PutAck:
        told = [record._replace(account=account) for record in readings(1, first, 2, start=START + 30 * first)]
        return world.put(1, first, told)

    for first, account in ((1, 9), (3, 9), (5, 1), (7, 8)):
        ack = put(first, account)
        assert (ack.accepted, ack.rejected) == (((3, 2),), ())
    assert stored_slots(world) == 8
    kept = world.store.dead_letters()
    assert sorted((d.reason, d.record_id) for d in kept) == [(Rejection.WRONG_ACCOUNT, n) for n in (1, 7)]
    assert world.core.collector.counts.other_accounts == 6
    assert not world.core.collector.counts.rejected
    world.now += 86_400
    put(9, 9)
    for account in range(100, 120):
        put(11 + 2 * account, account)
    assert len(world.store.dead_letters()) == 2 + ACCOUNTS_A_DAY


def test_a_gateway_whose_clock_the_utility_has_not_confirmed_rejects_nothing_as_from_the_future(world: World) -> None:
    world.forget_time()
    world.now -= 86_400
    assert world.put(1, 1, readings(1, 1, 2)).rejected == ()


def test_a_put_of_a_clock_that_is_an_hour_ahead_waits_at_its_meter_and_is_told_the_time(world: World) -> None:
    early = readings(1, 1, 2, start=START + 3600)
    ack = world.put(1, 1, early)
    assert (ack.status, ack.trust, ack.time) == (Refusal.EARLY, Trust.NETWORK, START)
    assert world.store.dead_letters() == []
    assert stored_slots(world) == 0
    world.now += 3600
    assert world.put(1, 1, early).status == Refusal.NONE
    assert stored_slots(world) == 2


@pytest.mark.parametrize(
    ("damage", "status"),
    [
        (lambda p: p[:-1] + bytes([p[-1] ^ 1]), Refusal.CHECKSUM),
        (lambda p: b"\x02" + p[1:], Refusal.VERSION),
        (lambda p: p[:-5], Refusal.MALFORMED),
        (lambda _: b"\x01hello", Refusal.MALFORMED),
        (lambda _: b'{"v":1,"records":[1, 2]}', Refusal.VERSION),
        (lambda p: p[:2] + (MAX_PUT_RECORDS + 1).to_bytes(2, "big") + p[4:], Refusal.TOO_LARGE),
    ],
)
def test_a_put_that_cannot_be_read_is_refused_by_name_and_kept(world: World, damage, status: Refusal) -> None:  # type: ignore[no-untyped-def]
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=2, records=tuple(r.pack() for r in readings(1, 1, 2)))
    payload = damage(put.pack())
    sent = world.meter_says(1, "rec", payload)
    assert unpack_put_ack(sent[-1].payload).status == status
    assert [dead_letter.content for dead_letter in world.store.dead_letters()] == [payload]
    assert stored_slots(world) == 0


def test_junk_is_kept_up_to_a_hundred_a_day(world: World) -> None:
    for n in range(150):
        world.meter_says(1, "out", b"{%d" % n)
    assert len(world.store.dead_letters()) == 100
    assert world.core.collector.counts.dead_letters_dropped == 50
    world.now += 86_400
    world.meter_says(1, "out", b"{tomorrow")
    assert len(world.store.dead_letters()) == 101


def test_rejected_records_are_kept_up_to_a_bound_a_meter_and_day_and_all_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.collect.REJECTED_A_DAY", 25)
    collector = world.core.collector
    for n in range(4):
        ack = world.put(1, n * 10 + 1, readings(2, n * 10 + 1, 10))
        assert ack.rejected == tuple((n * 10 + i + 1, Rejection.WRONG_METER) for i in range(10))
    assert [dead_letter.record_id for dead_letter in world.store.dead_letters()] == list(range(1, 26))
    assert (collector.counts.rejected["wrong_meter"], collector.counts.rejected_dropped) == (40, 15)
    assert collector.take_overfull() == [1], "told once"
    assert collector.take_overfull() == []
    world.put(3, 1, readings(2, 1, 1))
    assert world.put(1, 41, readings(1, 41, 4)).accepted == ((3, 4),), "what is good goes through"
    world.now += 86_400
    world.put(1, 45, readings(2, 45, 1))
    assert [dead_letter.record_id for dead_letter in world.store.dead_letters()][25:] == [1, 45]


def test_all_meters_together_have_a_bound_of_rejected_records_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.collect.ALL_REJECTED_A_DAY", 15)
    for meter in (1, 3):
        world.put(meter, 1, readings(2, 1, 10))
    assert len(world.store.dead_letters()) == 15
    assert world.core.collector.counts.rejected_dropped == 5


def test_a_meter_that_goes_on_beyond_its_share_takes_nothing_of_the_others_share(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.collect.REJECTED_A_DAY", 10)
    monkeypatch.setattr("gateway.collect.ALL_REJECTED_A_DAY", 20)
    for n in range(5):
        world.put(1, n * 10 + 1, readings(2, n * 10 + 1, 10))
    assert world.core.collector.counts.rejected_dropped == 40
    assert world.put(3, 1, readings(3, 1, 5, value=400_000)).rejected, "not BUSY"
    assert [one.meter for one in world.store.dead_letters()].count(3) == 5


def test_readings_that_a_person_may_release_wait_at_their_meter_when_its_share_is_used_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.collect.REJECTED_A_DAY", 25)
    counts = world.core.collector.counts
    days = []
    first = 1
    while first <= 81:
        # Registered for 200 A, and has 400: all it measures is held. Each put has a good one, too.
        held = readings(1, first, 9, start=START + first * SLOT_S, value=400_000)
        good = readings(1, first + 9, 1, start=START + (first + 9) * SLOT_S)
        ack = world.put(1, first, [*held, *good])
        if ack.status is Refusal.NONE:
            assert (len(ack.rejected), ack.accepted) == (9, ((3, 1),))
            days.append(world.now // 86_400)
            first += 10
        else:
            assert (ack.status, ack.first_id, ack.last_id) == (Refusal.BUSY, first, first + 9)
            assert world.core.collector.take_overfull() == [1]
            assert world.put(1, first, [*held, *good]).status is Refusal.BUSY
            assert world.core.collector.take_overfull() == [], "told once a day"
            assert world.put(3, first, readings(3, first, 9, value=400_000)).rejected, "others are not affected"
            world.now += 86_400
    kept = [dead_letter.record_id for dead_letter in world.store.dead_letters() if dead_letter.meter == 1]
    assert kept == [n for n in range(1, 91) if n % 10], "none was dropped"
    assert [days.count(day) for day in sorted(set(days))] == [2, 2, 2, 2, 1], "each day its share, and no more"
    assert counts.rejected_dropped == 0
    assert (counts.puts["accepted"], counts.puts["busy"]) == (9 + 4, 8)
    assert counts.rejected["implausible"] == 9 * 9 + 4 * 9


def test_the_bound_of_rejected_records_is_above_what_a_meter_registered_wrongly_makes() -> None:
    assert REJECTED_A_DAY > 5 * 3 * 86_400 / SLOT_S
    assert ALL_REJECTED_A_DAY >= 2 * REJECTED_A_DAY


def test_a_meter_that_is_not_registered_is_told_to_come_again(world: World) -> None:
    ack = world.put(99, 1, readings(99, 1, 1))
    assert ack.status is Refusal.NOT_REGISTERED
    assert stored_slots(world) == 0


def test_events_are_kept_once_and_a_contradicting_one_is_a_letter(world: World) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=START)
    other = EventRecord(previous_state=0, new_state=3, record_id=1, meter_id=1, time=START)
    assert world.put(1, 1, [event]).accepted == ((0, 1),)
    assert world.put(1, 1, [event]).accepted == ((0, 1),)
    assert world.put(1, 1, [other]).rejected == ((1, Rejection.CONTRADICTS),)
    assert [e for _, e in world.store.all_events(unsent_only=False)] == [event]


def test_two_events_of_one_id_in_one_put_are_both_kept(world: World) -> None:
    events = [EventRecord(previous_state=0, new_state=n, record_id=1, meter_id=1, time=START) for n in (1, 3)]
    world.put(1, 1, events, last_id=2)
    kept = [e for _, e in world.store.all_events(unsent_only=False)]
    kept += [unpack_event(dead_letter.content) for dead_letter in world.store.dead_letters()]
    assert sorted(e.new_state for e in kept) == [1, 3]


def test_ids_that_no_log_reaches_are_refused_and_harm_nobody(world: World) -> None:
    put = Put(log=Log.HISTORY, generation=1, first_id=2**63, last_id=2**63, records=(readings(1, 1, 1)[0].pack(),))
    (ack,) = world.meter_says(1, "rec", put.pack())
    assert unpack_put_ack(ack.payload).status is Refusal.MALFORMED


def test_a_put_that_covers_years_is_refused_before_it_is_taken_apart(world: World) -> None:
    day = [a_record(START, 1, end=START + 86_400, meter=1, record_id=i) for i in range(1, 1001)]
    assert world.put(1, 1, day).status is Refusal.TOO_LARGE


def test_ranges_of_ids_are_bounded_and_those_of_a_log_that_goes_on_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.store.MAX_RANGES", 5)
    world.put(2, 1, readings(2, 1, 2), generation=1)
    for n in range(1, 20):
        world.put(1, 2 * n - 1, readings(1, 2 * n - 1, 2), generation=1)
        world.put(1, 1, readings(1, 1, 2), generation=n + 1)
        world.put(1, 100 * n, readings(1, 100 * n, 1), generation=1)
    kept = {generation: world.store.coverage(1, Log.HISTORY, generation) for generation in range(21)}
    assert sum(map(len, kept.values())) == 5
    assert (1, 38) in kept[1]
    assert kept[20] == [(1, 2)]
    assert kept[2] == []
    assert world.store.coverage(2, Log.HISTORY, 1) == [(1, 2)], "another meter's"


def test_at_start_the_gateway_asks_for_what_a_meter_holds_and_counts_what_is_gone(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.crash()
    asked = world.introduce(1, first=11, next_id=15)
    assert [c.what for c in asked if c.cmd == "get"] == ["records"]
    assert world.core.collector.gone[1, Log.HISTORY] == 6, "ids 5 to 10 are neither at the meter nor here"
    for next_id in (5, 15):  # also one of before the meter's newest acknowledgement: nothing was recorded since
        world.introduce(1, first=1, next_id=next_id)
        assert world.core.collector.gone[1, Log.HISTORY] == 6, "an answer of long ago, which was held up"


def test_what_the_service_can_just_carry_is_accepted(world: World) -> None:
    most = readings(1, 1, 1)[0]._replace(reading=250_000)
    full = most._replace(record_id=2, record_type=RecordType.STORED, reading=CAPACITY)
    assert world.put(1, 1, [most, full]).rejected == ()


@pytest.mark.parametrize(
    ("level", "reason"),
    [
        ({"level": CAPACITY * 2}, Rejection.IMPLAUSIBLE),
        ({"level": -1}, Rejection.NEGATIVE),
    ],
)
def test_a_live_level_nobody_can_believe_shares_nothing_and_is_kept(
    world: World, level: dict[str, int], reason: Rejection
) -> None:
    world.introduce(1)
    world.introduce(2)
    world.level(2, 10)
    sent = LiveLevel(**{"state": 1, "time": START, "level": CAPACITY, **level}).pack()
    assert commands(world.meter_says(1, "lvl", sent)) == []
    (dead_letter,) = world.store.dead_letters()
    assert (dead_letter.reason, dead_letter.content) == (reason, sent)
    assert [command.cmd for command in world.level(1, 100)] == ["share_power_on"]


def test_state_bits_of_a_later_version_are_kept_counted_and_change_nothing(world: World) -> None:
    world.introduce(1)
    world.introduce(2)
    world.level(2, 10)
    event = EventRecord(previous_state=1, new_state=0x4001, record_id=1, meter_id=1, time=START)
    world.put(1, 1, [event])
    assert world.store.event(1, 1, 1) == event
    sent = LiveLevel(state=0x8001, time=START, level=CAPACITY).pack()
    assert [command.cmd for command in commands(world.meter_says(1, "lvl", sent))] == ["share_power_on"]
    assert world.core.manager.counts.unknown_states == 2


def test_a_level_of_a_meter_without_a_battery_is_kept_as_a_dead_letter(world: World) -> None:
    world.meter_says(4, "lvl", LiveLevel(state=1, time=START, level=5).pack())
    (dead_letter,) = world.store.dead_letters()
    assert (dead_letter.meter, dead_letter.reason) == (4, Rejection.TYPE_NOT_REGISTERED)


def test_a_level_of_the_future_does_not_shut_out_those_after_it(world: World) -> None:
    world.introduce(1)
    world.introduce(2)
    world.level(2, 10)
    world.forget_time()
    world.meter_says(1, "lvl", LiveLevel(state=1, time=2**32 - 1, level=0).pack())
    world.core.time.network(world.now, world.now, 0)
    assert [command.cmd for command in world.level(1, 100)] == ["share_power_on"]


def test_strangers_have_one_share_of_the_letters_together(world: World) -> None:
    for meter in range(1000, 1150):
        world.meter_says(meter, "lvl", b"x")
    assert len(world.store.dead_letters()) == 100
    world.meter_says(1, "lvl", b"x")
    assert len(world.store.dead_letters()) == 101


DAY_S = 86_400


def days(meter: int, first_id: int) -> list[HistoryRecord]:
    """Return 17 records that each cover a day: 97,920 slots in 640 bytes."""
    return [
        a_record(START - (n + 1) * DAY_S, 1, end=START - n * DAY_S, meter=meter, record_id=first_id + n, account=meter)
        for n in range(17)
    ]


def test_a_flood_of_long_records_is_refused_and_other_meters_are_not(world: World) -> None:  # req: C8
    asked = 17 * DAY_S // SLOT_S
    answers = [world.put(1, 1 + 17 * n, days(1, 1 + 17 * n)).status for n in range(40)]
    taken = answers.count(Refusal.NONE)
    assert taken == -(-BURST_SLOTS // asked)
    assert answers[taken:] == [Refusal.BUSY] * (40 - taken), "refused whole, so that the meter keeps it"
    assert world.core.collector.take_over_allowance() == [1], "a person sees which meter"
    assert world.core.collector.take_over_allowance() == []
    assert world.core.collector.counts.puts_over_allowance == 40 - taken
    assert world.put(2, 1, readings(2, 1, 4)).status is Refusal.NONE
    world.now += 600
    assert world.put(1, 1, days(1, 1)).status is Refusal.NONE, "the meter has a new allowance"


def test_an_honest_backlog_of_seven_weeks_is_taken_in_at_once() -> None:
    allowance, slots = SlotAllowance(), 7 * 7 * DAY_S // SLOT_S * 3
    puts = range(0, slots, 1000)
    assert all(allowance.take(1, 1000, START) for _ in puts)


def test_the_allowance_comes_back_with_time_and_a_clock_set_back_gives_and_takes_none() -> None:
    allowance = SlotAllowance()
    assert allowance.take(1, 2 * BURST_SLOTS, START)
    assert not allowance.take(1, 1, START - DAY_S)
    minutes = BURST_SLOTS / SLOTS_A_MINUTE
    assert not allowance.take(1, 1, START - DAY_S + int(60 * minutes) - 2)
    assert allowance.take(1, 1, START - DAY_S + int(60 * minutes) + 1)


T = 1_800_000_000
FROM_TOWN, TO_TOWN = 8, 9


def meter(number: int, direction: Direction, function: Function = Function.HOUSE) -> RegisteredMeter:
    types = (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH)
    rest: dict[str, Any] = {"account": 1, "record_types": types, "service_amps": 100, "address": "192.0.2.1"}
    return RegisteredMeter(id=number, location=f"house {number}", function=function, direction=direction, **rest)


HOMES = [meter(1, Direction.INCOMING), meter(2, Direction.INCOMING), meter(3, Direction.OUTGOING)]
BOUNDARY = [
    meter(FROM_TOWN, Direction.INCOMING, Function.BOUNDARY),
    meter(TO_TOWN, Direction.OUTGOING, Function.BOUNDARY),
]


def record(number: int, kind: RecordType, end: int, reading: int, slots: int = 1) -> HistoryRecord:
    return HistoryRecord(kind, 0, end, number, 1, end - 15 * slots, end, reading)


def slots(number: int, kind: RecordType, reading: int, minutes: int = 2) -> list[HistoryRecord]:
    return [record(number, kind, T - 15 * n, reading) for n in range(4 * minutes)]


def minute(**boundary: int) -> list[HistoryRecord]:
    """Two minutes: sun 6 kW, home 1 takes 2.4 kW; home 3 gives 1.2 kW; a battery rises by 12 Wh a minute (720 W)."""
    levels = [record(1, RecordType.STORED, T - 15 * n, 50_000_000 - 3_000 * n) for n in range(8)]
    through = [*slots(1, RecordType.THROUGH, 10_000), *slots(3, RecordType.THROUGH, 5_000)]
    at = {"taken": FROM_TOWN, "given": TO_TOWN}
    edge = [each for name, reading in boundary.items() for each in slots(at[name], RecordType.THROUGH, reading)]
    return [*slots(1, RecordType.GENERATION, 25_000), *levels, *through, *edge]


@pytest.mark.parametrize(
    ("meters", "boundary", "taken", "given", "between"),
    [
        pytest.param(HOMES, {}, 1200, 0, 1200, id="without a boundary, the sum over the homes"),
        pytest.param([*HOMES, *BOUNDARY], {"taken": 0, "given": 4_000}, 0, 960, 2400, id="what the boundary counted"),
    ],
)
def test_power_is_the_mean_of_the_minute(
    meters: list[RegisteredMeter], boundary: dict[str, int], taken: int, given: int, between: int
) -> None:
    last = LastMinute()
    for _ in range(2):  # A put that comes again changes nothing.
        last.take(minute(**boundary), T)
    power = last.power(meters, T)
    assert power is not None
    assert (power.end, power.sun_w, power.import_w, power.export_w) == (T, 6000, taken, given)
    assert power.between_w == between
    assert power.use_w == 6000 + taken - given - 720, "what is stored is not used"


def test_minutes_are_kept_for_a_period_of_puts() -> None:
    last = LastMinute()
    last.put_s = 900
    last.take(minute(), T + 900)
    power = last.power(HOMES, T + 900)
    assert power is not None
    assert power.end == T


def test_a_minute_of_which_some_meters_have_not_sent_waits() -> None:
    last = LastMinute()
    last.take(minute(), T)
    last.take([record(1, RecordType.GENERATION, T + 15 * n, 50_000) for n in range(1, 5)], T + 60)
    power = last.power(HOMES, T + 61)
    assert power is not None
    assert (power.end, power.sun_w) == (T, 6000), "the newest minute has the sun only"


def test_old_readings_those_ahead_and_long_records_are_no_present_power() -> None:
    last = LastMinute()
    last.take(slots(1, RecordType.GENERATION, 25_000), T + 3600)
    last.take([record(1, RecordType.GENERATION, T + 86_400, 9)], T)
    assert last.power(HOMES, T + 3600) is None
    last.take([record(1, RecordType.GENERATION, T + 3600, 25_000, slots=5760)], T + 3600)
    power = last.power(HOMES, T + 3600)
    assert power is not None
    assert (power.end, power.sun_w) == (T + 3600, 6000), "the same average in each slot of a day"


def test_a_heartbeat_has_the_levels_of_the_decision_in_the_order_of_the_reasons(world: World) -> None:
    households(world, 80, 70, 48)
    sent = heartbeat(
        world.core, world.controller.line, world.core.now, None, {}, {}, Program(release="0.4", cert_days=9)
    )
    said = unpack_json(Heartbeat, sent.payload)
    by_meter = dict(zip(said.sharing, said.levels, strict=True))
    assert {n: by_meter[n] for n in (1, 2, 3)} == {1: 800, 2: 700, 3: 480}
    assert by_meter.get(4) is None
    capacity = sum(world.core.meters[n].battery_capacity_mwh or 0 for n in (1, 2, 3)) // 3
    assert said.stored is not None
    assert said.stored[0] == pytest.approx(1.98 * capacity, rel=0.01)
    assert said.power is None, "no record has come"
