"""The hours of a bill by day: each has its cell, on days of 23, 24 and 25 hours, too."""

from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.time.local_calendar import midnight
from commonwatt.model.units import QUARTER_S
from commonwatt.settlement.settled import Quantity
from utility.billing.documents.plot import heat_of
from utility.billing.documents.statement import Hours

ZONE = ZoneInfo("America/New_York")
KWH = 10**6


def hours(starts: tuple[int, ...]) -> Hours:
    energies = {quantity: np.zeros(len(starts), np.int64) for quantity in Quantity}
    return Hours(starts=starts, energies=energies, worst=np.zeros(len(starts), np.int64))


@pytest.mark.parametrize(("day", "count"), [(date(2026, 3, 8), 23), (date(2026, 3, 9), 24), (date(2026, 11, 1), 25)])
def test_each_hour_of_a_day_has_its_cell_and_no_two_the_same_place(day: date, count: int) -> None:
    first = midnight(day, ZONE) * QUARTER_S
    starts = tuple(first + 3600 * hour for hour in range(count))
    by_hour = hours(starts)
    by_hour.energies[Quantity.IMPORTED][5] = KWH
    by_hour.energies[Quantity.SHARED_IN][5:7] = KWH
    ((found, taken, cells),), most = heat_of(by_hour, ZONE)
    assert (found, taken, most) == (day, 3 * KWH, (starts[5], 2 * KWH))
    assert [tenths for tenths, _, _ in cells] == [0] * 5 + [10, 5] + [0] * (count - 7)
    spans = [(hour, hour + length) for _, hour, length in cells]
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert (len(cells), spans[-1][1]) == (count, 24)


def test_a_bill_without_quarter_hours_has_no_cells() -> None:
    assert heat_of(hours(()), ZONE) == ([], (0, 0))
