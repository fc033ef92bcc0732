"""What was given and received, from readings: exact, balanced, and compared with what the physics moved."""

from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.energy.places import Places, blocks_of
from commonwatt.energy.splits import Array, in_proportion, row_sums
from commonwatt.energy.step import Boundary, StepFlows, step_alone
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town, TownFile
from meter_sim.load import Surroundings
from utility.energy.sharing import CONVENTIONS, BatteryReadings, Members, pro_rata, shared, sharing_first

NIGHT = 1_781_928_000  # 2026-06-20 00:00 in Boston
AFTERNOON, EVENING = NIGHT + 14 * 3600, NIGHT + 20 * 3600


@cache
def town(loss_permille: int) -> Town:
    file = {
        "town": {"charging_loss_permille": loss_permille},
        "microgrid": [
            {"id": "r", "kind": "residential", "count": 5},
            {"id": "apt", "kind": "apartment", "apartments": 20},
        ],
    }
    return town_of(TownFile.model_validate(file), Path("town.toml"))


def readings_of(places: Places, level: Array, flows: StepFlows, weights: Array) -> BatteryReadings:
    """Return what the meters of each microgrid's batteries read; a row is a microgrid instead of a slot."""
    battery = places.capacity[0] > 0
    behind = np.zeros_like(level)
    for source in places.sources:
        behind[:, source.column] = flows.demand[:, source.behind].sum(axis=1)
    return BatteryReadings(
        sharing=weights[:, battery] > 0,
        metered_in=places.users[battery],
        outgoing=(flows.surplus + flows.pushed + flows.given)[:, battery],
        incoming=((flows.demand + flows.received) * places.users)[:, battery],
        generation=flows.generation[:, battery],
        capacity=places.capacity[0, battery],
        before=level[:, battery],
        after=flows.level[:, battery],
        behind=behind[:, battery],
        loss_permille=places.loss_permille,
    )


@pytest.mark.parametrize("start", [NIGHT, AFTERNOON, EVENING])
@pytest.mark.parametrize(("loss_permille", "distance"), [(0, 0.0), (100, 1e-6)])
@pytest.mark.parametrize("is_island", [False, True])
def test_sharing_from_readings_is_what_flowed(  # req: C2 C4
    start: int, loss_permille: int, distance: float, is_island: bool
) -> None:
    blocks = blocks_of(town(loss_permille), town(loss_permille).microgrids.values())
    surroundings = Surroundings(town(loss_permille), blocks)
    rng = np.random.default_rng(3)
    levels = [(places.capacity * rng.uniform(0.1, 1.0, places.shape)).astype(np.int64) for places in blocks]
    moved, wrong, absorbed = 0, 0, 0
    for slot in range(240):
        for block, (places, asked) in enumerate(zip(blocks, surroundings.at(start + 15 * slot), strict=True)):
            level = levels[block]
            weights = (level > places.minimum).astype(np.int64)
            boundary = Boundary.open_to_town(places.shape[0])
            boundary = replace(boundary, closed=boundary.closed & (not is_island))
            flows = step_alone(places, level, replace(asked, weights=weights), boundary).flows
            found = shared(readings_of(places, level, flows, weights))
            battery = places.capacity[0] > 0
            assert (found.given.sum(axis=1) == found.received.sum(axis=1)).all()
            moved += int(flows.given.sum())
            wrong += int(np.abs(found.given - flows.given[:, battery]).sum())
            # What an island's batteries take in of neighbours' sun is not sharing.
            wrong += int(np.abs(found.received - (flows.received - flows.absorbed)[:, battery]).sum())
            absorbed += int(flows.absorbed.sum())
            levels[block] = flows.level

    assert moved > 10**8
    assert (absorbed > 0) is (is_island and start == AFTERNOON)
    assert wrong <= distance * 2 * moved


def one(**changes: object) -> BatteryReadings:
    """Return one slot of a donor and a house in need: 100 mWh sent, 100 mWh taken in."""
    facts: dict[str, Any] = {
        "sharing": [[True, False]],
        "metered_in": [True, True],
        "outgoing": [[100, 0]],
        "incoming": [[0, 100]],
        "generation": [[0, 0]],
        "capacity": [1000, 1000],
        "before": [[900, 50]],
        "after": [[800, 150]],
        "behind": [[0, 0]],
    }
    arrays: dict[str, Any] = {name: np.array(value) for name, value in (facts | changes).items()}
    return BatteryReadings(**arrays)


def test_donor_and_receiver_are_named() -> None:
    found = shared(one())
    assert found.given.tolist() == [[100, 0]]
    assert found.received.tolist() == [[0, 100]]


def test_nothing_is_shared_without_the_command() -> None:
    assert not shared(one(sharing=[[False, False]])).given.any()


def test_surplus_of_a_full_battery_is_not_sharing() -> None:
    assert shared(one(outgoing=[[500, 0]], generation=[[500, 0]], after=[[970, 150]])).given.tolist() == [[30, 0]]
    assert not shared(one(outgoing=[[500, 0]], generation=[[500, 0]], after=[[1000, 150]])).given.any()


def test_load_of_an_empty_battery_is_not_sharing() -> None:
    found = shared(one(incoming=[[0, 400]], before=[[900, 0]], after=[[800, 60]]))
    assert found.received.tolist() == [[0, 60]]
    assert found.given.tolist() == [[60, 0]]


energies = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


def members(sent: list[int], taken: list[int], **more: list[int]) -> Members:
    arrays = {name: np.array([values], np.int64) for name, values in more.items()}
    return Members(sent=np.array([sent], np.int64), taken=np.array([taken], np.int64), **arrays)


@given(sent=energies, taken=energies)
@settings(max_examples=100, deadline=None)
def test_what_is_shared_out_is_shared_in_to_the_milliwatt_hour(sent: list[int], taken: list[int]) -> None:  # req: C4
    one = members(sent, taken)
    for convention in CONVENTIONS.values():
        split = convention(one)
        assert row_sums(split.shared_in) == row_sums(split.shared_out) == min(sum(sent), sum(taken))
        assert (split.shared_in >= 0).all()
        assert (split.shared_in <= one.taken).all()
        assert (split.shared_out >= 0).all()
        assert (split.shared_out <= one.sent).all()


def test_pro_rata_gives_odd_milliwatt_hours_to_the_largest_remainders() -> None:
    split = pro_rata(members([10], [4, 4, 4]))
    assert split.shared_in.tolist() == [[4, 3, 3]], "of equal remainders, the first"
    split = pro_rata(members([100, 1], [7, 2, 5]))
    assert split.shared_out.tolist() == [[14, 0]]
    assert split.shared_in.tolist() == [[7, 2, 5]], "the town took the rest"


def test_sharing_first_gives_a_battery_what_was_given_to_it() -> None:
    # 60 of 100 were given to the first by sharing; the second takes 300 for its loads.
    split = sharing_first(members([100], [60, 300], given=[60], received=[60, 0]))
    assert split.shared_in.tolist() == [[60, 40]]
    # Pro rata the giver's energy goes mostly to the loads, and the battery pays for what it was given.
    assert pro_rata(members([100], [60, 300])).shared_in.tolist() == [[17, 83]]


def test_energies_of_any_size_are_divided_exactly() -> None:
    total, weights = 2**52 + 1, [2**53, 2**53 - 1, 1]
    parts = in_proportion(np.array([total]), np.array([weights]))[0].tolist()
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
