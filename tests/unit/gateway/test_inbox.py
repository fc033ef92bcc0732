"""What waits for the gateway's core: what goes into a transaction, whose turn it is, and what finds no room."""

import asyncio
import time

import pytest

from commonwatt.model.records import Log
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Put
from gateway.core import RETRY
from gateway.events import Event, FromMeter, FromUtility, Tick
from gateway.loop import inbox as module
from gateway.loop.inbox import MAX_GROUP, MAX_GROUP_BYTES, MAX_GROUP_SLOTS, SMALL_PUT_SLOTS, Inbox
from harness.surroundings.messages import a_record

DAY_S = 86_400
START = 1_781_913_600


def filled(*events: Event) -> Inbox:
    inbox = Inbox()
    for event in events:
        inbox.queue(event)
    return inbox


def put_of(meter: int, records: int, seconds: int) -> FromMeter:
    """Return a put of records that each cover so many seconds."""
    rows = tuple(
        a_record(START + n * seconds, 1, end=START + (n + 1) * seconds, meter=meter, record_id=n + 1).pack()
        for n in range(records)
    )
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=records, records=rows)
    return FromMeter(f"cw1/r001/{meter}/u/rec", put.pack())


def minutes_put(meter: int, slots: int = 4) -> FromMeter:
    """Return a put as meters send it each minute."""
    return put_of(meter, slots, SLOT_S)


def days_put(meter: int, records: int = 17) -> FromMeter:
    """Return a put of a few records that each cover a day: small, valid, and much work."""
    return put_of(meter, records, DAY_S)


def test_a_transaction_takes_so_many_messages_and_so_many_bytes_in_order() -> None:
    small = filled(*(Tick(str(n)) for n in range(MAX_GROUP + 1)))
    assert small.take() == [Tick(str(n)) for n in range(MAX_GROUP)]
    assert small.take() == [Tick(str(MAX_GROUP))]
    large = filled(*[FromMeter("cw1/r001/1/u/out", bytes(MAX_GROUP_BYTES // 2 - 1))] * 4)
    assert [len(large.take()), len(large.take()), len(large.take())] == [3, 1, 0]


def test_a_transaction_takes_only_so_many_slots() -> None:
    inbox = filled(*[days_put(1)] * 3)
    assert 17 * DAY_S // SLOT_S > MAX_GROUP_SLOTS
    assert [len(inbox.take()) for _ in range(4)] == [1, 1, 1, 0]


def test_one_meter_that_asks_for_much_work_waits_behind_itself() -> None:
    inbox = filled(*[days_put(1)] * 1000, FromMeter("cw1/r001/2/u/rec", b"small"), Tick(RETRY))
    first = inbox.take()
    assert first[:2] == [FromMeter("cw1/r001/2/u/rec", b"small"), Tick(RETRY)]


def test_what_one_meter_sends_stays_in_order() -> None:
    sent = [FromMeter(f"cw1/r001/1/u/{leaf}", bytes([n])) for n, leaf in enumerate(("rec", "ev", "out", "rec"))]
    assert filled(*sent).take() == sent


def test_what_waits_is_bounded_in_bytes_and_a_tick_finds_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    inbox = filled(*[FromMeter("cw1/r001/1/u/rec", bytes(50))] * 3, Tick(RETRY))
    assert inbox.overflowed == 1
    assert sorted(map(type, inbox.take()), key=str) == sorted([FromMeter, FromMeter, Tick], key=str)
    inbox.queue(FromMeter("cw1/r001/1/u/rec", bytes(100)))
    assert inbox.overflowed == 1
    assert len(inbox.take()) == 1


def test_what_waits_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    inbox = filled(*map(Tick, ("first", "second", "third")))
    assert inbox.overflowed == 1
    assert inbox.take() == [Tick("first"), Tick("second")]
    assert inbox.take() == []


def test_small_puts_wait_for_others_and_are_taken_together() -> None:
    async def play() -> None:
        inbox = Inbox(wait_s=0.01)
        puts = [minutes_put(meter) for meter in (1, 2, 3)]
        for put in puts:
            inbox.queue(put)
        assert inbox.take() == []
        await inbox.filled()
        assert inbox.take() == puts
        inbox.queue(puts[0])
        assert inbox.take() == [], "the next group waits as long"
        await inbox.filled()
        assert inbox.take() == [puts[0]]

    asyncio.run(play())


def test_all_else_passes_the_puts_that_wait() -> None:
    async def play() -> None:
        inbox = Inbox(wait_s=3600)
        urgent: list[Event] = [
            FromMeter("cw1/r001/1/u/lvl", b"level"),
            FromMeter("cw1/r001/1/u/out", b"outcome"),
            FromMeter("cw1/r001/1/u/ev", b"events"),
            FromUtility("cw1/r001/d/cmd", b"command"),
            Tick(RETRY),
            minutes_put(9, slots=SMALL_PUT_SLOTS),
        ]
        for event in urgent:
            inbox.queue(minutes_put(1))
            inbox.queue(event)
            await inbox.filled()
            assert inbox.take() == [event]
        assert inbox.join(MAX_GROUP - 4) == [minutes_put(1)] * 4, "a commit that is needed anyway takes them along"
        assert len(inbox.join(1)) == 2
        inbox.queue(minutes_put(1))
        inbox.clear()
        assert inbox.take() == []

    asyncio.run(play())


def test_answers_of_meters_are_taken_together() -> None:
    async def play() -> None:
        inbox = Inbox(gather_s=0.01)
        answers: list[Event] = [FromMeter(f"cw1/r001/{meter}/u/out", b"outcome") for meter in (1, 2, 3)]
        for answer in answers:
            inbox.queue(answer)
            await asyncio.sleep(0)
        waiting = asyncio.create_task(inbox.filled())
        await asyncio.sleep(0)
        assert not waiting.done()
        await waiting
        assert inbox.take() == answers
        inbox.queue(answers[0])
        inbox.queue(Tick(RETRY))
        await inbox.filled()
        assert inbox.take() == [answers[0], Tick(RETRY)], "what is to be taken at once takes them along"

    asyncio.run(play())


def test_a_full_group_does_not_wait() -> None:
    async def play() -> None:
        inbox = Inbox(wait_s=3600)
        for meter in range(MAX_GROUP + 1):
            assert inbox.take() == []
            inbox.queue(minutes_put(meter + 1))
            if len(inbox) == MAX_GROUP:
                break
        await inbox.filled()
        assert len(inbox.take()) == MAX_GROUP
        inbox.queue(minutes_put(1))
        assert inbox.take() == []

    asyncio.run(play())


def test_the_inbox_says_since_when_something_urgent_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: real[0])
    inbox = filled(*(Tick(str(n)) for n in range(MAX_GROUP + 1)))
    real[0] += 7
    assert inbox.busy_s == 7
    inbox.take()
    assert inbox.busy_s == 7, "one still waits"
    inbox.take()
    real[0] += 3
    assert inbox.busy_s == 0
    inbox.queue(Tick(RETRY))
    real[0] += 2
    assert inbox.busy_s == 2


def test_an_event_that_found_no_room_does_not_keep_an_empty_queue_due() -> None:
    inbox = filled(FromUtility("t", bytes(module.MAX_WAITING_BYTES + 1)))
    assert (inbox.overflowed, inbox.is_due) == (1, False)
    inbox.queue(Tick(RETRY))
    assert (inbox.is_due, inbox.take(), inbox.is_due) == (True, [Tick(RETRY)], False)
