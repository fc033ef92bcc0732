"""The least that can go short in a scenario: one linear program over all its hours, with everything known beforehand.

It meets the same loads, sun, islands, import limits, feeders and line as a run of the simulation. It is a bound, not a
policy: the batteries of one microgrid are one battery; an hour's flows are sums; batteries may be held for a later
hour; minima of sharing and the plant's reserve bind nobody. Batteries charge from the sun of their own microgrid alone,
and serve it alone, as in the physics.
"""

from dataclasses import dataclass, replace

import numpy as np

from scenarios.figures import KINDS
from scenarios.program import INFINITY, Answer, Entry, Program, solved, store
from scenarios.recorded import World

WEIGHTS = {"public": 10_000.0, "apartment": 100.0, "residential": 1.0}
"""What energy that is not served counts, by kind: emergency services far above apartments, these far above houses."""

UNIT = 1e6
"""Milliwatt-hours in the program's unit, a kilowatt-hour."""

_GRID, _TOWN = 6, 4
_IMPORT, _EXPORT, _CHARGE, _DISCHARGE, _LEVEL, _SHORT = range(_GRID)
_BUY, _STORE, _DRAW, _STORED = range(_TOWN)

_SIGNS = ((_IMPORT, 1.0), (_EXPORT, -1.0), (_CHARGE, -1.0), (_DISCHARGE, 1.0), (_SHORT, 1.0))
"""How a microgrid's flows count in its balance."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a program found.

    Attributes:
        unserved: Load not met, milliwatt-hours, by kind.
        answer: The program's answer, with its size.
    """

    unserved: dict[str, float]
    answer: Answer


def since(world: World, hour: int) -> World:
    """Return a world's part from an hour on, with the levels that the run had reached there."""
    return replace(
        world,
        load=world.load[:, hour:],
        sun=world.sun[:, hour:],
        imports=world.imports[:, hour:],
        exports=world.exports[:, hour:],
        levels=world.levels[:, hour:],
        line=world.line[hour:],
        plant_levels=world.plant_levels[hour:],
    )


def least_unserved(world: World) -> Bound:
    """Return the least energy that goes short, weighted by kind.

    Raises:
        ValueError: If the solver finds no answer.
    """
    answer = solved(_program(world))
    found = answer.values[: _GRID * world.load.size].reshape(_GRID, *world.load.shape)
    short = found[_SHORT].sum(axis=1) * UNIT
    of = np.array(world.kinds)
    return Bound(unserved={kind: float(short[of == kind].sum()) for kind in KINDS}, answer=answer)


def _program(world: World) -> Program:
    """Return the program: blocks of columns of microgrids by hours, then the plant's by hours."""
    load, sun = world.load / UNIT, world.sun / UNIT
    hours = load.shape[1]
    power = world.power[:, None] / UNIT
    high = np.zeros((_GRID, *load.shape))
    high[_IMPORT] = np.minimum(world.imports / UNIT, load)
    high[_EXPORT] = np.minimum(world.exports / UNIT, sun)
    high[_CHARGE], high[_DISCHARGE] = np.minimum(power, sun), np.minimum(power, load)
    high[_LEVEL], high[_SHORT] = world.capacity[:, None] / UNIT, load
    town = np.zeros((_TOWN, hours))
    town[_BUY], town[_STORED] = world.line / UNIT, world.plant_capacity / UNIT
    town[_STORE] = town[_DRAW] = world.plant_power / UNIT
    cost = np.zeros_like(high)
    cost[_SHORT] = np.array([WEIGHTS[kind] for kind in world.kinds])[:, None]
    start, plant_start = np.zeros_like(load), np.zeros(hours)
    start[:, 0], plant_start[0] = world.levels[:, 0] / UNIT, world.plant_levels[0] / UNIT
    least = np.concatenate([(load - sun).ravel(), start.ravel(), np.zeros(hours), plant_start])
    most = least.copy()
    # Sun and energy that nobody can use are spilled: the balances are "at least".
    most[: load.size] = most[2 * load.size : 2 * load.size + hours] = INFINITY
    return Program(
        cost=np.concatenate([cost.ravel(), np.zeros(town.size)]),
        high=np.concatenate([high.ravel(), town.ravel()]),
        least=least,
        most=most,
        entries=_entries(len(load), hours, world.kept),
    )


def _entries(grids: int, hours: int, kept: float) -> list[Entry]:
    """Return the matrix; rows: balance and level of each microgrid by hour, balance and level of the plant."""
    columns = np.arange(_GRID * grids * hours).reshape(_GRID, grids, hours)
    plant = columns.size + np.arange(_TOWN * hours).reshape(_TOWN, hours)
    balance = np.arange(grids * hours).reshape(grids, hours)
    level = balance + balance.size
    town = 2 * balance.size + np.arange(hours)
    every_hour = np.broadcast_to(town, (grids, hours))
    return [
        *((columns[kind], balance, sign) for kind, sign in _SIGNS),
        *store(columns[_LEVEL], [columns[_CHARGE]], [columns[_DISCHARGE]], level, kept),
        (columns[_IMPORT], every_hour, -1.0),
        (columns[_EXPORT], every_hour, 1.0),
        (plant[_BUY], town, 1.0),
        (plant[_STORE], town, -1.0),
        (plant[_DRAW], town, 1.0),
        *store(plant[_STORED], [plant[_STORE]], [plant[_DRAW]], town + hours, kept),
    ]
