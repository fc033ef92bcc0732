"""The measures of fairness, against values worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places, blocks_of
from commonwatt.energy.physics.step import Flows, Inputs, within
from commonwatt.energy.simulation.fairness import Tally, behind, fairness, jain
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of

NAN = float("nan")


def test_jains_index_by_hand() -> None:
    values = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 2, 3, NAN], [0, 0, 0, 0], [NAN, NAN, NAN, NAN]])
    assert jain(values) == pytest.approx([1, 1 / 4, 36 / (3 * 14), 1, NAN], nan_ok=True)


def test_the_worst_off_is_measured_against_the_mean() -> None:
    values = np.array([[0.1, 0.2, 0.6], [0.5, 0.5, NAN], [NAN, NAN, NAN]])
    assert behind(values) == pytest.approx([0.3, 0.0, NAN], nan_ok=True)


def two_microgrids() -> Places:
    file = TownFile.model_validate({"microgrid": [{"id": "r", "kind": "residential", "houses": 3, "count": 2}]})
    town = town_of(file, Path("town.toml"))
    (places,) = blocks_of(town, town.microgrids.values())
    return places


def still(places: Places, level: NDArray[np.int64]) -> Flows:
    nothing = np.zeros(places.shape, dtype=np.int64)
    return within(places, level, Inputs(load=nothing, generation=nothing))


def test_a_tally_counts_demand_and_what_batteries_gave_of_their_surplus() -> None:
    places = two_microgrids()
    tally = Tally(places)
    surplus = np.array([[4000, 2000, -500], [1000, 1000, 1000]])
    given = np.array([[1000, 1000, 0], [0, 0, 0]])
    before = places.minimum + surplus
    flows = replace(
        still(places, before),
        served=np.array([[100, 100, 40], [10, 10, 10]]),
        unserved=np.array([[0, 0, 60], [0, 0, 0]]),
        given=given,
        net=-given,
        level=before - given,
    )
    tally.add(flows, flows.served + flows.unserved)
    measures = tally.measures
    assert measures["served"] == pytest.approx([2.4**2 / (3 * 2.16), 1])
    assert measures["shortfall"] == pytest.approx([0.6 - 0.2, 0])
    assert measures["given"] == pytest.approx([0.75**2 / (2 * (0.25**2 + 0.5**2)), NAN], nan_ok=True)
    assert sum(wanted for wanted, _ in tally.by_minimum.values()) == 330
    percent = int(100 * places.minimum[0, 2] // places.capacity[0, 2])
    assert {each: short for each, (_, short) in tally.by_minimum.items() if short} == {percent: 60}
    assert (tally.members, tally.short_members) == (6, 1)
    found = fairness([tally])
    assert found["shortfall"].worst == pytest.approx(0.4)
    assert found["shortfall"].where == places.microgrids[0]
    assert found["given"].microgrids == 1
    assert found["served"].mean == pytest.approx((2.4**2 / (3 * 2.16) + 1) / 2)
