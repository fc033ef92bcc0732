"""What was given and received, from readings: compared with what the physics moved."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonwatt.energy.physics.boundary import Boundary
from commonwatt.energy.physics.places import Places, blocks_of
from commonwatt.energy.physics.step import Flows
from commonwatt.energy.physics.town import step_alone
from commonwatt.settlement.sharing import BatteryReadings, shared
from commonwatt.settlement.splits import Array
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town
from meter_sim.physics.surroundings import Surroundings

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


def readings_of(places: Places, level: Array, flows: Flows, weights: Array) -> BatteryReadings:
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
