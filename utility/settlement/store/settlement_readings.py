"""What settlement reads: the joined blocks of many meters, quarter by quarter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, bindparam

from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import Quarter
from utility.database.database import Database
from utility.readings.store.parts import (
    MAX_IN,
    PartReader,
    chunks,
    ids_by_number,
    read_payloads,
    select_parts,
    select_payloads,
)

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
