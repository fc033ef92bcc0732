"""Stores of every version that this release opens: the same reads, and the same answers to the utility."""

import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import from_records, join
from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.sqlite.damage import DamagedError
from gateway.changes import AVERAGED, DONE, OFFERED, UNSENT, AppendParts, Part
from gateway.store.store import Store
from gateway.store.tables import PAGE_BYTES, schema
from harness.surroundings.gateway import START, World, batches, blocks_of, readings

VERSIONS = sorted(PAGE_BYTES)
METERS = (1, 2**63, 2**64 - 1)  # also ids that are negative numbers in the store


def make(path: Path, version: int) -> None:
    """Make an empty store of a version."""
    with closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA page_size = {PAGE_BYTES[version]}")
        made.executescript(f"BEGIN; {schema(version)} COMMIT;")


@cache
def payload(meter: int, kind: int, quarter: int) -> bytes:
    """Return the payload of a block with one slot."""
    start = quarter * QUARTER_S
    return next(iter(pack(from_records([HistoryRecord(kind, 0, 1, meter, 0, start, start + SLOT_S, 5)]))))


parts = st.lists(
    st.builds(
        lambda meter, kind, quarter, relayed, joined: Part(
            0, (meter, kind, quarter), payload(meter, kind, quarter), relayed, joined
        ),
        st.sampled_from(METERS),
        st.integers(1, 2),
        st.integers(1000, 1003),
        st.sampled_from([UNSENT, OFFERED, AVERAGED, DONE, DONE, DONE]),
        st.booleans(),
    ),
    max_size=40,
)


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(made=parts, limit=st.integers(1, 12))
def test_the_reads_of_a_store_are_right_with_the_indexes_of_its_version(
    version: int, made: list[Part], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "gateway.db", version)
        store = Store.open(Path(folder) / "gateway.db")
        store._db.execute("PRAGMA synchronous = OFF")
        store.commit([AppendParts(tuple(made))])
        by_block = defaultdict[tuple[int, int, int], list[Part]](list)
        for number, part in enumerate(made, 1):
            by_block[part.key].append(Part(number, part.key, part.payload, part.relayed, part.joined))
        every = sorted(by_block)
        asked = [*every[::2], (7, 1, 1000)]
        found = store.block_parts(asked)
        assert sorted(part.id for part in found) == sorted(part.id for key in asked for part in by_block.get(key, ()))
        between = store.keys_between(1001, 1002, limit)
        assert len(between) == min(limit, sum(key[2] in (1001, 1002) for key in every))
        assert set(between) <= set(every)
        assert [key[2] for key in between] == sorted((key[2] for key in every if key[2] in (1001, 1002)), reverse=True)[
            :limit
        ]
        ready = {
            key
            for key, of_block in by_block.items()
            if key[2] < 1003
            and not all(part.joined for part in of_block)
            and not any(part.relayed in (UNSENT, OFFERED) for part in of_block)
        }
        assert set(store.keys_to_compact(1003, 1000)) == ready
        done = sorted((key[2], part.id) for key, found in by_block.items() for part in found if part.relayed == DONE)
        assert store.oldest_backup(limit) == tuple(number for _, number in done[:limit])
        store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_each_version_relays_joins_and_answers_and_keeps_its_pages(version: int, tmp_path: Path) -> None:
    make(tmp_path / "gateway.db", version)
    world = World(tmp_path / "gateway.db")
    world.now = START + 3 * QUARTER_S
    world.put(1, 1, readings(1, 1, 100))
    world.put(2, 1, readings(2, 1, 30))
    sent = batches(world.tick("relay_s"))
    world.acknowledge(sent[0])
    world.put(1, 101, readings(1, 101, 20, start=START + 100 * 15, value=1100))
    world.now += QUARTER_S
    world.tick("compact_s")
    assert sorted(part.joined for part in world.store.all_parts(unsent_only=False)) == [False, False, True, True]
    (answer,), _ = world.ask(cmd="get", first_quarter=START // QUARTER_S)
    both = join([blocks_of(sent), blocks_of([answer])])
    assert int((both.quality > 0).sum()) == 150
    assert not len(both.extras)
    assert world.store.examine(0, 1000) > 0
    assert world.store.connection.execute("PRAGMA user_version").fetchone() == (version,)
    assert world.store.connection.execute("PRAGMA page_size").fetchone() == (PAGE_BYTES[version],)
    world.store.close()


@pytest.mark.parametrize(
    ("index", "joined"), [("part_to_join", False), ("part_block", True), ("part_unsent", False), ("part_unsent", True)]
)
def test_a_part_that_an_index_lacks_is_damage(index: str, joined: bool, tmp_path: Path) -> None:
    path, key = tmp_path / "gateway.db", (1, 3, 1000)
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        row = db.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
    with closing(Store.open(path)) as store:
        store.commit([AppendParts((Part(0, key, payload(*key), joined=joined),))])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    with closing(Store.open(path)) as store, pytest.raises(DamagedError, match="part 1 is not in an index"):
        store.examine(0, 100)
