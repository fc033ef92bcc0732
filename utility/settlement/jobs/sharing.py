"""The job of sharing: records who gave and received in each microgrid's quarter-hour whose readings were joined (C2).

A quarter-hour is computed when all its readings are there, or two hours after its end; and again when late ones come.
"""

from collections.abc import Mapping, Sequence

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.database.base import Connection
from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.readings.store.events import events_by_meter
from utility.settlement.shared_quarter import NOTHING, MeterEntry, SharedQuarter, batteries_of, shared_in, sharing_slots
from utility.settlement.store.sharing import Due, due, forget_dropped, meters_by_owner, readings_of, save
from utility.supply.store.rations import loss_permille

SETTLED_S = QUARTER_S  # seconds after a quarter-hour's end before it is computed: its readings are still on their way
DEADLINE_S = 7_200  # seconds after a quarter-hour's end from which it is computed with the readings that are there


_Town = tuple[Mapping[int, Sequence[MeterEntry]], int]


async def record_sharing(database: Database, threads: Threads, turn: Turn) -> None:
    """Compute what is due and ready on the jobs' thread, and store it on the one for writes."""
    await threads.write(database.write, forget_dropped)
    after = (-1, -1)
    town = await threads.read(database.read, _town)
    while True:
        before = (turn.now - SETTLED_S) // QUARTER_S
        waiting: list[Due] = await threads.read(database.read, due, before, after)
        if not waiting:
            return
        found = await threads.read(_computed, database, town, waiting, turn.now)
        await threads.write(database.write, save, found, turn.now)
        after = waiting[-1].quarter, waiting[-1].owner_no


def _computed(
    database: Database, town: _Town, waiting: Sequence[Due], now: EpochSeconds
) -> list[tuple[Due, SharedQuarter]]:
    meters, loss = town
    found = []
    for one in waiting:
        there = [meter for meter in meters.get(one.owner_no, []) if meter.is_there(one.quarter)]
        result = _compute(database, one, there, loss)
        if result.complete or now >= (one.quarter + 1) * QUARTER_S + DEADLINE_S:
            found.append((one, result))
    return found


def _compute(database: Database, one: Due, meters: Sequence[MeterEntry], loss: int) -> SharedQuarter:
    batteries = batteries_of(meters)
    numbers = [battery.meter.no for battery in batteries]
    events = database.read(events_by_meter, numbers, one.quarter * QUARTER_S, (one.quarter + 1) * QUARTER_S)
    flags = {number: sharing_slots(of, one.quarter) for number, of in events.items()}
    if not any(each.any() for each in flags.values()):
        return NOTHING
    blocks = readings_of(database, [meter.no for meter in meters], one.quarter)
    return shared_in(batteries, flags, blocks, one.quarter, loss)


def _town(connection: Connection) -> _Town:
    """Return the meters by microgrid, and the part of a charge that is lost."""
    return meters_by_owner(connection), loss_permille(connection)
