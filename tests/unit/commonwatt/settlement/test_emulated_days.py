"""Checks and estimates on the emulator's days: no false alarm in heat and storm, and estimates as near as stated."""

from dataclasses import replace

import numpy as np
import pytest

from commonwatt.settlement.estimates.methods import Method
from commonwatt.settlement.validation.day import Limits
from harness.validation.accuracy import Case, error_of
from harness.validation.false_alarms import days, found_in, planted
from harness.validation.readings import Grid, later, measured, small_town

BEFORE = 9


@pytest.fixture(scope="module")
def grids() -> list[Grid]:
    """A heat wave, in which half the feeders fail as in the storm: on its second day and the night after it."""
    outages = later("storm", BEFORE).outage
    scenario = later("heatwave", BEFORE).model_copy(update={"days": BEFORE + 3, "outage": outages})
    return measured(small_town(), scenario)


def test_heat_wave_and_storm_raise_no_alarm(grids: list[Grid]) -> None:
    found, judged = found_in(grids, Limits(), 3)
    assert not found
    assert judged > 300
    assert any(grid.island.any() for grid in grids)
    strict, _ = found_in(grids, replace(Limits(), high_percent=110, spike_percent=200), 3)
    assert strict, "the thresholds decide"


def test_planted_faults_are_found(grids: list[Grid]) -> None:
    ordinary = [day for day in days(grids[8], Limits()) if day.ordinary.all()][-1]
    for row in range(len(ordinary.meter)):
        for name, change in (
            ("high", lambda e: e * 9),
            ("low", lambda e: e // 9),
            ("zero", lambda e: e * 0),
            ("spike", lambda e: np.where(np.arange(96) == 70, int(e.mean()) * 30, e)),
        ):
            assert name in {str(one.check) for one in planted(ordinary, row, change, Limits())}


def test_estimates_are_as_near_to_the_truth_as_the_page_says(grids: list[Grid]) -> None:
    last = grids[0].incoming.shape[1] - 98
    for grid in (grids[0], grids[8]):
        [place] = np.flatnonzero(grid.uses)[:1].tolist()
        alone = error_of(Case(grid=grid, places=[place], start=last, quarters=96, has_boundary=True))
        assert (alone.of_quarters, alone.closes, alone.methods) == (0, True, frozenset({Method.BALANCE}))
    users = np.flatnonzero(grids[8].uses)[:3].tolist()
    some = error_of(Case(grid=grids[8], places=users, start=last, quarters=96, has_boundary=True))
    assert some.closes
    assert some.of_sum < 0.2 * some.total
