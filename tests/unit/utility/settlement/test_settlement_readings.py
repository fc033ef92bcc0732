"""What settlement reads is the same however it lies in the database: joined, in parts, or with a damaged block."""

import numpy as np
import pytest
from sqlalchemy import func, select

from commonwatt.model.blocks import Blocks, concatenate
from commonwatt.model.records import RecordType
from commonwatt.town.town import Town
from harness.real import databases
from harness.settlement.stored import FIRST, sent, store, town_blocks
from utility.database.database import Database
from utility.readings.store.reads import numbers_of
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, dead_letter
from utility.settlement.store import settlement_readings
from utility.settlement.store.settlement_readings import ReadingsOfQuarters

QUARTERS = range(FIRST, FIRST + 4)

kind = databases.both_kinds


def read(database: Database, town: Town) -> list[Blocks]:
    with database.reads.begin() as connection:
        numbers = numbers_of(connection, [meter.id for meter in town.meters])
    return list(ReadingsOfQuarters(database, numbers, []).over(QUARTERS))


def are_same(found: list[Blocks], expected: dict[str, Blocks]) -> bool:
    whole = concatenate(list(expected.values()))
    for quarter, one in zip(QUARTERS, found, strict=True):
        theirs = whole.take(np.flatnonzero(whole.quarter == quarter))
        theirs = theirs.take(np.argsort(theirs.meter))
        if not (np.array_equal(one.meter, theirs.meter) and np.array_equal(one.values, theirs.values)):
            return False
    return True


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize("most_in", [2, 500])
def test_readings_are_complete_in_parts_joined_and_beside_a_damaged_block(
    database: Database, town: Town, monkeypatch: pytest.MonkeyPatch, rows: int, most_in: int
) -> None:
    monkeypatch.setattr(settlement_readings, "ROWS_AT_A_TIME", rows)
    monkeypatch.setattr(settlement_readings, "MAX_IN", most_in)
    blocks = town_blocks(town, QUARTERS)
    Writer(database).commit([sent(name, some) for name, some in blocks.items()])
    assert are_same(read(database, town), blocks), "in parts"
    store(database, blocks)
    assert are_same(read(database, town), blocks), "joined"
    c = compacted.c
    with database.writes.begin() as connection:
        number = connection.execute(select(func.min(c.meter_no))).scalar_one()
        which = (c.meter_no == number) & (c.quarter == FIRST + 2) & (c.record_type == int(RecordType.THROUGH))
        payload = connection.execute(select(c.payload).where(which)).scalar_one()
        connection.execute(compacted.update().where(which).values(payload=payload[:-1] + bytes([payload[-1] ^ 1])))
    found = read(database, town)
    assert [len(one) for one in found] == [len(town.meters) - (n == 2) for n in range(4)]
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(dead_letter)).scalar_one() == 1
