"""Homes of an emulated town: the scenarios' physics, sharing and purchases, by quarter-hours."""

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.places import Places
from commonwatt.model.units import QUARTER_S
from commonwatt.town.loading import town_of
from commonwatt.town.scenario import Conditions, load
from commonwatt.town.town import Direction, Function, Town, TownFile
from scenarios.simulation import emulated
from utility.research.homes import KINDS, HomeMeasure, Homes, PeriodHome
from utility.supply.simulated import POLICIES

WARM_UP = 96  # steps before the first that counts: the batteries' levels settle


def emulated_town(houses: int, apartments: int) -> Town:
    """Return a town of residential microgrids of ten houses, perhaps one of apartments in three buildings."""
    grids: list[Mapping[str, object]] = []
    if houses:
        grids.append({"id": "r", "kind": "residential", "count": houses // 10})
    if apartments:
        grids.append({"id": "apt", "kind": "apartment", "buildings": 3, "apartments": apartments // 3})
    return town_of(TownFile.model_validate({"microgrid": grids}), Path("emulated.toml"))


def emulated_homes(town: Town, days: int, scenario: str = "normal") -> Homes:
    """Return the homes of a town over whole UTC days of a scenario, a day after its beginning."""
    conditions = Conditions(scenario=load(scenario), zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
    simulation = emulated(town, conditions, POLICIES["spec"], QUARTER_S)
    start = -(-(conditions.begin + WARM_UP * QUARTER_S) // 86_400) * 86_400
    columns: dict[HomeMeasure, list[np.ndarray]] = {measure: [] for measure in HomeMeasure}
    for time in range(conditions.begin, start + days * 86_400, QUARTER_S):
        steps = simulation.step(time)
        if time < start:
            continue
        flows = [step.flows for step in steps]
        both = zip(simulation.grids, flows, strict=True)
        kept = [_homes_in(grids.places) for grids in simulation.grids]
        for measure, arrays in {
            HomeMeasure.USED: [f.served + f.lost * ~np.isin(g.places.kind, "apartment") for g, f in both],
            HomeMeasure.GENERATED: [f.generation for f in flows],
            HomeMeasure.TAKEN: [f.demand + f.received for f in flows],
            HomeMeasure.GIVEN: [f.surplus + f.pushed + f.given for f in flows],
        }.items():
            columns[measure].append(
                np.concatenate([array[:, some].ravel() for array, some in zip(arrays, kept, strict=True)])
            )
    names = [
        (grids.places.microgrids[row], grids.places.names[row][column])
        for grids, some in zip(simulation.grids, kept, strict=True)
        for row in range(grids.places.shape[0])
        for column in some
    ]
    return _sorted(town, names, start, {measure: np.array(found).T for measure, found in columns.items()})


def _homes_in(places: Places) -> list[int]:
    """Return the columns of homes: in a building those that use energy; of the public services none."""
    return [] if places.kind == "public" else [int(column) for column in np.flatnonzero(places.users)]


def _sorted(town: Town, names: list[tuple[str, str]], start: int, values: dict[HomeMeasure, np.ndarray]) -> Homes:
    accounts: dict[tuple[str, str], tuple[int, Function]] = {
        (meter.microgrid, meter.location): (meter.account, meter.function)
        for meter in town.meters
        if meter.function in KINDS and meter.direction is Direction.INCOMING
    }
    homes = [PeriodHome(microgrid=m, place=p, account=accounts[m, p][0], function=accounts[m, p][1]) for m, p in names]
    order = sorted(range(len(homes)), key=homes.__getitem__)
    first = next(iter(values.values()))
    return Homes(
        homes=tuple(homes[row] for row in order),
        start=start,
        step_s=QUARTER_S,
        values={measure: np.ascontiguousarray(array[order]) for measure, array in values.items()},
        known=np.ones(first.shape, dtype=np.bool_),
    )
