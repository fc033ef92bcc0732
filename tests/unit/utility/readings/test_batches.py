"""What a gateway sent is one row until it is compacted, and reads as its parts do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, func, select

from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks, concatenate, join
from commonwatt.model.units import QUARTER_S
from harness.real import databases
from harness.real.jobs import compact, find_gaps
from harness.surroundings.sent import append, blocks
from utility.database.database import Database
from utility.readings.store import compactor as compactor_module
from utility.readings.store import reads
from utility.readings.store.batches import Parts, parts_of
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import batch, compacted, dead_letter, gap, part

kind = databases.both_kinds

QUARTER = 2_000_000
LATER = (QUARTER + 1) * 900 + 61
SENT = [blocks({0: 5}), blocks({1: 6}, meter=10003), blocks({2: 7}, quarter=QUARTER - 1)]


def everything(database: Database) -> dict[tuple[int, int, int], dict[int, int]]:
    """Return the readings by block and slot."""
    found: Blocks = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    return {
        found.key(row): {int(slot): int(found.values[row, slot]) for slot in found.quality[row].nonzero()[0]}
        for row in range(len(found))
    }


def count(database: Database, table: Table) -> int:
    with database.reads.begin() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def damage(database: Database, at: int) -> None:
    """Flip a bit of the only batch's payload."""
    with database.writes.begin() as connection:
        payload = bytearray(connection.execute(select(batch.c.payload)).scalar_one())
        payload[at] ^= 4
        connection.execute(batch.update().values(payload=bytes(payload)))


def asked(database: Database) -> set[tuple[int, int]]:
    with database.reads.begin() as connection:
        return {(row.meter_no, row.quarter) for row in connection.execute(select(gap).where(gap.c.is_open))}


Numbers = st.integers(0, 2**31 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(Numbers, Numbers, st.integers(0, 255), st.binary(max_size=40)), min_size=1), st.data())
def test_any_parts_are_unpacked_as_they_were(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    *keys, payloads = zip(*rows, strict=True)
    names = ("quarter", "meter_no", "record_type")
    made = {name: np.array(each, np.int64) for name, each in zip(names, keys, strict=True)}
    parts = Parts(made, Payloads.of(payloads))
    packed = parts.row()["payload"]
    found = parts_of(packed)
    assert found is not None
    assert [*zip(*(each.tolist() for each in found.keys.values()), found.payloads, strict=True)] == rows
    cut = data.draw(st.integers(0, len(packed) - 1))
    assert parts_of(packed[:cut]) is None


def test_of_a_batch_with_a_damaged_part_only_that_part_is_lost(database: Database) -> None:
    Writer(database).commit([append(concatenate(SENT))])
    assert (count(database, batch), count(database, part)) == (2, 0), "the quarter before is apart"
    compact(database, LATER - 900)
    damage(database, -1)
    counted: list[int] = []
    database.count_damaged = counted.append
    expected = {(10001, 3, QUARTER): {0: 5}, (10001, 3, QUARTER - 1): {2: 7}}
    for _ in range(2):
        assert everything(database) == expected
    assert (sum(counted), count(database, batch), count(database, part)) == (1, 0, 1)
    assert asked(database) == {(3, QUARTER)}
    compact(database, LATER)
    assert everything(database) == expected
    assert (count(database, part), count(database, dead_letter)) == (0, 1)


@pytest.mark.parametrize("reader", [everything, lambda database: compact(database, LATER)])
def test_a_batch_whose_keys_are_damaged_is_asked_for_as_a_whole(database: Database, reader: Any) -> None:
    sent = [append(concatenate(SENT[:2]))]
    Writer(database).commit(sent)
    find_gaps(database, LATER)
    damage(database, 5)
    reader(database)
    assert (count(database, batch), count(database, part), count(database, dead_letter)) == (0, 0, 1)
    find_gaps(database, LATER)
    assert asked(database) == {(1, QUARTER), (3, QUARTER)}
    Writer(database).commit(sent)
    assert everything(database) == {(10001, 3, QUARTER): {0: 5}, (10003, 3, QUARTER): {1: 6}}


def test_a_fresh_quarter_is_at_most_twenty_rows_a_microgrid(database: Database) -> None:
    writer, begin = Writer(database), QUARTER * QUARTER_S
    for minute in range(1, 16):
        sent = [blocks({4 * minute - 4 + slot: 1 for slot in range(4)})]
        if minute == 1:
            sent.append(blocks(dict.fromkeys(range(56, 60), 1), quarter=QUARTER - 1))
        writer.commit([append(concatenate(sent), received=begin + 60 * minute)])
    assert count(database, batch) <= 20
    with database.reads.begin() as connection:
        finished = connection.execute(select(batch.c.first_quarter).where(batch.c.last_quarter < QUARTER)).all()
    assert finished == [(QUARTER - 1,)], "no batch of a finished quarter waits for the present one"
    assert compact(database, begin + 61) == 1
    assert everything(database) == {
        (10001, 3, QUARTER - 1): dict.fromkeys(range(56, 60), 1),
        (10001, 3, QUARTER): dict.fromkeys(range(60), 1),
    }


def test_an_owners_batches_are_compacted_together(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 5)
    writer, compactor = Writer(database), Compactor(database)
    for slot in range(3):
        other = replace(append(blocks({slot: 1}, meter=10005)), sender="r002", owner="r002")
        writer.commit([append(blocks({slot: 1})), other])
    made = []
    while (replacement := compactor.plan(LATER)) is not None:
        made.append((len(replacement.parts), len(replacement.old), compactor.apply(replacement)))
    assert made == [(3, 0, 1), (3, 0, 1)], "each block is made once"
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 1)
    for slot in range(3, 6):
        writer.commit([append(blocks({slot: 1}))])
    assert compact(database, LATER) == 3, "what is too much for one transaction is done in several"
    assert count(database, compacted) == 2
    assert everything(database)[10001, 3, QUARTER] == dict.fromkeys(range(6), 1)


def test_a_batch_compacted_by_another_is_passed_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 1)
    writer, compactor = Writer(database), Compactor(database)
    for slot in range(3):
        writer.commit([append(blocks({slot: 1}))])
    assert compactor.plan(LATER) is not None
    compact(database, LATER)
    writer.commit([append(blocks({3: 1}))])
    replacement = compactor.plan(LATER)
    assert replacement is not None
    assert compactor.apply(replacement) == 1
    assert compactor.plan(LATER) is None
    assert everything(database) == {(10001, 3, QUARTER): dict.fromkeys(range(4), 1)}
