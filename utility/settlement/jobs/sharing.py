"""The job of sharing: records who gave and received in each microgrid's quarter-hour whose readings were joined (C2).

A quarter-hour is computed when all its readings are there, or two hours after its end; and again when late ones come.
"""

from collections.abc import Mapping, Sequence

from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.readings.store.events import events_by_meter
from utility.readings.store.reads import numbers_of
from utility.registry.layout import Layout, ids_of, layout_of
from utility.settlement.shared_quarter import NOTHING, SharedQuarter, shared_in, sharing_slots
from utility.settlement.store.settlement_members import owners
from utility.settlement.store.settlement_readings import ReadingsOfQuarters
from utility.settlement.store.sharing import Due, due, forget_dropped, save_sharing
from utility.supply.store.rations import loss_permille

SETTLED_S = QUARTER_S  # seconds after a quarter-hour's end before it is computed: its readings are still on their way
DEADLINE_S = 7_200  # seconds after a quarter-hour's end from which it is computed with the readings that are there


async def record_sharing(database: Database, threads: Threads, turn: Turn) -> None:
    """Compute what is due and ready on the jobs' thread, and store it on the one for writes."""
    await threads.write(database.write, forget_dropped)
    after = (-1, -1)
    while True:
        before = (turn.now - SETTLED_S) // QUARTER_S
        waiting: list[Due] = await threads.read(database.read, due, before, after)
        if not waiting:
            return
        found = await threads.read(_computed, database, waiting, turn.now)
        await threads.write(database.write, save_sharing, found, turn.now)
        after = waiting[-1].quarter, waiting[-1].owner_no


def _computed(database: Database, waiting: Sequence[Due], now: EpochSeconds) -> list[tuple[Due, SharedQuarter]]:
    with database.reads.begin() as connection:
        town, loss = owners(connection, {one.owner_no for one in waiting}), loss_permille(connection)
        numbers = numbers_of(connection, [meter.id for owner in town.values() for meter in owner.meters])
    found = []
    for one in waiting:
        owner, result = town.get(one.owner_no), NOTHING
        if owner is not None:
            whole = one.quarter, one.quarter + 1
            there = [meter for meter in owner.meters if meter.within(*whole) == whole]
            layout = layout_of(owner.microgrid, there, one.quarter // QUARTERS_A_DAY)
            result = _compute(database, layout, numbers, one.quarter, loss)
        if result.complete or now >= (one.quarter + 1) * QUARTER_S + DEADLINE_S:
            found.append((one, result))
    return found


def _compute(
    database: Database, layout: Layout, numbers: Mapping[MeterId, int], quarter: Quarter, loss: int
) -> SharedQuarter:
    batteries = {numbers[i]: i for i in (layout.senders[place.sender].id for place in layout.batteries)}
    events = database.read(events_by_meter, list(batteries), quarter * QUARTER_S, (quarter + 1) * QUARTER_S)
    sharing = {batteries[number]: sharing_slots(of, quarter) for number, of in events.items()}
    if not any(each.any() for each in sharing.values()):
        return NOTHING
    ours = {i: numbers[i] for i in ids_of(layout.meters)}
    readings = list(ReadingsOfQuarters(database, ours, list(batteries)).over((quarter - 1, quarter)))
    return shared_in(layout, numbers, sharing, readings, quarter, loss)
