"""A home's energy as pictures."""

import numpy as np

from utility.households.course import Course, Line
from utility.households.picture import home_now


def line(*energies: int) -> Line:
    whole = np.full(len(energies), 60)
    return Line(energy=np.array(energies), slots=whole, expected=whole)


def test_own_part_is_never_more_than_all_though_a_battery_jumps() -> None:
    """A battery that is exchanged for a fuller one seems to gain what no source gave."""
    course = Course(
        first=0,
        solar=line(1_000, 1_000),
        taken=line(0, 0),
        given=line(0, 0),
        stored=line(5_000, 50_000),
        gained=line(0, 45_000),
        newest=None,
    )
    now = home_now(course)
    assert now is not None
    assert now.own_permille == 1000
