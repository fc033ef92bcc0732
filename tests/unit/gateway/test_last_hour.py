"""How long the batteries of an island last at the last hour's mean: in status, page, metric and heartbeat."""

import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.control.lasting import lasts_until
from commonwatt.model.records import State
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.town import Function
from gateway.control.last_hour import LastHour
from gateway.controller import HEARTBEAT
from gateway.core import RETRY
from gateway.page.sections import town
from gateway.shown.metrics import Figures, make_registry
from harness.worlds.gateway import CAPACITY, World
from tests.unit.gateway.conftest import BOUNDARY, HOUSES

UP = int(State.INITIALIZED)
ISLAND = UP | int(State.OFF_GRID) | int(State.SWITCH_OPEN) | int(State.DEAD_FEEDER)


@pytest.fixture
def world(bounded_world: World) -> World:
    return bounded_world


def sensed(world: World, bits: int) -> None:
    """Let the boundary sensor report."""
    world.introduce(BOUNDARY, minimum=None, bits=bits, cmd="get")


def minutes(world: World, count: int, percent: float, an_hour: float) -> float:
    """Let minutes pass in which each battery rises by ``an_hour`` percent of its capacity an hour; return the level."""
    for _ in range(count):
        world.now += 60
        percent += an_hour / 60
        for meter in HOUSES:
            world.level(meter, percent)
        world.tick(RETRY)
    return percent


def told(world: World) -> tuple[dict[str, Any], float, Heartbeat]:
    """Return the modes in the status, the metric, and the heartbeat."""
    view = world.view()
    registry = make_registry(world.controller, Figures)
    metric = registry.get_sample_value("commonwatt_gateway_batteries_left_seconds")
    assert metric is not None
    (beat,) = world.tick(HEARTBEAT)
    modes: Any = view["modes"]
    return modes, metric, unpack_json(Heartbeat, beat.payload)


def test_an_island_says_how_long_its_batteries_last_and_until_when(world: World) -> None:
    sensed(world, ISLAND)
    minutes(world, 1, 60.2, -12)  # 60 %: 5 h at 12 % an hour
    percent = minutes(world, 10, 60, -12)
    modes, metric, beat = told(world)
    assert (modes["hours_left"], modes["lasts_until"], beat.lasts_until) == (None, None, None), "10 minutes say nothing"
    assert math.isnan(metric)
    percent = minutes(world, 50, percent, -12)
    assert percent == pytest.approx(48)
    modes, metric, beat = told(world)
    assert modes["hours_left"] == 4.0
    assert modes["lasts_until"] == pytest.approx(world.now + 4 * 3600, abs=2)
    assert metric == modes["lasts_until"] - world.now
    assert beat.lasts_until == modes["lasts_until"]
    page = town(world.view(), ZoneInfo("UTC"))
    assert "The batteries last 4.0 h, until " in page
    # The last hour's mean, not the whole time's: after an hour at half the use 42 % last seven hours.
    minutes(world, 60, percent, -6)
    assert told(world)[0]["hours_left"] == 7.0


def test_empty_batteries_have_no_time_left_and_none_below_it(world: World) -> None:
    sensed(world, ISLAND)
    minutes(world, 30, 12, -24)
    world.now += 59  # no sample since
    modes, metric, _ = told(world)
    assert (str(modes["hours_left"]), metric) == ("0.0", 0)


def test_batteries_that_gain_and_a_connected_microgrid_have_no_end(world: World) -> None:
    minutes(world, 40, 60, -12)
    assert told(world)[0]["lasts_until"] is None, "it is connected"
    sensed(world, ISLAND)
    percent = minutes(world, 20, 50, 6)
    assert told(world)[0]["lasts_until"] is None, "the sun charges them"
    percent = minutes(world, 60, percent, -6)
    assert told(world)[0]["lasts_until"] is not None
    for _ in range(40):  # the wait for a stable voltage, and the microgrid's own delay
        sensed(world, UP)
        percent = minutes(world, 1, percent, -6)
    modes = told(world)[0]
    assert (modes["phase"], modes["lasts_until"]) == ("connected", None)


def test_the_public_microgrid_says_it_while_it_is_connected(world: World) -> None:
    world.meters[1] = world.meters[1].model_copy(update={"function": Function.HOSPITAL})
    world.new_core()
    for meter in HOUSES:
        world.introduce(meter)
    minutes(world, 31, 60, -12)
    assert told(world)[0]["hours_left"] == pytest.approx(60 / 12 - 31 / 60, abs=0.06)


def test_the_mean_begins_with_the_first_sample_that_has_all_batteries() -> None:
    hour = LastHour()
    for minute in range(31):
        absent = {2: minute < 10, 3: 10 < minute < 20}  # 2: not known yet after a start; 3: not heard for a time
        levels = {meter: CAPACITY - minute * 10_000 for meter in HOUSES if not absent.get(meter)}
        hour.take(levels, minute * 60)
    assert hour.lasts_until == 1800 + 3 * (CAPACITY - 300_000) * 1200 // (3 * 200_000)


def test_a_battery_that_is_not_known_any_more_does_not_count() -> None:
    hour = LastHour()
    for minute in range(31):
        hour.take({1: CAPACITY - minute * 10_000} | ({2: CAPACITY} if minute < 30 else {}), minute * 60)
    assert hour.lasts_until == 1800 + (CAPACITY - 300_000) * 1800 // 300_000
    assert LastHour().lasts_until is None


@pytest.mark.parametrize(
    ("energy", "since", "used", "until"),
    [
        (6_000, 0, 2_000, 3_600 + 3 * 3_600),
        (0, 0, 2_000, 3_600),
        (-5, 0, 2_000, 3_600),
        (6_000, 0, 0, None),
        (6_000, 0, -7, None),
        (6_000, 2_701, 2_000, None),
        (6_000, 2_700, 2_000, 3_600 + 2_700),
        (10**9, 0, 1, None),
    ],
)
def test_energy_lasts_at_the_mean(energy: int, since: int, used: int, until: int | None) -> None:
    assert lasts_until(3_600, energy, since, used) == until
