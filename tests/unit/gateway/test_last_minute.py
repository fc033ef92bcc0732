"""Power now in a heartbeat: the mean of the last whole minute, and the levels on which the gateway decided."""

from typing import Any

import pytest

from commonwatt.model.records import HistoryRecord, RecordType
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway.collect.last_minute import LastMinute
from gateway.shown.status import heartbeat
from harness.surroundings.gateway import World
from tests.unit.gateway.test_manager import households

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
        pytest.param(HOMES, {}, 1200, 0, 0, id="without a boundary, the sum over the homes"),
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
