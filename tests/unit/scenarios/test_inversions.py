"""No lower class is served from where a higher one goes short; a planted inversion is counted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from commonwatt.energy.physics.boundary import Cause
from commonwatt.energy.physics.town import MicrogridsStep
from commonwatt.energy.simulation.figures import KINDS
from commonwatt.energy.simulation.inversions import inversions
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import MicrogridId
from commonwatt.town.scenario import Outage, Shortage
from scenarios.simulation import emulated
from tests.unit.scenarios.test_simulation import RESIDENTIAL, conditions, figures, town
from utility.supply.plant import Plant
from utility.supply.rationing import Member, Ration, Rationing, ration_rangers
from utility.supply.simulated.policies import POLICIES


def stepped() -> tuple[Simulation, list[MicrogridsStep]]:
    """Return a town after its first step in a winter's night, when all microgrids import or use their batteries."""
    it = conditions("winter")
    simulation = emulated(town(), it, POLICIES["none"], 900)
    for grids in simulation.grids:
        grids.level[:] = 0
    return simulation, simulation.step(it.begin)


@pytest.mark.parametrize(
    ("cause", "kind", "expected"),
    [
        (Cause.TOWN, "public", RESIDENTIAL + 1),
        (Cause.LIMIT, "apartment", RESIDENTIAL),
        (Cause.TOWN, "residential", 0),
        (Cause.FEEDER, "public", 0),
    ],
)
def test_a_planted_inversion_is_counted(cause: Cause, kind: str, expected: int) -> None:
    simulation, steps = stepped()
    blocks = [grids.places for grids in simulation.grids]
    assert inversions(blocks, steps) == 0
    for places, step in zip(blocks, steps, strict=True):
        if places.kind == kind:
            step.exchange.short[cause, 0] += 1
    assert inversions(blocks, steps) == expected


@pytest.mark.parametrize("policy", ["spec", "aces"])
def test_a_storm_and_a_short_supply_invert_no_priority_where_the_rule_limits(
    policy: str,
) -> None:  # req: U5, P5
    assert figures("storm", policy).inversions == 0
    it = conditions("storm")
    short = (
        Shortage(state="CRITICAL", from_hour=0, for_hours=12),
        Shortage(state="EMPTY", from_hour=12, for_hours=24),
    )
    dead = Outage(what="town_line", from_hour=30, for_hours=42)
    # While the utility does not reach the controllers, nobody is rationed.
    outages = [one for one in it.scenario.outage if one.what != "broadband"]
    scenario = it.scenario.model_copy(
        update={"supply": short, "outage": (*outages, dead), "start_hour": 12, "level_percent": 20}
    )
    found = emulated(town(), replace(it, scenario=scenario), POLICIES[policy]).run(3)
    # The rule of ACES asks for the supply's state alone: while the line is dead and the state NORMAL, it limits nobody.
    assert (found.inversions > 0) == (policy == "aces")
    for kind in KINDS:
        assert found.kinds[kind].unserved.total() > 0, "every class went short"


def without_energy(state: SupplyState, members: Sequence[Member], plant: Plant) -> dict[MicrogridId, Ration]:
    """Ration by power alone, as if a battery a little above its reserve were a full one."""
    return ration_rangers(SupplyState.NORMAL, members, replace(plant, line_w=max(1, plant.line_w)))


@pytest.mark.parametrize(("rule", "inverts"), [(ration_rangers, False), (without_energy, True)])
def test_a_lower_class_that_used_up_what_a_higher_one_lacks_later_is_an_inversion(
    rule: Rationing, inverts: bool
) -> None:
    """# req: U5, P5"""
    it = conditions("winter")
    empty = Shortage(state="EMPTY", from_hour=0, for_hours=48)
    scenario = it.scenario.model_copy(update={"supply": (empty,), "start_hour": 18, "level_percent": 60})
    found = emulated(town(), replace(it, scenario=scenario), replace(POLICIES["spec"], rationing=rule)).run(2)
    assert (found.inversions > 0) == inverts
    assert found.kinds["apartment"].unserved.total() > 0


def test_the_last_of_the_plant_goes_to_the_public_microgrid() -> None:
    it = conditions("winter")
    dead = it.scenario.model_copy(update={"outage": (Outage(what="town_line", from_hour=0, for_hours=24),)})
    simulation = emulated(town(), replace(it, scenario=dead), POLICIES["none"], 900)
    for grids in simulation.grids:
        grids.level[:] = 0
    simulation.plant_level = 1000
    steps = simulation.step(it.begin)
    taken = {
        grids.places.kind: int(np.sum(step.exchange.imported))
        for grids, step in zip(simulation.grids, steps, strict=True)
    }
    assert taken == {"public": 1000, "apartment": 0, "residential": 0}
    assert simulation.figures.inversions == 0
