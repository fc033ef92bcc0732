"""A meter sends its battery's level by itself as it falls below its minimum, and when it is back."""

from collections import Counter
from pathlib import Path

import pytest

from commonwatt.device.changes import DesiredStates, MeterState, Stored
from commonwatt.device.commands.desired_states import Commanded
from commonwatt.device.meter import Effects, Limits, Meter
from commonwatt.model.effects import Publish
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Command
from commonwatt.protocol.meter_messages import Level, unpack_level
from commonwatt.town.town import Battery
from harness.surroundings.gateway import CAPACITY, START, World, commands
from harness.surroundings.records import SOLAR, house_meter

METER = 3
GET = Command(id="c1", cmd="get", what="levels", issuer="r001", epoch=(1, 0)).pack()


def a_meter(*, push: bool = True) -> Meter:
    battery = Battery(capacity=CAPACITY, minimum_percent=50)
    state = Stored(state=MeterState(meter=METER, generation=START), desired_states=DesiredStates(METER, (0, 0), {}))
    meter = Meter(house_meter(METER, battery=battery, record_types=SOLAR, push=push), Limits(), state, Counter())
    meter.boot(START, power_lost=True)
    return meter


def percent(value: float) -> int:
    return round(CAPACITY * value / 100)


def levels(effects: Effects) -> list[Level]:
    sent = [e for e in effects if isinstance(e, Publish) and e.topic == topics.meter_up("r001", METER, topics.LEVELS)]
    assert all(not publish.qos for publish in sent)
    return [unpack_level(publish.payload) for publish in sent]


def told(meter: Meter, *levels_percent: float, apart_s: int = SLOT_S) -> list[bool]:
    """Let the meter sample these levels; return for each whether it sent it."""
    return [
        bool(levels(meter.report_level(START + n * apart_s, percent(each)))) for n, each in enumerate(levels_percent)
    ]


def test_a_level_that_falls_below_the_minimum_within_a_slot_is_sent_at_once() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START + 1, percent(50))) == []
    (level,) = levels(meter.report_level(START + 7, percent(49.9)))
    assert (level.level, level.time, level.state) == (percent(49.9), START + 7, meter.bits)


def test_the_end_of_a_slot_counts_as_any_other_moment() -> None:
    meter = a_meter()
    flows = {RecordType.GENERATION: 0, RecordType.THROUGH: 0}
    assert levels(meter.measure(START + 15, {**flows, RecordType.STORED: percent(51)})) == []
    (level,) = levels(meter.measure(START + 30, {**flows, RecordType.STORED: percent(48)}))
    assert (level.level, level.time) == (percent(48), START + 30)


def test_each_whole_percent_below_the_minimum_and_the_return_are_sent() -> None:
    sent = told(a_meter(), 51, 49.5, 49.2, 49, 48.7, 47.9, 48.5, 49.9, 50, 52)
    assert sent == [False, True, False, True, False, True, False, False, True, False]


def test_a_level_that_oscillates_about_a_mark_is_sent_once() -> None:
    assert sum(told(a_meter(), *(48.1, 47.9) * 100)) == 2  # the first of each


@pytest.mark.parametrize("apart_s", [1, 5, 15])
def test_a_level_that_oscillates_about_the_minimum_is_sent_once_a_slot_at_most(apart_s: int) -> None:
    assert sum(told(a_meter(), *(49.9, 50.1) * 60, apart_s=apart_s)) <= 120 * apart_s // SLOT_S


def test_the_change_that_had_to_wait_is_sent_with_the_next_sample_after_the_wait() -> None:
    assert told(a_meter(), 49.9, 50.1, 50.1, 50.1, 50.1, apart_s=5) == [True, False, False, True, False]


def test_a_level_that_was_requested_is_not_sent_again() -> None:
    meter = a_meter()
    assert told(meter, 51, 49.9) == [False, True]
    assert levels(meter.report_level(START + 20, percent(48.9))) == []  # it waits
    assert levels(meter.receive(topics.COMMANDS, GET, START + 21))
    assert levels(meter.report_level(START + 60, percent(48.8))) == []


def test_a_clock_that_was_set_back_delays_nothing() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START + 86_400, percent(49)))
    assert levels(meter.report_level(START, percent(51)))


def test_the_switch_for_records_does_not_keep_a_level_back() -> None:
    assert told(a_meter(push=False), 51, 49) == [False, True]


def test_a_stopped_meter_or_a_lost_level_sends_nothing() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START, None)) == []
    meter.receive(topics.COMMANDS, Command(id="c2", cmd="stop", issuer="r001", epoch=(1, 0)).pack(), START)
    assert meter.commanded(START) == Commanded()
    assert told(meter, 49) == [False]


def test_donors_are_told_in_the_second_in_which_a_level_fell_within_a_slot(tmp_path: Path) -> None:
    world, meter = World(tmp_path / "gateway.db"), a_meter()
    for each in (1, 2, METER):
        world.introduce(each)
        world.level(each, 80)
    world.now = START + 22
    for level in levels(meter.report_level(world.now, percent(47.9))):
        sent = world.meter_says(METER, topics.LEVELS, level.pack())
    shares = [p.topic.split("/")[2] for p in sent for c in commands([p]) if c.cmd == "share_power_on"]
    assert (world.now, shares) == (START + 22, ["1", "2"])
    world.store.close()
