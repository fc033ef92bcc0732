"""A day settled at once, compared with the plain implementation and with what flowed in the emulator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from commonwatt.energy.splits import Flags
from commonwatt.model.blocks import empty
from commonwatt.model.records import RecordType
from commonwatt.model.units import MeterId, MicrogridId, Quarter
from harness.settlement.emulated import EmulatedTown, Stream
from harness.settlement.plain import DAY, MICROGRID, RandomDay, random_day, settle_plainly
from utility.energy.quarters import QUARTERS_A_DAY, Corrected, Quantity, applied, no_overlay, settle
from utility.registry.layout import Day, Layout, alike, ids_of, layout_of
from utility.settlement.day import DayGroup, QuarterTable, SettledDay, SettlementRules, Settling
from utility.settlement.residual import DayResidual


def settle_day(
    day: Day,
    layouts: Sequence[Layout],
    readings: Callable[[Quarter], Corrected],
    rules: SettlementRules,
    sharing: Mapping[MeterId, Flags] | None = None,
) -> SettledDay:
    """Settle a day of some microgrids, as ``Settling``.

    Args:
        readings: Returns the readings of a quarter; called for the last one of the day before, then in order.
    """
    settling = Settling(day, layouts, rules, sharing or {})
    for quarter in settling.quarters:
        settling.add(readings(quarter))
    return settling.finished()


def settled(day: RandomDay, convention: str) -> SettledDay:
    """Settle a random day as the utility does."""
    return settle_day(
        DAY,
        [layout_of(MICROGRID, day.meters, DAY)],
        lambda quarter: applied(day.blocks(quarter), no_overlay()),
        SettlementRules(convention=convention, battery_loss_permille=day.loss_permille),
        day.sharing,
    )


def differences(seed: int, convention: str, quarters: int = QUARTERS_A_DAY) -> list[str]:
    """Return in what the two implementations differ on a random microgrid-day."""
    day = random_day(seed, quarters)
    found, plain = settled(day, convention), settle_plainly(day, convention, quarters)
    wrong = []
    for row, meter in enumerate(found.meters.tolist()):
        for quarter in range(quarters):
            for quantity in Quantity:
                one, other = int(found.energies[quantity][row, quarter]), plain.energies[quantity, meter, quarter]
                if one != other:
                    wrong.append(f"{quantity.name} of meter {meter}, quarter {quarter}: {one}, plainly {other}")
            quality = plain.quality.get((meter, quarter))
            if quality is not None and quality != found.quality[row, quarter]:
                wrong.append(f"quality of meter {meter}, quarter {quarter}: {found.quality[row, quarter]}, {quality!r}")
    if any(np.any(energies[:, quarters:]) for energies in found.energies.values()):
        wrong.append("energy without readings")
    excess = found.residuals[MICROGRID].excess
    if excess != plain.excess:
        wrong.append(f"excess of the residual: {excess}, plainly {plain.excess}")
    return wrong


FIRST_DAY = 20_700  # the name of the first settled day


def wrong_slots(
    town: EmulatedTown, rules: SettlementRules, quarters: int, start_hour: int = 0
) -> tuple[list[str], int]:
    """Return the microgrids and slots that are settled differently from what flowed, and the energy shared inside.

    A slot may differ by what its readings lack: less than the resolution of each, twice that of a level.
    """
    layouts = town.layouts(FIRST_DAY)
    meters = np.array(sorted(i for layout in layouts for i in ids_of(layout.meters)), np.uint64)
    groups = [DayGroup(FIRST_DAY, members, meters, rules, {}) for members in alike(layouts)]
    stream = town.quarters(FIRST_DAY * 96 - 1, start_hour)
    before = QuarterTable(meters, next(stream).readings, RecordType.STORED)
    wrong: list[str] = []
    inside = 0
    for number, quarter in enumerate(islice(stream, quarters)):
        table = QuarterTable(meters, quarter.readings, RecordType.THROUGH, RecordType.GENERATION, RecordType.STORED)
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


def hours(town: EmulatedTown, rules: SettlementRules, count: int, start_hour: int) -> dict[MicrogridId, DayResidual]:
    """Return the residuals of some hours; nothing is read in the rest of the day."""
    quarters = list(islice(town.quarters(FIRST_DAY * 96 - 1, start_hour), 4 * count + 1))
    readings = {one.quarter: one.readings for one in quarters}
    none = applied(empty(), no_overlay())
    return dict(settle_day(FIRST_DAY, town.layouts(FIRST_DAY), lambda q: readings.get(q, none), rules).residuals)


def days(town: EmulatedTown, rules: SettlementRules, count: int) -> Iterator[dict[MicrogridId, DayResidual]]:
    """Settle days in sequence; yield the residuals of all days so far, by microgrid."""
    stream = Stream(town.quarters(FIRST_DAY * 96 - 1))
    so_far: dict[MicrogridId, DayResidual] = {}
    for day in range(FIRST_DAY, FIRST_DAY + count):
        found = settle_day(day, town.layouts(day), stream, rules).residuals
        so_far = {name: so_far[name].then(one) if name in so_far else one for name, one in found.items()}
        yield so_far
