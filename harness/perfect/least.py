"""The least that can go short in a scenario: one linear program over all its hours, with everything known beforehand.

It meets the same loads, sun, islands, import limits, feeders and line as a run of the simulation. It is a bound, not a
policy: an hour's flows are sums, and the plant's reserve binds nobody.

- Microgrids whose boundary always let in their whole load, and those with buildings or a farm, are one battery each.
- Of the others each place is a battery of its own, whose energy below its sharing minimum serves its own place alone
  (``harness/perfect/homes_program.py``).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.simulation.figures import KINDS
from harness.perfect.homes_program import UNIT, WEIGHTS, Rules, enter_homes
from harness.perfect.program import INFINITY, Answer, Integers, Program
from harness.perfect.recorded import STEPS_PER_HOUR, Homes, World

_Flows = tuple[Integers, Integers, Integers]
"""The columns of what microgrids import, export, and what goes short in them."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a program found."""

    unserved: dict[str, float]  # load not met, milliwatt-hours, by kind
    answer: Answer  # the program's answer, with its size


def between(world: World, first: int, last: int) -> World:
    """Return a world's hours from ``first`` to before ``last``, with the levels that the run had reached."""
    hours, steps = slice(first, last), slice(first * STEPS_PER_HOUR, last * STEPS_PER_HOUR)
    return replace(
        world,
        load=world.load[:, hours],
        sun=world.sun[:, hours],
        imports=world.imports[:, hours],
        exports=world.exports[:, hours],
        levels=world.levels[:, hours],
        line=world.line[hours],
        plant_levels=world.plant_levels[hours],
        homes=tuple(replace(each, need=each.need[steps], levels=each.levels[hours]) for each in world.homes),
    )


def least_unserved(world: World, rules: Rules = Rules.PHYSICS) -> Bound:
    """Return the least energy that goes short, weighted by kind.

    Raises:
        ValueError: If the solver finds no answer.
    """
    program = Program()
    apart = [] if rules is Rules.POOLED else _limited(world)
    pooled = np.setdiff1d(np.arange(len(world.kinds)), np.concatenate([np.zeros(0, int), *(a.rows for a in apart)]))
    flows = [(pooled, _enter_microgrids(program, world, pooled))]
    for homes in apart:
        limits = world.imports[homes.rows] / UNIT, world.exports[homes.rows] / UNIT
        flows.append((homes.rows, enter_homes(program, homes, limits, rules)))
    _enter_plant(program, world, [columns for _, columns in flows])
    answer = program.solved()
    unserved = dict.fromkeys(KINDS, 0.0)
    for rows, (_, _, short) in flows:
        for row, energy in zip(rows, answer.values[short].reshape(len(rows), -1).sum(axis=1), strict=True):
            unserved[world.kinds[row]] += float(energy) * UNIT
    return Bound(unserved=unserved, answer=answer)


def _limited(world: World) -> list[Homes]:
    """Return the places of microgrids whose boundary once let in less than their load."""
    once: NDArray[np.bool_] = np.asarray((world.imports < world.load).any(axis=1))
    limited = [homes.only(once[homes.rows]) for homes in world.homes]
    return [homes for homes in limited if homes.rows.size]


def _enter_microgrids(program: Program, world: World, rows: Integers) -> _Flows:
    """Enter microgrids with one battery each; return the columns of imports, exports and what goes short."""
    load, sun = world.load[rows] / UNIT, world.sun[rows] / UNIT
    power = world.power[rows, None] / UNIT
    weights = np.array([WEIGHTS[world.kinds[row]] for row in rows])[:, None]
    imported = program.columns(np.minimum(world.imports[rows] / UNIT, load))
    exported = program.columns(np.minimum(world.exports[rows] / UNIT, sun))
    charged, drawn = program.columns(np.minimum(power, sun)), program.columns(np.minimum(power, load))
    level = program.columns(np.broadcast_to(world.capacity[rows, None] / UNIT, load.shape))
    short = program.columns(load, weights)
    # Sun that nobody can use is spilled: the balance is "at least".
    balance = program.rows(load - sun, INFINITY)
    for columns in (imported, drawn, short):
        program.enter(columns, balance)
    for columns in (exported, charged):
        program.enter(columns, balance, -1.0)
    program.store(level, [charged], [drawn], world.levels[rows, 0] / UNIT, world.kept)
    return imported, exported, short


def _enter_plant(program: Program, world: World, flows: list[_Flows]) -> None:
    """Enter the plant between the region and the microgrids."""
    line = world.line / UNIT
    power = np.full(line.shape, world.plant_power / UNIT)
    bought, charged, drawn = program.columns(line), program.columns(power), program.columns(power)
    level = program.columns(np.full(line.shape, world.plant_capacity / UNIT))
    balance = program.rows(np.zeros(line.shape), INFINITY)
    program.enter(bought, balance)
    program.enter(charged, balance, -1.0)
    program.enter(drawn, balance)
    for imported, exported, _ in flows:
        program.enter(imported, balance, -1.0)
        program.enter(exported, balance)
    program.store(level, [charged], [drawn], world.plant_levels[0] / UNIT, world.kept)
