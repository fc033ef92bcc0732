"""One valid meter that asks for much work: it is refused, and the others' data flows."""

from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Refusal
from gateway.collect.slot_allowance import BURST_SLOTS, SLOTS_A_MINUTE, SlotAllowance
from harness.surroundings.gateway import START, World, readings
from harness.surroundings.records import a_record

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
