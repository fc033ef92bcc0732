"""Settled slots beside what flowed in the emulator: inside, import and export of each microgrid, but for resolution."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from commonwatt.model.blocks import empty
from commonwatt.model.records import RecordType
from commonwatt.model.units import MicrogridId
from commonwatt.settlement.microgrids import settle
from commonwatt.settlement.overlay import applied, no_overlay
from commonwatt.settlement.residual import DayResidual
from harness.settlement.emulated import EmulatedTown, Stream
from harness.settlement.whole_day import settle_day
from utility.registry.layout import alike, ids_of
from utility.settlement.day import Group, Rules
from utility.settlement.readings import Table

DAY = 20_700  # the name of the first settled day


def wrong_slots(town: EmulatedTown, rules: Rules, quarters: int, start_hour: int = 0) -> tuple[list[str], int]:
    """Return the microgrids and slots that are settled differently from what flowed, and the energy shared inside.

    A slot may differ by what its readings lack: less than the resolution of each, twice that of a level.
    """
    layouts = town.layouts(DAY)
    meters = np.array(sorted(i for layout in layouts for i in ids_of(layout.meters)), np.uint64)
    groups = [Group(DAY, members, meters, rules, {}) for members in alike(layouts)]
    stream = town.quarters(DAY * 96 - 1, start_hour)
    before = Table(meters, next(stream).readings, RecordType.STORED)
    wrong: list[str] = []
    inside = 0
    for number, quarter in enumerate(islice(stream, quarters)):
        table = Table(meters, quarter.readings, RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED)
        for group in groups:
            found = settle(group.readings(number % 96, table, before), rules.convention)
            for row, layout in enumerate(group._layouts):
                true = quarter.truth[layout.microgrid]
                # Rounded loads and sun; of a level before and after, with the loss of their difference.
                allowed = (rules.resolution - 1) * (len(layout.meters) + 3 * len(layout.unmetered)) * 2
                allowed += 2 * len(layout.unmetered) * bool(rules.battery_loss_permille)
                pairs = {
                    "inside": (found.shared_in[row].sum(axis=1), np.minimum(true.sent, true.taken)),
                    "import": ((found.taken - found.shared_in)[row].sum(axis=1), true.imported),
                    "export": ((found.sent - found.shared_out)[row].sum(axis=1), true.exported),
                }
                inside += int(pairs["inside"][1].sum())
                for name, (settled, real) in pairs.items():
                    if (off := int(np.abs(settled - real).max())) > allowed:
                        wrong.append(f"{layout.microgrid}, quarter {number}: {name} off by {off} mWh, above {allowed}")
        before = table
    return wrong, inside


def hours(town: EmulatedTown, rules: Rules, count: int, start_hour: int) -> dict[MicrogridId, DayResidual]:
    """Return the residuals of some hours; nothing is read in the rest of the day."""
    quarters = list(islice(town.quarters(DAY * 96 - 1, start_hour), 4 * count + 1))
    readings = {one.quarter: one.readings for one in quarters}
    none = applied(empty(), no_overlay())
    return dict(settle_day(DAY, town.layouts(DAY), lambda q: readings.get(q, none), rules).residuals)


def days(town: EmulatedTown, rules: Rules, count: int) -> Iterator[dict[MicrogridId, DayResidual]]:
    """Settle days in sequence; yield the residuals of all days so far, by microgrid."""
    stream = Stream(town.quarters(DAY * 96 - 1))
    so_far: dict[MicrogridId, DayResidual] = {}
    for day in range(DAY, DAY + count):
        found = settle_day(day, town.layouts(day), stream, rules).residuals
        so_far = {name: so_far[name].then(one) if name in so_far else one for name, one in found.items()}
        yield so_far
