"""The places of islands and limited microgrids in the program of perfect knowledge: each has a battery of its own.

A battery is two stores: what is below its sharing minimum, which serves its own place, and what is above, which may
also be given to other batteries of its microgrid, up to their minima. The sun charges either, though in the physics the
lower one comes first: that would be "if", which a linear program has not.
"""

from enum import Enum

import numpy as np

from harness.perfect.program import INFINITY, Floats, Integers, Program
from harness.perfect.reach import Reach, reach
from harness.perfect.recorded import STEPS_PER_HOUR, Homes

UNIT = 1e6  # milliwatt-hours in the program's unit, a kilowatt-hour
# What energy that is not served counts, by kind: emergency services far above apartments, these far above houses.
WEIGHTS = {"public": 10_000.0, "apartment": 100.0, "residential": 1.0}


class Rules(Enum):
    """What binds the batteries of a microgrid in the program; each binds what the one before does, and more."""

    POOLED = "all batteries of a microgrid are one"
    MINIMA = "energy below a sharing minimum serves its own place alone"
    PHYSICS = "a place uses its own battery before any other energy"


def enter_homes(
    program: Program, homes: Homes, limits: tuple[Floats, Floats], rules: Rules
) -> tuple[Integers, Integers, Integers]:
    """Enter places into a program; return the columns of imports and exports by hour, and of what goes short.

    Args:
        homes: The places; all their microgrids are entered.
        limits: The most that each boundary lets in and out, by microgrid and hour.
        rules: What binds their batteries.
    """
    far = reach(homes)
    places = homes.places
    demand, surplus = far.demand / UNIT, far.surplus / UNIT
    power = places.power[..., None] * STEPS_PER_HOUR / UNIT
    minimum = np.broadcast_to(places.minimum[..., None] / UNIT, demand.shape)
    above = np.broadcast_to((places.capacity - places.minimum)[..., None] / UNIT, demand.shape)
    gives: Floats = np.broadcast_to(power, demand.shape)
    if rules is Rules.PHYSICS:
        above, gives = np.maximum(far.highest / UNIT - minimum, 0), np.minimum(far.gives / UNIT, gives)
    receives = np.minimum(gives.sum(axis=1, keepdims=True), power) * (minimum > 0)
    start = homes.levels[0] / UNIT

    taken, short = program.columns(demand), program.columns(demand, WEIGHTS[places.kind])
    sent = program.columns(surplus)
    charged = [program.columns(np.minimum(surplus, power)) for _ in range(2)]
    drawn = [program.columns(np.minimum(demand, power)) for _ in range(2)]
    given, received = program.columns(gives), program.columns(receives)
    lower, upper = program.columns(minimum), program.columns(above)

    needed = program.rows(demand, INFINITY)
    for columns in (taken, short, *drawn):
        program.enter(columns, needed)
    shone = program.rows(np.full(demand.shape, -INFINITY), surplus)
    for columns in (sent, *charged):
        program.enter(columns, shone)
    program.store(lower, [charged[0], received], [drawn[0]], np.minimum(start, minimum[..., 0]))
    program.store(upper, [charged[1]], [drawn[1], given], np.maximum(start - minimum[..., 0], 0))
    imported, exported = (program.columns(each) for each in limits)
    zero = np.zeros(limits[0].shape)
    loop, shared = program.rows(zero, INFINITY), program.rows(zero, INFINITY)
    for columns, row, value in (
        (imported, loop, 1.0),
        (exported, loop, -1.0),
        (sent, loop[:, None], 1.0),
        (taken, loop[:, None], -1.0),
        (given, shared[:, None], 1.0),
        (received, shared[:, None], -1.0),
    ):
        program.enter(columns, row, value)
    if rules is Rules.PHYSICS:
        _enter_order(program, far, (lower, upper), (given, received), (gives, receives))
    return imported, exported, short


def _enter_order(
    program: Program,
    far: Reach,
    levels: tuple[Integers, Integers],
    moved: tuple[Integers, Integers],
    high: tuple[Floats, Floats],
) -> None:
    """Enter what follows from each place using its own battery first (``harness.perfect.reach``).

    With G and R, what a battery has given and received since the beginning, its level is at most the larger of
    ``kept - G`` and ``drained``, plus R; and G is at most ``given + R``. The larger of two is not linear: between the
    least and the most that can have been given, the chord is above it.
    """
    totals = []
    for columns, each in zip(moved, high, strict=True):
        total = program.columns(np.cumsum(each, axis=-1))
        program.store(total, [columns], [], np.zeros(total.shape[:-1]))
        totals.append(total)
    sent, got = totals
    beyond = program.rows(np.full(sent.shape, -INFINITY), far.given / UNIT)
    program.enter(sent, beyond)
    program.enter(got, beyond, -1.0)
    fall = np.ones(sent.shape)
    np.divide(far.kept - far.drained, far.given, out=fall, where=far.given > 0)
    fall = np.minimum(fall, 1.0)
    level = program.rows(np.full(sent.shape, -INFINITY), far.kept / UNIT)
    for columns in levels:
        program.enter(columns, level)
    program.enter(sent, level, fall)
    program.enter(got, level, -1.0 - fall)
