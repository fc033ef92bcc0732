"""Estimates: exact sums, microgrids that close, lines below 2 h only, like hours over changes of the clock."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, SLOTS
from utility.corrections.estimates import (
    FARTHEST_DAYS,
    Method,
    ReadingWindow,
    RegisterDifference,
    SeriesRole,
    bent,
    closing,
    estimated,
    interpolated,
    like_quarters,
    spread,
    summing_to,
    typical,
)

NEW_YORK = ZoneInfo("America/New_York")
_Array = NDArray[np.int64]

energies = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).map(lambda v: np.array(v, np.int64))


@given(st.integers(0, 10**13), energies)
def test_scaled_estimates_sum_exactly_and_keep_their_proportions(total: int, shape: _Array) -> None:
    made = summing_to(total, shape)
    assert int(made.sum()) == total
    assert (made >= 0).all()
    if whole := int(shape.sum()):
        assert (np.abs(made - shape * (total / whole)) <= 1 + total * 1e-8).all()


@given(st.integers(0, 10**10))
def test_quarter_is_spread_over_its_slots_without_a_rest(energy: int) -> None:
    slots = spread(np.array([energy], np.int64))
    assert int(slots.sum()) == energy
    assert slots.max() - slots.min() <= 1


@settings(deadline=None)
@given(st.integers(-(10**8), 10**8), energies, energies)
def test_closed_estimates_balance_in_each_slot(target: int, incoming: _Array, outgoing: _Array) -> None:
    into, out = closing(np.array([target]), incoming[None], outgoing[None])
    assert int(into.sum() - out.sum()) == target
    assert (into >= 0).all()
    assert (out >= 0).all()


def test_closed_estimates_have_no_energy_that_passes_in_both_directions_at_once() -> None:
    into, out = closing(np.array([-5]), np.array([[0]]), np.array([[3]]))
    assert (into.tolist(), out.tolist()) == ([[0]], [[5]])


def test_direction_without_a_meter_is_left_as_it_is() -> None:
    into, out = closing(np.array([-5]), np.array([[3]]), np.zeros((1, 0), np.int64))
    assert into.tolist() == [[3]]
    assert out.shape == (1, 0)


@pytest.mark.parametrize(("length", "is_there"), [(1, True), (479, True), (480, False), (481, False)])
def test_only_gaps_below_two_hours_are_interpolated(length: int, is_there: bool) -> None:
    values = np.full(1_000, 600, np.int64)
    known = np.ones(1_000, np.bool_)
    known[100 : 100 + length] = False
    line = interpolated(values, known, ~known & False, 100, 100 + length, is_level=False)
    assert (line is not None) == is_there
    assert line is None or (line == 600).all()


@pytest.mark.parametrize("place", [99, 120])
def test_outage_ends_no_line(place: int) -> None:
    values, known, outage = np.full(300, 5), np.ones(300, np.bool_), np.zeros(300, np.bool_)
    known[100:120] = False
    outage[place] = True
    assert interpolated(values, known, outage, 100, 120, is_level=False) is None


def test_level_runs_from_slot_to_slot() -> None:
    values, known = np.array([10, 0, 0, 0, 50]), np.array([True, False, False, False, True])
    line = interpolated(values, known, ~known & False, 1, 4, is_level=True)
    assert line is not None
    assert line.tolist() == [20, 30, 40]


def quarter(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // QUARTER_S


def local(quarters: Iterable[int]) -> list[str]:
    return [datetime.fromtimestamp(q * QUARTER_S, NEW_YORK).strftime("%m-%d %H:%M") for q in quarters]


def test_like_hours_keep_the_local_time_over_a_change_of_the_clock() -> None:
    found = local(like_quarters(quarter("2026-11-03T18:00-05:00"), NEW_YORK))
    assert found[:5] == ["11-02 18:00", "11-04 18:00", "11-05 18:00", "11-06 18:00", "10-30 18:00"]
    assert {text[6:] for text in found} == {"18:00"}
    weekend = local(like_quarters(quarter("2026-11-07T18:00-05:00"), NEW_YORK))
    assert weekend[:3] == ["11-08 18:00", "11-01 18:00", "10-31 18:00"]


def test_hour_that_a_change_of_the_clock_skips_is_not_like() -> None:
    found = local(like_quarters(quarter("2026-03-14T02:30-04:00"), NEW_YORK))
    assert "03-08 02:30" not in found
    assert "03-08 03:30" not in found
    assert "03-07 02:30" in found


def test_both_hours_of_a_repeated_hour_have_the_same_like_hours() -> None:
    first, second = quarter("2026-11-01T01:30-04:00"), quarter("2026-11-01T01:30-05:00")
    assert second - first == 4
    assert list(like_quarters(first, NEW_YORK)) == list(like_quarters(second, NEW_YORK))
    assert local(like_quarters(first, NEW_YORK))[:2] == ["10-31 01:30", "11-07 01:30"]


def test_mean_of_like_days_takes_the_nearest_that_are_usable() -> None:
    made = np.array([[100], [999], [200], [300]])
    usable = np.array([[True], [False], [True], [True]])
    mean, found = typical(made, usable, 2)
    assert (mean.tolist(), found.tolist()) == ([150], [True])
    assert typical(made, usable & False, 2)[1].tolist() == [False]
    mean, found = typical(made[:1], usable[:1], 2)
    assert (mean.tolist(), found.tolist()) == ([100], [True])


def test_curve_of_levels_is_bent_to_the_known_ends() -> None:
    assert bent(np.array([0, 10, 20, 30]), 100, 160).tolist() == [120, 140]
    assert bent(np.array([0, 10, 20, 30]), 100, None).tolist() == [110, 120]


QUARTERS = 10


def a_microgrid(
    true: dict[tuple[int, SeriesRole], _Array],
    gone: list[tuple[int, SeriesRole]],
    start: int,
    end: int,
    **changed: object,
) -> tuple[ReadingWindow, list[tuple[int, SeriesRole]]]:
    """Return a window of true slots, some series of which miss the slots from ``start`` to before ``end``."""
    keys = list(true)
    values = np.stack([true[key] for key in keys])
    wanted = np.zeros(values.shape, np.bool_)
    for key in gone:
        wanted[keys.index(key), start:end] = True
    passed = {key: series for key, series in true.items() if key[1] in (SeriesRole.INCOMING, SeriesRole.OUTGOING)}
    boundary = sum(
        (v if k[1] is SeriesRole.INCOMING else -v for k, v in passed.items()), np.zeros(values.shape[1], np.int64)
    )
    fields: dict[str, object] = {
        "first": 9_600,
        "role": [role for _, role in keys],
        "place": [place for place, _ in keys],
        "values": np.where(wanted, 0, values),
        "known": ~wanted,
        "outage": np.zeros(values.shape, np.bool_),
        "wanted": wanted,
        "boundary": boundary,
        "passes": np.ones(values.shape[1], np.bool_),
        "typical": np.full((len(keys), QUARTERS), 60_000, np.int64),
        "is_typical": np.ones((len(keys), QUARTERS), np.bool_),
    }
    return ReadingWindow(**(fields | changed)), keys  # type: ignore[arg-type]


def houses(seed: int, count: int = 3) -> dict[tuple[int, SeriesRole], _Array]:
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(count):
        net = rng.integers(-3_000, 3_000, QUARTERS * SLOTS)
        found[place, SeriesRole.INCOMING] = np.maximum(net, 0)
        found[place, SeriesRole.OUTGOING] = np.maximum(-net, 0)
    return found


def test_one_missing_place_is_found_exactly_by_balance() -> None:
    true = houses(1)
    window, keys = a_microgrid(true, [(1, SeriesRole.INCOMING), (1, SeriesRole.OUTGOING)], 60, 540)
    draft = estimated(window)
    for row, key in enumerate(keys):
        assert (draft.values[row] == true[key]).all()
    assert set(np.unique(draft.method[window.wanted])) == {Method.BALANCE}
    assert not draft.method[~window.wanted].any()


@pytest.mark.parametrize("role", [SeriesRole.OUTGOING, SeriesRole.INCOMING])
def test_one_missing_meter_of_a_place_is_found_beside_its_other_one(role: SeriesRole) -> None:
    true = houses(2)
    true[1, SeriesRole.OUTGOING] = true[1, SeriesRole.OUTGOING] + 500
    true[1, SeriesRole.INCOMING] = true[1, SeriesRole.INCOMING] + 300
    window, keys = a_microgrid(true, [(1, role)], 60, 540)
    assert (estimated(window).values[keys.index((1, role))] == true[1, role]).all()


def test_one_missing_meter_of_a_direction_is_found_beside_its_others() -> None:
    """At an exchange two meters of a direction stand at one place."""
    true = houses(2)
    true[1, SeriesRole.OUTGOING] = true[1, SeriesRole.OUTGOING] * 0
    true[3, SeriesRole.INCOMING] = true[1, SeriesRole.INCOMING] + 700
    window, keys = a_microgrid(true, [(1, SeriesRole.INCOMING)], 60, 540)
    window = replace(window, place=[place % 3 + place // 3 for place in window.place])
    assert (estimated(window).values[keys.index((1, SeriesRole.INCOMING))] == true[1, SeriesRole.INCOMING]).all()


def test_a_missing_level_is_a_line_between_the_levels_beside_it() -> None:
    level = np.arange(QUARTERS * SLOTS) * 30
    true = {(0, SeriesRole.OUTGOING): level * 0, (0, SeriesRole.GENERATION): level * 0, (0, SeriesRole.LEVEL): level}
    window, keys = a_microgrid(true, [(0, SeriesRole.LEVEL)], 60, 100, passes=level < 0)
    assert (estimated(window).values[keys.index((0, SeriesRole.LEVEL))] == level).all()


def test_a_battery_without_sun_that_has_no_incoming_meter_leaves_its_gap() -> None:
    true = {(0, SeriesRole.OUTGOING): np.arange(QUARTERS * SLOTS), (0, SeriesRole.LEVEL): np.arange(QUARTERS * SLOTS)}
    window, _ = a_microgrid(true, [(0, SeriesRole.LEVEL)], 60, 540, is_typical=np.zeros((2, QUARTERS), np.bool_))
    assert not estimated(window).there[1, 60:540].any()


def test_several_missing_places_are_scaled_until_the_microgrid_closes() -> None:
    gone = [(place, role) for place in (0, 2) for role in (SeriesRole.INCOMING, SeriesRole.OUTGOING)]
    window, _ = a_microgrid(houses(3), gone, 60, 540)
    draft = estimated(window)
    nets, known = draft.net()
    assert known.all()
    assert (nets.sum(axis=0) == window.boundary).all()
    assert set(np.unique(draft.method[window.wanted])) == {Method.LIKE_DAYS}


def test_gap_of_two_hours_is_no_line_even_when_a_part_of_it_was_found_otherwise() -> None:
    passes = np.zeros(QUARTERS * SLOTS, np.bool_)
    passes[100:500] = True
    window, _ = a_microgrid(houses(4), [(1, SeriesRole.INCOMING)], 60, 560, passes=passes)
    assert set(np.unique(estimated(window).method[window.wanted])) == {Method.BALANCE, Method.LIKE_DAYS}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**9), st.integers(1, 479))
def test_register_difference_over_a_gap_is_kept_to_the_milliwatt_hour(energy: int, length: int) -> None:
    true = houses(5, count=2)
    one = RegisterDifference(row=0, start=60, end=60 + length, energy=energy)
    gone = [(place, SeriesRole.INCOMING) for place in (0, 1)]
    window, _ = a_microgrid(true, gone, 60, 60 + length, registers=[one])
    assert int(estimated(window).values[0, 60 : 60 + length].sum()) == energy


@pytest.mark.parametrize("more", [0, 60])
def test_register_difference_is_kept_beside_readings_and_by_what_the_balance_gave(more: int) -> None:
    """The register was read ``more`` slots before and after the gap; the readings there are subtracted."""
    true = houses(5, count=2)
    span = slice(120 - more, 200 + more)
    energy = int(true[0, SeriesRole.INCOMING][span].sum()) + 12_345
    one = RegisterDifference(row=0, start=span.start, end=span.stop, energy=energy)
    window, _ = a_microgrid(true, [(0, SeriesRole.INCOMING)], 120, 200, registers=[one])
    draft = estimated(window)
    assert int(draft.values[0, span].sum()) == energy
    assert (draft.values[window.known] == window.values[window.known]).all()


def test_register_alone_is_spread_evenly() -> None:
    unknown = np.zeros((4, QUARTERS), np.bool_)
    passes = np.zeros(QUARTERS * SLOTS, np.bool_)
    one = RegisterDifference(row=0, start=60, end=560, energy=1_003)
    window, _ = a_microgrid(
        houses(5, count=2), [(0, SeriesRole.INCOMING)], 60, 560, is_typical=unknown, passes=passes, registers=[one]
    )
    draft = estimated(window)
    assert int(draft.values[0, 60:560].sum()) == 1_003
    assert set(draft.values[0, 60:560].tolist()) == {2, 3}
    assert set(draft.method[0, 60:560].tolist()) == {Method.REGISTER}


def test_readings_are_never_changed_and_slots_not_wanted_stay_missing() -> None:
    window, _ = a_microgrid(houses(6), [(0, SeriesRole.INCOMING), (1, SeriesRole.INCOMING)], 60, 120)
    known = window.known.copy()
    known[2, 300:360] = False
    window, _ = a_microgrid(houses(6), [(0, SeriesRole.INCOMING), (1, SeriesRole.INCOMING)], 60, 120, known=known)
    draft = estimated(window)
    assert (draft.values[window.known] == window.values[window.known]).all()
    assert not draft.there[2, 300:360].any()


def test_nothing_to_estimate_from_leaves_the_gap() -> None:
    unknown = np.zeros((6, QUARTERS), np.bool_)
    passes = np.zeros(QUARTERS * SLOTS, np.bool_)
    window, _ = a_microgrid(houses(7), [(0, SeriesRole.INCOMING)], 60, 560, is_typical=unknown, passes=passes)
    assert not estimated(window).there[0, 60:560].any()


def test_battery_without_an_incoming_meter_closes_with_its_level() -> None:
    """A building with sun: intake = outgoing + change of level - generation; all three series are missing."""
    slots = QUARTERS * SLOTS
    rng = np.random.default_rng(8)
    sun = rng.integers(0, 4_000, slots)
    net = np.where(np.arange(slots) % 7 < 4, -rng.integers(0, 3_000, slots), rng.integers(0, 500, slots))
    level = 5_000_000 + np.cumsum(net + sun)
    apartment = rng.integers(0, 2_000, slots)
    true = {
        (0, SeriesRole.OUTGOING): np.maximum(-net, 0),
        (0, SeriesRole.GENERATION): sun,
        (0, SeriesRole.LEVEL): level,
        (1, SeriesRole.INCOMING): apartment,
    }
    gone = [(0, role) for role in (SeriesRole.OUTGOING, SeriesRole.GENERATION, SeriesRole.LEVEL)]
    window, keys = a_microgrid(true, gone, 60, 540, boundary=net + apartment)
    draft = estimated(window)
    assert (draft.values[keys.index((0, SeriesRole.OUTGOING))] == np.maximum(-net, 0)).all()
    nets, known = draft.net()
    assert known[:, 1:].all()
    assert (nets.sum(axis=0)[1:] == window.boundary[1:]).all()
    assert (draft.method[window.wanted] == Method.BALANCE).all()


def test_an_empty_battery_is_estimated_as_empty() -> None:
    none = np.zeros(QUARTERS * SLOTS, np.int64)
    true = {(0, role): none for role in (SeriesRole.OUTGOING, SeriesRole.GENERATION, SeriesRole.LEVEL)}
    window, _ = a_microgrid(true, [(0, SeriesRole.GENERATION), (0, SeriesRole.LEVEL)], 60, 540)
    assert not estimated(window).values.any()


def test_like_quarters_are_of_quarter_hours_up_to_five_weeks_away() -> None:
    now = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) // QUARTER_S
    found = list(like_quarters(now, NEW_YORK))
    assert len(found) > 40
    assert {abs(one - now) for one in found[-2:]} == {FARTHEST_DAYS * 96}


def test_the_numbers_of_methods_are_stored_and_stay() -> None:
    names = {1: "balance", 2: "interpolation", 3: "like-days", 4: "edit", 5: "register"}
    assert {method.value: method.words for method in Method} == names
