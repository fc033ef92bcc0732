"""What a day's energy adds to a bill: the days of a month add up to its lines, and a neighbour's energy is free."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity, SettledQuarters
from harness.billing.worlds import World, random_world
from utility.billing.run import bills_of
from utility.billing.so_far import energy_of, grown
from utility.settlement.day import SettledDay, with_day


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 27), max_size=4))
def test_the_figures_of_days_add_up_to_the_months_figure_of_its_lines_for_energy(seed: int, some: set[int]) -> None:
    world = random_world(seed)
    inputs = world.inputs
    # Days one by one, and those between them as one: any days of a month.
    ends = sorted({inputs.day_ends[day + more] + 1 for day in some for more in (0, 1)} | {inputs.until})
    bounds = [inputs.first, *ends]
    days = [grown(inputs, world.load, start, end) for start, end in pairwise(bounds)]
    for number, each in bills_of(inputs, world.load).billed.items():
        assert sum(day[number] for day in days) == energy_of(each.bill), number


def only(world: World, quantity: Quantity) -> World:
    energies = {each: 1000 * values * (each is quantity) for each, values in world.settled.energies.items()}
    return replace(world, settled=replace(world.settled, energies=energies))


def test_energy_from_neighbours_adds_nothing_to_a_bill_and_the_towns_does() -> None:
    world = random_world(3)
    ends = world.inputs.first, world.inputs.first + QUARTERS_A_DAY
    free, paid = (
        grown(world.inputs, only(world, quantity).load, *ends) for quantity in (Quantity.SHARED_IN, Quantity.IMPORTED)
    )
    assert set(free.values()) == {0}
    assert max(paid.values()) > 0


def test_a_day_that_is_not_over_stands_only_where_nothing_is_settled_yet() -> None:
    first, shape = 960, (2, QUARTERS_A_DAY)
    version = np.zeros((1, 48), np.int32)
    version[0, :8] = 1  # The quarters before the day of UTC begins are settled.
    month = SettledQuarters(
        meters=np.array([7], np.uint64),
        first=first - 8,
        energies={Quantity.IMPORTED: np.full((1, 48), 5)},
        quality=np.full((1, 48), 4, np.uint8),
        provisional=version == 0,
        version=version,
    )
    day = SettledDay(
        day=first // QUARTERS_A_DAY,
        meters=np.array([3, 7], np.uint64),
        energies={quantity: np.full(shape, 9) for quantity in Quantity},
        has={quantity: np.ones(2, np.bool_) for quantity in Quantity},
        quality=np.full(shape, 4, np.uint8),
        residuals={},
        missing={},
    )
    assert with_day(month, day).of(Quantity.IMPORTED)[0].tolist() == [5] * 8 + [9] * 40
