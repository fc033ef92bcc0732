"""Quarter-hours of a small town's places from the emulator's physics: what the checks and estimates are measured on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.model.units import QUARTER_S, MicrogridId, Quarter
from commonwatt.town.conditions import Conditions
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import Scenario, load
from commonwatt.town.town import Town
from scenarios.simulation import emulated
from utility.supply.simulated.policies import POLICIES

_Energies = NDArray[np.int64]

TOWN = {
    "town": {"charging_loss_permille": 0},
    "microgrid": [
        {"id": "r", "kind": "residential", "count": 8},
        {"id": "apt", "kind": "apartment"},
        {"id": "pub", "kind": "public"},
    ],
}
"""80 houses, 30 apartments, the public services."""

BEFORE_DAYS = 28  # ordinary days before those of a scenario, so that meters have a past


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """One microgrid's quarter-hours, milliwatt-hours, (places, quarters)."""

    microgrid: MicrogridId  # its name
    first: Quarter  # the first quarter
    capacity: _Energies  # capacity of each place's battery; 0: none
    uses: NDArray[np.bool_]  # which places have an incoming meter
    generation: _Energies  # what its panels gave
    outgoing: _Energies  # through the outgoing meters
    incoming: _Energies  # through the incoming meters
    level: _Energies  # levels at the end of each quarter
    imported: _Energies  # through the boundary, into the microgrid, (quarters)
    exported: _Energies  # through the boundary, out of it, (quarters)
    island: NDArray[np.bool_]  # whether the boundary was open or dead, (quarters)


def small_town() -> Town:
    """Return the town that is measured."""
    return town_of(TownFile.model_validate(TOWN), Path("town.toml"))


def later(name: str, before: int = BEFORE_DAYS) -> Scenario:
    """Return a scenario of the program that begins after some ordinary days."""
    scenario = load(name)
    hours = 24 * before
    demand = tuple(d.model_copy(update={"from_day": d.from_day + before}) for d in scenario.demand)
    outages = tuple(o.model_copy(update={"from_hour": o.from_hour + hours}) for o in scenario.outage)
    start = scenario.start.fromordinal(scenario.start.toordinal() - before)
    changed: dict[str, object] = {
        "start": start,
        "days": before + scenario.days,
        "demand": demand,
        "outage": outages,
        # The sky of the days before is as usual; a scenario's own is of all its days.
        "overcast": "as usual" if name == "normal" else scenario.overcast,
    }
    return scenario.model_copy(update=changed)


def measured(town: Town, scenario: Scenario) -> list[Grid]:
    """Run a scenario in quarter-hours; return what the meters of each microgrid read."""
    conditions = Conditions(scenario=scenario, zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
    simulation = emulated(town, conditions, POLICIES["spec"], QUARTER_S)
    taken: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in simulation.grids]
    for time in range(conditions.begin, conditions.end(), QUARTER_S):
        for rows, step, boundary in zip(taken, simulation.step(time), simulation.boundaries, strict=True):
            flows, passed = step.flows, step.exchange
            out = flows.surplus + flows.pushed + flows.given
            here = (flows.generation, out, flows.demand + flows.received, flows.level)
            rows.append((*here, passed.imported, passed.exported, ~(boundary.voltage & boundary.closed)))
    first = conditions.begin // QUARTER_S
    return [
        grid
        for rows, grids in zip(taken, simulation.grids, strict=True)
        for grid in _grids(grids.places, [np.stack(each, axis=-1) for each in zip(*rows, strict=True)], first)
    ]


def _grids(places: Places, arrays: list[NDArray[Any]], first: Quarter) -> list[Grid]:
    generation, outgoing, incoming, level, imported, exported, island = arrays
    return [
        Grid(
            microgrid=name,
            first=first,
            capacity=places.capacity[row],
            uses=places.users,
            generation=generation[row],
            outgoing=outgoing[row],
            incoming=incoming[row],
            level=level[row],
            imported=imported[row],
            exported=exported[row],
            island=island[row].astype(np.bool_),
        )
        for row, name in enumerate(places.microgrids)
    ]
