"""In which slots of a day a battery had the command to share, from its meter's events."""

from collections.abc import Iterable

import numpy as np

from commonwatt.model.records import EventRecord
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.splits import Flags
from utility.registry.layout import Day
from utility.settlement.shared_quarter import sharing_slots


def sharing_of_day(events: Iterable[tuple[int, EventRecord]], day: Day) -> Flags:
    """Return the slots of a day with the command to share, (96 * 60).

    Args:
        events: (log generation, event) of the meter: those of the day, the last one before and the first one after.
    """
    known = list(events)
    first = day * QUARTERS_A_DAY
    return np.concatenate([sharing_slots(known, quarter) for quarter in range(first, first + QUARTERS_A_DAY)])
