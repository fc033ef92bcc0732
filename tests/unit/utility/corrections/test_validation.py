"""Checks of readings: planted faults are found with figure and threshold, ordinary days, heat and storm are not."""

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from utility.corrections.validation import (
    CheckLimits,
    DaySlots,
    ReadingCheck,
    SeriesDay,
    SuspectReadings,
    checked,
    ordinary_day,
)

LIMITS = CheckLimits()
QUARTERS = 96
_Array = NDArray[np.int64]


def a_day(energy: _Array | None = None, **changed: object) -> SeriesDay:
    """Return a day of meter 7, whose 14 days before had 9,600,000 mWh each, 100,000 a quarter-hour."""
    shape = (1, QUARTERS)
    usual = np.full(shape, 100_000, np.int64)
    day = SeriesDay(
        meter=np.array([7], np.uint64),
        record_type=np.array([RecordType.THROUGH], np.uint8),
        first=9_600,
        energy=usual if energy is None else energy.reshape(shape),
        known=np.ones(shape, np.bool_),
        outage=np.zeros(shape, np.bool_),
        before=np.full((1, 14), 9_600_000, np.int64),
        usable=np.ones((1, 14), np.bool_),
    )
    return replace(day, **changed)  # type: ignore[arg-type]


def slots_of(day: SeriesDay, **changed: object) -> DaySlots:
    slots = DaySlots(
        day=day,
        least=day.energy // 100,
        most=day.energy // 40,
        missing=np.where(day.known, 0, 60),
        register=np.zeros(1, np.int64),
        has_register=np.zeros(1, np.bool_),
    )
    return replace(slots, **changed)  # type: ignore[arg-type]


def found(day: SeriesDay, **changed: object) -> list[tuple[ReadingCheck, int, int]]:
    return [(one.check, one.figure, one.threshold) for one in checked(day, slots_of(day, **changed), LIMITS)]


def flat(energy: int) -> _Array:
    return np.full(QUARTERS, energy, np.int64)


def one_quarter(energy: int) -> _Array:
    values = flat(100_000)
    values[40] = energy
    return values


@pytest.mark.parametrize(
    ("energy", "expected"),
    [
        (flat(100_000), []),
        (flat(400_000), []),
        (flat(410_000), [(ReadingCheck.HIGH, 410, 400)]),
        (flat(25_000), []),
        (flat(20_000), [(ReadingCheck.LOW, 20, 25)]),
        (flat(0), [(ReadingCheck.ZERO, 1, 1)]),
        (one_quarter(500_000), []),
        (one_quarter(900_000), [(ReadingCheck.SPIKE, 900, 500)]),
    ],
)
def test_day_beside_the_days_before(energy: _Array, expected: list[tuple[ReadingCheck, int, int]]) -> None:
    assert found(a_day(energy)) == expected


@pytest.mark.parametrize("energy", [flat(900_000), flat(0), flat(1_000), one_quarter(5_000_000)])
def test_day_with_an_outage_is_not_judged(energy: _Array) -> None:
    outage = np.zeros((1, QUARTERS), np.bool_)
    outage[0, 3] = True
    assert found(a_day(energy, outage=outage)) == []


def test_meter_with_too_short_a_past_is_not_judged() -> None:
    few = np.zeros((1, 14), np.bool_)
    few[0, -6:] = True
    assert found(a_day(flat(900_000), usable=few)) == []
    assert found(a_day(flat(0), usable=few)) == []


def test_meter_that_often_has_days_without_energy_has_no_zero() -> None:
    before = np.full((1, 14), 9_600_000, np.int64)
    before[0, 5] = 0
    assert found(a_day(flat(0), before=before)) == []
    before[0, 5], before[0, 12:] = 9_600_000, 0
    assert found(a_day(flat(0), before=before)) == [(ReadingCheck.ZERO, 3, 1)]


def test_stuck_meter_has_one_reading_that_is_not_zero_in_every_slot() -> None:
    day = a_day()
    most = np.full((1, QUARTERS), 2_000, np.int64)
    least = np.zeros((1, QUARTERS), np.int64)
    least[0, 10:14] = 2_000
    [one] = checked(day, slots_of(day, least=least, most=most), LIMITS)
    assert (one.check, one.first, one.until, one.figure) == (ReadingCheck.STUCK, day.first + 10, day.first + 14, 4)
    least[0, 12], most[0, 12] = 1_999, 1_999
    assert found(day, least=least, most=most) == [], "two runs, each too short"
    assert found(day, least=least * 0, most=most * 0) == [], "nothing passes at night"


def test_sum_of_readings_is_compared_with_the_register() -> None:
    day = a_day()
    has = np.ones(1, np.bool_)
    for register, expected in (
        (9_600_000, []),
        (9_700_000, []),
        (9_400_000, [(ReadingCheck.REGISTER, 200_000, 100_000)]),
        (0, [(ReadingCheck.REGISTER, 9_600_000, 100_000)]),
    ):
        assert found(day, register=np.array([register]), has_register=has) == expected


def test_gap_is_named_with_its_quarters_and_slots() -> None:
    known = np.ones((1, QUARTERS), np.bool_)
    known[0, 5:8] = False
    missing = np.zeros((1, QUARTERS), np.int64)
    missing[0, 5:8] = 20, 60, 1
    day = a_day(known=known)
    [one] = checked(day, slots_of(day, missing=missing), LIMITS)
    expected = SuspectReadings(
        meter=7, record_type=3, first=9_605, until=9_608, check=ReadingCheck.GAP, figure=81, threshold=1
    )
    assert one == expected


def test_a_finding_about_a_day_names_its_quarters() -> None:
    (one,) = checked(a_day(flat(410_000)), slots_of(a_day(flat(410_000))), LIMITS)
    assert (one.first, one.until) == (9_600, 9_600 + QUARTERS)


def test_days_that_do_not_count_are_not_in_the_mean() -> None:
    usable = np.arange(14)[None] < 10
    mean, enough = ordinary_day(a_day(before=np.array([[1_009] + [1_000] * 13]), usable=usable), LIMITS)
    assert (mean.tolist(), enough.tolist()) == ([10_009 // 10], [True])


def test_no_meters_have_no_findings() -> None:
    one = a_day()
    day = replace(one, **{each.name: getattr(one, each.name)[:0] for each in fields(one) if each.name != "first"})
    nothing = np.zeros((0, QUARTERS), np.int64)
    slots = replace(slots_of(a_day()), day=day, least=nothing, most=nothing, missing=nothing)
    assert checked(day, slots, LIMITS) == []
