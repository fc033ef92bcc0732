"""What settlement reads: days that are due, members with their dates, joined blocks by quarter.

The compactor marks a day when readings of it are joined, so that late readings mark exactly the days they touch.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from commonwatt.energy.splits import Flags
from commonwatt.model.blocks import Blocks
from commonwatt.model.records import RecordType, State
from commonwatt.model.units import MeterId, MicrogridId, Quarter, unsigned64
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import Why
from utility.jobs.store import MarkedDay, mark
from utility.jobs.tables import settled_day, settlement_due
from utility.readings.store.gaps import events_by_meter
from utility.readings.store.parts import (
    MAX_IN,
    PartReader,
    chunks,
    ids_by_number,
    read_payloads,
    select_parts,
    select_payloads,
)
from utility.readings.store.retention import kept_from
from utility.registry.accounts import Installed
from utility.registry.layout import Day
from utility.registry.store.accounts import load_dated_registry, load_microgrids
from utility.registry.tables import controller, meter
from utility.settlement.shared_quarter import sharing_slots

MOST_SILENT_DAYS = 62  # days back from the last settled one that are looked at for a day without any reading


@dataclass(frozen=True, kw_only=True)
class DueDay(MarkedDay):
    """A microgrid's day to settle."""

    why: Why  # the reason of the marks


def mark_first(connection: Connection, day: Day) -> None:
    """Mark every microgrid of a day that was never settled: also those without any reading."""
    if connection.execute(select(settled_day.c.day).where(settled_day.c.day == day).limit(1)).first() is None:
        numbers = connection.execute(select(controller.c.number)).scalars()
        mark(connection, settlement_due, [(day, number) for number in numbers], Why.FIRST)


def silent_days(connection: Connection, before: Day) -> list[Day]:
    """Return the days before ``before`` without any reading of the town, between settled ones.

    Nothing else marks them: a mark comes with a reading. Days whose readings are no longer kept are left out.
    """
    c, first = settled_day.c, -(-kept_from(connection) // QUARTERS_A_DAY)
    last = connection.execute(select(func.max(c.day)).where(c.day < before)).scalar()
    if last is None:
        return []
    days = c.day.between(max(first, last - MOST_SILENT_DAYS), last)
    known = set(connection.execute(select(c.day).where(days).distinct()).scalars())
    return sorted(set(range(min(known), last)) - known) if known else []


def due_days(connection: Connection, before: Day) -> dict[Day, int]:
    """Return the marked days before ``before``, in order, and how many microgrids each has."""
    c = settlement_due.c
    statement = select(c.day, func.count()).where(c.day < before).group_by(c.day).order_by(c.day)
    return dict(connection.execute(statement).all())


def due_on(connection: Connection, day: Day) -> list[DueDay]:
    """Return what is marked of a day, by microgrid."""
    c = settlement_due.c
    statement = select(settlement_due).where(c.day == day).order_by(c.owner_no)
    return [
        DueDay(day=r.day, owner_no=r.owner_no, marks=r.marks, why=Why(r.why)) for r in connection.execute(statement)
    ]


def whole_day(connection: Connection, day: Day, microgrids: Collection[MicrogridId]) -> list[DueDay]:
    """Return a day of some microgrids to settle, whether or not it is marked."""
    numbers = connection.execute(select(controller.c.number).where(controller.c.id.in_(microgrids))).scalars()
    return [DueDay(day=day, owner_no=number, marks=0, why=Why.PERSON) for number in numbers]


def sharing_of_day(connection: Connection, batteries: Mapping[int, MeterId], day: Day) -> dict[MeterId, Flags]:
    """Return the slots of a day in which batteries had the command to share; only batteries that shared.

    Args:
        batteries: The ids of their meters, by number.
    """
    return {
        batteries[number]: sharing_slots(events, day * QUARTERS_A_DAY, QUARTERS_A_DAY)
        for number, events in events_by_meter(connection, list(batteries), day * 86_400, (day + 1) * 86_400).items()
        if any((event.previous_state | event.new_state) & State.SHARING for _, event in events)
    }


_THROUGH = str(int(RecordType.THROUGH))


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A microgrid with the meters that it has or had."""

    number: int  # the number of its controller
    microgrid: MicrogridId  # its name
    meters: tuple[Installed, ...]  # its meters that report energy


def owners(connection: Connection, wanted: Collection[int] | None = None) -> dict[int, Owner]:
    """Return the microgrids by the numbers of their controllers; ``wanted``: only these."""
    rows = connection.execute(select(controller.c.number, controller.c.id)).all()
    numbers = {row.id: row.number for row in rows if wanted is None or row.number in wanted}
    types = select(meter.c.id, meter.c.record_types)
    are_few = wanted is not None and len(numbers) <= MAX_IN
    if are_few:
        types = types.where(meter.c.microgrid.in_(sorted(numbers)))
    with_energy = {unsigned64(row.id) for row in connection.execute(types) if _THROUGH in row.record_types.split(",")}
    registry = load_microgrids(connection, numbers) if are_few else load_dated_registry(connection)
    members: dict[MicrogridId, list[Installed]] = {name: [] for name in numbers}
    for _, one in sorted(registry.meters.items()):
        if one.microgrid in members and one.id in with_energy:
            members[one.microgrid].append(one)
    return {
        number: Owner(number=number, microgrid=name, meters=tuple(members[name]))
        for name, number in numbers.items()
        if members[name]
    }


ROWS_AT_A_TIME = 2_000  # about how many blocks are read at once: a quarter of fifty microgrids, or a day of one

_BATTERY_KINDS = [int(RecordType.GENERATION), int(RecordType.STORED)]

_T = TypeVar("_T")
_U = TypeVar("_U")


def _of_all(c: Any) -> ColumnElement[bool]:
    is_battery = c.meter_no.in_(bindparam("batteries", expanding=True))
    kind = (c.record_type == int(RecordType.THROUGH)) | (c.record_type.in_(_BATTERY_KINDS) & is_battery)
    found: ColumnElement[bool] = c.quarter.in_(bindparam("quarters", expanding=True)) & kind
    return found


def _of_between(c: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = c.meter_no.between(bindparam("lowest"), bindparam("highest")) & _of_all(c)
    return found


def _of_some(c: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = c.meter_no.in_(bindparam("meters", expanding=True)) & _of_all(c)
    return found


# Made once: making a statement takes longer than executing it. By whether there are many meters.
_WHOLE = {True: select_parts(_of_between), False: select_parts(_of_some)}
_PAYLOADS = {True: select_payloads(_of_between), False: select_payloads(_of_some)}


class ReadingsOfQuarters:
    """Reads the joined blocks of some meters, quarter by quarter.

    Args:
        numbers: The numbers of the meters, by their ids; beyond ``MAX_IN``, those between the least and the greatest
            number are read too.
        batteries: The numbers of those whose generation and levels are needed.
    """

    def __init__(self, database: Database, numbers: Mapping[MeterId, int], batteries: Sequence[int]) -> None:
        self._database = database
        self._reader = PartReader(database)
        self._ids = ids_by_number(numbers)
        self._are_many = len(numbers) > MAX_IN
        self._values: dict[str, object] = {"batteries": list(batteries)}
        if self._are_many:
            self._values |= {"lowest": min(numbers.values()), "highest": max(numbers.values())}
        else:
            self._values["meters"] = list(numbers.values())
        self._quarters_at_a_time = max(1, ROWS_AT_A_TIME // (len(numbers) + 2 * len(batteries) + 1))

    def over(self, quarters: Sequence[Quarter]) -> Iterator[Blocks]:
        """Yield the blocks of each quarter; while they are used, a thread reads the next ones."""
        groups = list(chunks(quarters, self._quarters_at_a_time))
        for group, blocks in zip(groups, _ahead(self._read, groups), strict=True):
            for quarter in group:
                yield blocks if len(group) == 1 else blocks.take(np.flatnonzero(blocks.quarter == quarter))

    def _read(self, quarters: Sequence[Quarter]) -> Blocks:
        values = self._values | {"quarters": list(quarters)}
        with self._database.reads.begin() as connection:
            # Few columns take less time; the others are needed to quarantine damage.
            found = read_payloads(connection, _PAYLOADS[self._are_many], values, self._ids, quarters)
            if found is not None:
                return found
            meters = np.flatnonzero(self._ids).tolist()
            found = self._reader.read(connection, _WHOLE[self._are_many], values, quarters=quarters, meters=meters)
        self._reader.finish()
        return found


def _ahead(read: Callable[[_T], _U], items: Sequence[_T]) -> Iterator[_U]:
    """Yield what is read for each item; while it is used, a thread reads the next."""
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = [thread.submit(read, items[0])]
        for following in items[1:]:
            found = coming.pop().result()
            coming.append(thread.submit(read, following))
            yield found
        yield coming.pop().result()
