"""How long homes have energy without the line, by cases that can be checked by hand."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.energy.controllers import ControllerRules
from commonwatt.energy.lasting import (
    HORIZON_H,
    LEAST_PAST_H,
    MOST_USE_ERROR,
    SPREAD,
    USE_BAND,
    WORST_USE,
    Band,
    Dark,
    Lasts,
    UsualPower,
    band,
    hours_left,
    lasts,
    use_ends,
    use_error,
    words,
)
from commonwatt.energy.places import Places, streets_of
from commonwatt.energy.splits import Array
from commonwatt.energy.step import Inputs
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.records import RecordType
from commonwatt.town.loading import town_of
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, TownFile

KWH = 10**6
SPEC = ControllerRules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)


def street(name: str, homes: int, capacity: int = 24 * KWH) -> Microgrid:
    """A microgrid of homes with batteries, whose minimum is a quarter."""
    meters = tuple(
        Meter(
            id=number * 10 + (direction is Direction.INCOMING),
            microgrid=name,
            address="",
            location=f"house {number}",
            function=Function.HOUSE,
            direction=direction,
            account=number,
            record_types=(RecordType.THROUGH,),
            service_amps=100,
            battery=Battery(capacity=capacity, minimum_percent=25) if direction is Direction.OUTGOING else None,
        )
        for number in range(1, homes + 1)
        for direction in (Direction.OUTGOING, Direction.INCOMING)
    )
    return Microgrid(id=name, number=1, kind="residential", address="", meters=meters)


def homes(count: int) -> Places:
    (places,) = streets_of([street("r1", count)], 3600)
    return places


def at_night(places: Places, kwh: float = 1) -> Inputs:
    """The same use in all hours, and no sun."""
    load = np.zeros((HORIZON_H, *places.shape), np.int64)
    load[:] = int(kwh * KWH) * (places.capacity > 0)
    return Inputs(load=load, generation=np.zeros_like(load))


def told(
    places: Places,
    level: Array,
    rules: ControllerRules = ControllerRules(),  # noqa: B008
    expected: Inputs | None = None,
) -> Lasts:
    return lasts(places, level, level >= 0, at_night(places) if expected is None else expected, 0, rules)


def test_without_control_a_home_lasts_as_long_as_its_level_by_its_use() -> None:
    places = homes(4)
    found = told(places, places.capacity // 2)
    z = NormalDist().inv_cdf(7 / 8)  # of the home that uses most
    assert found.first.middle[0] == pytest.approx(12 / (1 + SPREAD * z), abs=0.01)
    assert found.all.middle[0] == pytest.approx(12 / (1 - SPREAD * z), abs=0.01)
    assert found.first.low[0] == pytest.approx(12 / (1 + SPREAD * z) / (1 + USE_BAND), abs=0.01)
    assert found.first.high[0] == pytest.approx(12 / (1 + SPREAD * z) / (1 - USE_BAND), abs=0.01)
    assert found.first.least[0] == pytest.approx(12 / WORST_USE)


def test_neighbours_help_the_home_that_is_nearly_empty() -> None:
    places = homes(4)
    level = np.array([[1, 20, 20, 20]]) * KWH
    found = told(places, level, SPEC)
    assert found.first.alone[0] < 2
    assert found.first.middle[0] > 10
    assert found.all.middle[0] <= found.all.alone[0], "what was given is not there later"


def test_homes_with_enough_sun_are_never_dark() -> None:
    places = homes(4)
    dark = at_night(places)
    found = told(places, places.capacity // 2, SPEC, replace(dark, generation=dark.load * 2))
    assert np.isinf([found.first.low, found.half.middle, found.all.high]).all()
    assert hours_left(found, 0, 0).first.words == "more than 72 h"
    assert found.first.least[0] < 10, "the least counts no sun"


def test_an_unknown_level_widens_the_range() -> None:
    places = homes(4)
    level = places.capacity // 2
    known = np.array([[True, True, True, False]])
    sure, unsure = told(places, level, SPEC), lasts(places, level, known, at_night(places), 0, SPEC)
    assert unsure.all.low[0] < sure.all.low[0] - 1
    assert unsure.all.high[0] > sure.all.high[0] + 1
    assert unsure.all.middle[0] == pytest.approx(sure.all.middle[0], abs=0.1)
    assert unsure.first.least[0] == 0


def test_a_street_lasts_the_same_beside_a_longer_one() -> None:
    one = homes(3)
    (both,) = streets_of([street("r1", 3), street("r2", 5)], 3600)
    assert both.shape == (2, 5)
    alone = told(one, one.capacity // 2)
    beside = told(both, both.capacity // 2)
    assert beside.first.middle[0] == pytest.approx(alone.first.middle[0], rel=0.1)
    assert beside.all.middle[0] == pytest.approx(alone.all.middle[0], rel=0.1)


def test_the_usual_day_is_expected_by_weekday_and_hour_as_the_last_day_was() -> None:
    use, sun = np.zeros((48, 1, 1)), np.zeros((24, 1, 1))
    use[17], use[24 + 17], sun[12] = 500, 900, 300
    friday_noon = 1_782_475_200  # 2026-06-26 12:00 UTC
    usual = UsualPower(use=use, sun=sun)
    found = usual.ahead(friday_noon, ZoneInfo("UTC"), np.array([1.2]), np.array([0.5]))
    assert found.load[:, 0, 0][[5, 29, 53]].tolist() == [600_000, 1_080_000, 1_080_000]
    assert found.generation[:, 0, 0][[0, 24, 48]].tolist() == [150_000, 300_000, 300_000]
    assert found.load.sum() == 2_760_000


def test_a_home_is_dark_from_when_its_energy_ended() -> None:
    dark = Dark(np.ones((1, 2), np.bool_))
    use = np.array([[100, 100]])
    for hour, served in enumerate(([100, 100], [30, 100], [0, 80], [0, 0])):
        dark.add(hour, 1, np.array([served]), use)
    assert dark.found["first"].tolist() == [pytest.approx(1.3)]
    assert dark.found["half"].tolist() == [pytest.approx(1.3)]
    assert dark.found["all"].tolist() == [pytest.approx(2.8)]


def test_hours_are_told_with_their_band() -> None:
    band = Band(low=9.12, middle=15.84, high=None, alone=4.0, least=2.0)
    assert band.words == "15.8 h (9.1 to more than 72 h)"
    assert Band(low=0.0, middle=0.0, high=0.01, alone=0.0, least=0.0).words == "at once"


def test_apartments_have_the_battery_of_their_building() -> None:
    town = town_of(
        TownFile.model_validate({"microgrid": [{"id": "a", "kind": "apartment", "buildings": 1, "apartments": 3}]}),
        Path("town.toml"),
    )
    (places,) = streets_of(town.microgrids.values(), 3600)
    load = np.zeros((HORIZON_H, *places.shape), np.int64)
    load[:] = places.users * KWH
    found = told(places, places.capacity, ControllerRules(), Inputs(load=load, generation=np.zeros_like(load)))
    turns = 5 / 24  # of the capacity, above the floor: from there on apartments are off in turn
    above = (places.capacity - places.minimum).sum() - places.capacity.sum() * turns
    assert found.first.least[0] == pytest.approx(above / (3 * KWH * WORST_USE), abs=0.01)
    assert found.first.low[0] > found.first.least[0]


def test_the_range_holds_what_is_expected_also_where_turns_end_a_home_earlier_with_more_energy() -> None:
    places, rng = homes(2), np.random.default_rng(31)
    some = replace(places, capacity=places.capacity * rng.integers(0, 2, places.shape), minimum=places.capacity)
    level = (some.capacity * rng.random(places.shape)).astype(np.int64)
    load = np.broadcast_to(rng.integers(0, 3 * KWH, places.shape), (HORIZON_H, *places.shape))
    sun = np.zeros_like(load)
    sun[::24] = 10 * KWH * (some.capacity > 0)
    first = told(some, level, SPEC, Inputs(load=load, generation=sun)).first
    assert first.low[0] <= first.middle[0] <= first.high[0]


def test_the_least_knows_that_an_apartment_is_off_in_turn_while_its_building_has_energy() -> None:
    building, apartment = (replace(one, location="B") for one in street("r1", 1).meters)
    building = replace(building, function=Function.BUILDING, battery=Battery(capacity=200 * KWH, minimum_percent=90))
    apartment = replace(apartment, function=Function.APARTMENT, location="B 1")
    (places,) = streets_of([replace(street("r1", 1), meters=(building, apartment))], 3600)
    load = np.broadcast_to(places.users * KWH, (HORIZON_H, 1, 2)).copy()
    found = told(places, np.array([[100 * KWH, 0]]), SPEC, Inputs(load=load, generation=np.zeros_like(load))).all
    assert found.least[0] <= found.low[0] < 3


HOURS = np.arange(28 * 24)


def test_a_past_as_expected_leaves_the_range_as_it_is_and_guests_make_it_wider() -> None:
    steady = use_ends(np.full(HOURS.size, 1000.0), HOURS % 24)
    assert steady is not None
    assert steady == pytest.approx(np.tile([1 - USE_BAND, 1 + USE_BAND], (HORIZON_H, 1)))
    assert use_error(steady) == pytest.approx(USE_BAND)
    used, rng = np.full(HOURS.size, 1000.0), np.random.default_rng(1)
    for _ in range(56):
        used[rng.integers(HOURS.size) :][:3] = 3000
    guests = use_ends(used, HOURS % 24)
    assert guests is not None
    soon, day = guests[0], guests[:24].mean(axis=0)
    assert soon[1] > day[1] > 1 + USE_BAND, "of a whole day more is known than of the next hour"
    assert use_error(guests) > MOST_USE_ERROR
    places = homes(4)
    level = places.capacity // 2
    usual = told(places, level)
    wide = lasts(places, level, level >= 0, at_night(places), 0, ControllerRules(), [guests])
    assert wide.first.low[0] < usual.first.low[0]
    assert wide.first.high[0] > usual.first.high[0]
    assert wide.first.middle[0] == usual.first.middle[0]


def test_hours_that_are_not_known_are_as_usual_and_a_short_past_says_nothing() -> None:
    used = np.full(HOURS.size, 1000.0)
    used[:-LEAST_PAST_H] = np.nan
    assert use_ends(used, HOURS % 24) is not None
    used[-1] = np.nan
    assert use_ends(used, HOURS % 24) is None
    used[:], used[::3] = 1000, np.nan
    found = use_ends(used, HOURS % 24)
    assert found is not None
    assert use_error(found) == pytest.approx(USE_BAND)


def test_the_test_cuts_speak_for_towns_whose_errors_are_like_theirs_alone() -> None:
    assert "In 200 test cuts" in words(USE_BAND)
    assert words(0.3).startswith("Use here was up to 30 % more or less in a day than expected")
    assert "In 100 test cuts with guests at random the range held 87 %" in words(0.3)
    assert "not known yet" in words(None)
    assert all("200 test cuts" not in words(each) for each in (0.3, None))


def test_each_home_has_its_own_hours() -> None:
    places = homes(4)
    level = np.array([[2, 4, 8, 16]]) * KWH
    alone = told(places, level)
    assert alone.homes.middle[0] == pytest.approx([2, 4, 8, 16], rel=0.15)
    assert alone.homes.middle[0].min() == alone.first.middle[0]
    left = hours_left(told(places, level, SPEC), 0, 0)
    assert left.homes is not None
    shared = [band(left.homes, home) for home in range(4)]
    assert shared[0].alone is not None
    assert (shared[0].middle or 72) > shared[0].alone, "its neighbours help it"


_LONGER = "Without sharing more than 72 h: homes that have more keep others lit, and end sooner themselves."


@pytest.mark.parametrize(
    ("middle", "alone", "sentence"),
    [
        (20.0, 15.8, "Sharing gives 4.2 h more: 20.0 h in place of 15.8 h."),
        (None, 20.0, "Sharing makes it more than 72 h in place of 20.0 h."),
        (10.0, 10.0, "Sharing changes nothing."),
        (10.0, 12.0, "Without sharing 12.0 h: homes that have more keep others lit, and end sooner themselves."),
        (10.0, None, _LONGER),
    ],
)
def test_what_sharing_gives_is_a_sentence(middle: float | None, alone: float | None, sentence: str) -> None:
    assert Band(low=5, middle=middle, high=None, alone=alone, least=2).sharing() == sentence
