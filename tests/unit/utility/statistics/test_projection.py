"""Projections: what they are made of, and that their bands hold what comes."""

import numpy as np
import pytest

from utility.statistics.projection import NEXT_MONTH, Panel, coverage, project

SEASON = 100 + 40 * np.cos(np.arange(12) * 2 * np.pi / 12)


def test_months_that_repeat_are_projected_as_they_were() -> None:
    values = np.tile(SEASON, 5)[None, :] * np.array([[1.0], [3.0]])
    (one,) = project(Panel(values=values[:, :-2], groups=np.zeros(2, np.int64)))
    assert one.quantiles[:, 1] == pytest.approx(values[:, -1])
    assert one.quantiles[:, 2] - one.quantiles[:, 0] == pytest.approx(0, abs=1e-9)


def test_a_projection_does_not_depend_on_what_comes_after_it() -> None:
    random = np.random.default_rng(1)
    values = np.tile(SEASON, 6)[None, :] * random.lognormal(0, 0.1, (5, 72))
    whole = project(Panel(values=values, groups=np.zeros(5, np.int64)), first=40)
    for month in (40, 55, 71):
        known = Panel(values=values[:, : month - NEXT_MONTH + 1], groups=np.zeros(5, np.int64))
        assert np.array_equal(project(known)[0].quantiles, whole[month - 40].quantiles)


def test_growth_is_followed() -> None:
    months = np.arange(60)
    values = (np.tile(SEASON, 5) * 1.02**months)[None, :]
    (one,) = project(Panel(values=values[:, :-2], groups=np.zeros(1, np.int64)))
    assert one.quantiles[0, 1] == pytest.approx(values[0, -1], rel=0.05)


def test_too_few_months_have_no_band_and_unknown_months_no_projection() -> None:
    values = np.tile(SEASON, 3)[None, :].repeat(2, axis=0)
    assert np.isnan(project(Panel(values=values[:, :20], groups=np.zeros(2, np.int64)))[0].quantiles).all()
    values[1, 30] = np.nan
    (one,) = project(Panel(values=values, groups=np.zeros(2, np.int64)))
    assert np.isfinite(one.quantiles[0]).all()
    assert np.isnan(one.quantiles[1]).all()


def test_the_band_of_80_percent_holds_80_percent() -> None:
    random = np.random.default_rng(2)
    values = np.tile(SEASON, 8)[None, :] * random.lognormal(0, 0.2, (200, 96))
    found = project(Panel(values=values, groups=np.zeros(200, np.int64)), first=60)
    count, held = coverage(found)
    assert count > 5000
    assert held == pytest.approx(0.8, abs=0.02)
