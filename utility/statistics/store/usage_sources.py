"""What statistics read: a class's settled day, readings of batteries, how long meters were reduced or islanded."""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from commonwatt.model.records import RecordType, State
from commonwatt.model.units import EpochSeconds, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.readings.store.events import sound_events
from utility.readings.store.parts import chunks
from utility.readings.tables import compacted, event
from utility.registry.layout import Day
from utility.registry.tables import controller
from utility.settlement.store.settled import settled_of_day
from utility.settlement.store.settlement_members import Owner
from utility.statistics.batteries import UNKNOWN
from utility.statistics.disturbances import Change, seconds_on
from utility.statistics.series import ClassDay, no_day
from utility.statistics.usage import QUANTITIES

LOOK_BACK_S = 31 * 86_400  # a reduction or an outage that began longer ago, and changed nothing since, is not seen

LEAST_PERCENT = 98  # batteries of a class that have a reading, with which its sun and level count as known
_STORED, _GENERATION = int(RecordType.STORED), int(RecordType.GENERATION)


def class_days(
    connection: Connection, day: Day, owners: Mapping[int, Owner], class_of: Mapping[int, int]
) -> dict[int, ClassDay]:
    """Return the settled quarter-hours of each class of microgrids on a day, without generation and levels.

    Args:
        day: The day of UTC.
        owners: All microgrids, by number.
        class_of: The number of each microgrid's class, by the microgrid's number.
    """
    class_of_meter = {meter.id: class_of[number] for number, owner in owners.items() for meter in owner.meters}
    found = {class_no: no_day() for class_no in sorted(set(class_of.values()))}
    for meters, days in settled_of_day(connection, day):
        classes = np.array([class_of_meter.get(meter, 0) for meter in meters], np.int64)
        for class_no, of in found.items():
            for number, quantity in enumerate(QUANTITIES):
                of[number] += days.energies[quantity][classes == class_no].sum(axis=0)
    return found


def class_batteries(
    connection: Connection, day: Day, batteries: Mapping[int, NDArray[np.int64]], class_of: Mapping[int, int]
) -> dict[int, NDArray[np.int64]]:
    """Return by class the energy generated and the level in each quarter-hour, (2, 96), ``UNKNOWN`` without readings.

    Args:
        day: The day of UTC.
        batteries: How many batteries of each microgrid have a meter in each quarter-hour, (96), by its number.
        class_of: The number of each microgrid's class.
    """
    first, c = day * QUARTERS_A_DAY, compacted.c
    kinds = connection.execute(select(controller.c.kind, controller.c.number))
    # A controller without meters has no class.
    class_of_kind = {kind: class_of[number] for kind, number in kinds if number in class_of}
    sums = func.sum(c.total), func.sum(c.last_reading), func.count(c.last_reading)
    # By class: the rows of all microgrids would take the other threads' time.
    statement = select(c.quarter, controller.c.kind, c.record_type, *sums)
    statement = statement.join(controller, controller.c.number == c.owner_no)
    statement = statement.where(c.quarter.between(first, first + QUARTERS_A_DAY - 1))
    statement = statement.where(c.record_type.in_([_GENERATION, _STORED]))
    found = {number: np.zeros((2, 2, QUARTERS_A_DAY), np.int64) for number in set(class_of.values())}
    grouped = statement.group_by(c.quarter, controller.c.kind, c.record_type)
    for quarter, kind, record_type, total, last, count in connection.execute(grouped):
        if kind not in class_of_kind:
            continue
        row = 0 if record_type == _GENERATION else 1
        value = int((total if row == 0 else last) or 0)
        found[class_of_kind[kind]][:, row, quarter - first] += (value, count)
    wanted = {number: np.zeros(QUARTERS_A_DAY, np.int64) for number in found}
    for owner, count in batteries.items():
        wanted[class_of[owner]] += count
    return {number: _of_all(each[0], each[1], wanted[number]) for number, each in found.items()}


def _of_all(sums: NDArray[np.int64], counts: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of all batteries: the few without a reading are as the others in the mean."""
    return np.where(counts * 100 >= wanted * LEAST_PERCENT, sums * wanted // np.maximum(counts, 1), UNKNOWN)


def generated(connection: Connection, first: Quarter, until: Quarter) -> dict[int, tuple[int, int]]:
    """Return the energy generated in some quarters, and the slots with a reading of it, by number of the meter."""
    c = compacted.c
    statement = select(c.meter_no, func.sum(c.total), func.sum(c.exact + c.averaged)).group_by(c.meter_no)
    statement = statement.where(c.quarter.between(first, until - 1), c.record_type == _GENERATION)
    rows = connection.execute(statement)
    return {number: (int(total or 0), int(slots)) for number, total, slots in rows}


def levels(connection: Connection, quarter: Quarter) -> dict[int, int]:
    """Return the level at the end of a quarter, by number of the meter."""
    c = compacted.c
    statement = select(c.meter_no, c.last_reading).where(c.quarter == quarter, c.record_type == _STORED)
    rows = connection.execute(statement)
    return {number: level for number, level in rows if level is not None}


def seconds_in_state(
    connection: Connection, meters: Mapping[int, EpochSeconds], bits: State, start: EpochSeconds
) -> dict[int, int]:
    """Return for how many seconds a meter's state had any of some bits, by the meter's number.

    Args:
        meters: The numbers of the meters, each with the second after the last one that counts.
        start: The first second.
    """
    c, found = event.c, {}
    differs = c.previous_state.bitwise_and(int(bits)) != c.new_state.bitwise_and(int(bits))
    for some in chunks(sorted(meters)):
        within = c.time.between(start - LOOK_BACK_S, max(meters[number] for number in some) - 1)
        statement = select(event).where(c.meter_no.in_(some), within, differs)
        rows = sound_events(connection.execute(statement.order_by(c.meter_no, c.time, c.generation, c.record_id)))
        for number, changes in groupby(rows, key=lambda row: int(row.meter_no)):
            known = [Change(time=row.time, is_on=bool(row.new_state & bits)) for row in changes]
            found[number] = seconds_on(known, start, meters[number])
    return {number: seconds for number, seconds in found.items() if seconds}
