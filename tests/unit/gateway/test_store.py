"""A gateway's store: its backup, older versions, its release to a new controller, and its way back to 0.3."""

import json
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from commonwatt.codec.packing import pack
from commonwatt.device.commands import EpochGuard
from commonwatt.device.sessions import Brokers, MeterBroker
from commonwatt.model.blocks import from_records, join
from commonwatt.model.effects import Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord, HistoryRecord, Log
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.runtime.service import only_one
from commonwatt.sqlite import DamagedError
from gateway.cli import app
from gateway.control.epochs import Epochs
from gateway.store.changes import (
    AVERAGED,
    DONE,
    OFFERED,
    UNSENT,
    AddDeadLetters,
    AppendParts,
    Desired,
    DropBackup,
    MeterInfo,
    Offered,
    Part,
    PeriodDone,
    Relayed,
    Setting,
    Upkeep,
)
from gateway.store.downgrade import FURTHER, downgrade
from gateway.store.released import open_in_use, release
from gateway.store.store import Store
from gateway.store.tables import PAGE_BYTES, schema
from harness.surroundings.gateway import START, World, batches, blocks_of, readings

parts = st.lists(st.tuples(st.integers(1000, 1020), st.sampled_from([UNSENT, OFFERED, AVERAGED, DONE, DONE, DONE])))


@settings(max_examples=30, deadline=None)
@given(made=parts.filter(bool), pages=st.integers(25, 120))
def test_the_oldest_acknowledged_goes_first_and_nothing_else_goes(made: list[tuple[int, int]], pages: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "gateway.db")
        store._db.execute("PRAGMA synchronous = OFF")
        payload = bytes(1900)
        rows = tuple(Part(0, (1, 3, quarter), payload, relayed) for quarter, relayed in made)
        store.commit([AppendParts(rows)])
        upkeep = Upkeep(store, pages * 4096)
        kept = set(range(1, len(made) + 1))
        while drop := upkeep._drop(step=3) if store.used_bytes() > pages * 4096 else None:
            (effect,) = drop
            assert isinstance(effect, Write)
            assert isinstance(effect.change, DropBackup)
            gone = set(effect.change.parts)
            assert all(made[number - 1][1] == DONE for number in gone), "acknowledged"
            kept -= gone
            left = [made[number - 1][0] for number in kept if made[number - 1][1] == DONE]
            assert max(made[number - 1][0] for number in gone) <= min(left, default=10**6), "oldest first"
            store.commit([effect.change])
        numbers = {number for (number,) in store._db.execute("SELECT id FROM part")}
        assert numbers == kept
        within = store.used_bytes() <= pages * 4096
        assert within or not any(made[number - 1][1] == DONE for number in numbers), "the limit holds"
        store.close()


def test_a_running_gateway_drops_what_is_above_the_limit_a_slice_at_a_turn(world: World) -> None:
    world.now += 61 * 900
    for n in range(60):
        world.put(1, n * 30 + 1, readings(1, n * 30 + 1, 30, start=START + n * 900))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    world.put(1, 2001, readings(1, 2001, 4, start=START))
    world.core.upkeep = Upkeep(world.store, 1)
    world.tick("retry")
    assert world.core.upkeep.dropped == 60
    assert [part.key[2] for part in world.store.all_parts(unsent_only=False)] == [START // 900]


def test_letters_and_events_go_too_once_they_are_acknowledged(world: World) -> None:
    """Else one meter whose records are all bad, or that makes events without end, fills the disk for good."""
    for n in range(20):
        assert world.put(1, n + 1, readings(2, n + 1, 1)).rejected
        event = EventRecord(previous_state=0, new_state=1, record_id=n + 1, meter_id=1, time=START)
        assert world.put(1, n + 1, [event]).accepted
    world.put(1, 101, readings(1, 101, 4))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)
    world.put(1, 201, readings(2, 201, 1))
    world.put(1, 201, [EventRecord(previous_state=0, new_state=1, record_id=201, meter_id=1, time=START)])
    world.core.upkeep = Upkeep(world.store, 1)
    gone: list[tuple[int, int, int]] = []
    for _ in range(4):
        world.now += 5
        world.do(world.core.upkeep.turn())
        left = (len(world.store.dead_letters()), len(list(world.store.all_parts(unsent_only=False))))
        gone.append((*left, len(list(world.store.all_events(unsent_only=False)))))
    assert gone == [(1, 1, 21), (1, 0, 21), (1, 0, 1), (1, 0, 1)], "the unacknowledged stay"


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


stored_parts = st.lists(
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
@given(made=stored_parts, limit=st.integers(1, 12))
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
        coarse = {
            key
            for key, of_block in by_block.items()
            if any(part.joined or part.relayed in (OFFERED, AVERAGED) for part in of_block)
        }
        assert store.coarse_keys(asked) == coarse & set(asked)
        done = sorted((key[2], part.id) for key, found in by_block.items() for part in found if part.relayed == DONE)
        assert store.oldest_backup(limit) == tuple(number for _, number in done[:limit])
        store.close()


def test_every_read_of_parts_uses_an_index_in_a_store_of_each_version(tmp_path: Path) -> None:
    for version in VERSIONS:
        make(tmp_path / f"{version}.db", version)
        with closing(Store.open(tmp_path / f"{version}.db")) as store:
            said: list[str] = []
            store._db.set_trace_callback(said.append)
            store.unsent_parts(1000, 1002, 10, {1}, {7})
            store.block_parts([(1, 3, 1000)])
            store.keys_between(1000, 1002, 10)
            store.coarse_keys([(1, 3, 1000)])
            store.keys_to_compact(1002, 10)
            store.backlog()
            store.unsent_before(1002)
            store.backlog_since(1000)
            store.oldest_backup(10)
            store.commit([Offered(since=1000)])
            store._db.set_trace_callback(None)
            plans = [
                step
                for sql in said
                if " part " in sql
                for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")
                if step.startswith(("SEARCH", "SCAN")) and "json_each" not in step
            ]
            searched = [step for step in plans if " USING INDEX part_" in step and "(quarter" in step]
            assert len(searched) == 14
            # The count of the backlog, and what is oldest of the backup: all of an index, in its order.
            whole = [f"SCAN part USING INDEX part_{index}" for index in ("unsent", "block", "to_join")]
            assert [step for step in plans if step not in searched] == whole


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
    ("index", "joined", "relayed"),
    [
        ("part_to_join", False, DONE),
        ("part_block", True, DONE),
        ("part_unsent", False, UNSENT),
        ("part_unsent", True, OFFERED),
    ],
)
def test_a_part_that_an_index_lacks_is_damage(index: str, joined: bool, relayed: int, tmp_path: Path) -> None:
    path, key = tmp_path / "gateway.db", (1, 3, 1000)
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        row = db.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
    with closing(Store.open(path)) as store:
        store.commit([AppendParts((Part(0, key, payload(*key), relayed, joined),))])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    with closing(Store.open(path)) as store, pytest.raises(DamagedError, match="part 1 is not in an index"):
        store.examine(0, 100)


RELAYED_METER = 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A controller's folder; its store has two minutes of readings, of which the utility acknowledged one."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "gateway.toml").write_text('[gateway]\nmicrogrid = "r001"\n')
    world = World(folder / "gateway.db")
    for n in range(2):
        assert world.put(
            RELAYED_METER, n * 20 + 1, readings(RELAYED_METER, n * 20 + 1, 20, start=START + n * 300)
        ).accepted
    relay(world, 1)
    world.store.close()
    return folder


def relay(world: World, count: int) -> None:
    done = tuple(part.id for part in world.store.all_parts(unsent_only=True))[:count]
    world.store.commit([Relayed(done=done, averaged=(), events=(), dead_letters=(), slots=20 * count)])


def run_release(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["release", "--config", str(folder / "gateway.toml"), *words])


def content(path: Path) -> list[tuple[object, ...]]:
    with closing(Store.open(path)) as store:
        parts = [(part.key, part.payload, part.relayed) for part in store.all_parts(unsent_only=False)]
        return [*parts, *store.coverage(RELAYED_METER, Log.HISTORY, 1), (store.store_id,)]


def test_the_new_controller_goes_on_with_a_copy_and_the_old_one_can_not(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    for _ in range(2):
        done = run_release(old, "--copy", str(new))
        assert (done.exit_code, "wait for the utility: 1" in done.output) == (0, True), done.output
    assert [path.name for path in new.glob("gateway.db*")] == ["gateway.db"], "one file is the whole store"
    open_in_use(new / "gateway.db", START)[0].close()
    assert content(new / "gateway.db") == content(old / "gateway.db")
    with pytest.raises(ConfigError, match=r"was released .*release --undo"):
        open_in_use(old / "gateway.db", START)


def test_the_store_itself_is_no_copy(old: Path) -> None:
    done = run_release(old, "--copy", str(old))
    assert (done.exit_code, "has the store itself" in done.output) == (2, True)
    with pytest.raises(ConfigError, match="was released"):
        open_in_use(old / "gateway.db", START)


def test_a_released_store_is_used_again_if_no_new_controller_started(old: Path) -> None:
    world = World(old / "gateway.db")
    relay(world, 1)
    world.store.close()
    assert "wait for the utility: 0" in run_release(old).output, "it has drained, and needs no copy"
    assert run_release(old, "--undo").exit_code == 0
    open_in_use(old / "gateway.db", START)[0].close()


def test_a_store_that_is_missing_or_was_not_released_is_refused(old: Path) -> None:
    done = run_release(old, "--undo")
    assert (done.exit_code, "was not released" in done.output) == (2, True)
    (old / "gateway.db").unlink()
    done = run_release(old)
    assert (done.exit_code, "no store there" in done.output) == (2, True)
    assert not (old / "gateway.db").exists()


MICROGRID, METER = "r001", 1
GRANTED = (7, 1)  # the epoch under which this controller commanded last
HIGHEST = (9, 2)  # a later one of another controller
TABLES = ("part", "event", "letter", "coverage", "meter", "desired", "period")


def outcome(result: str) -> dict[str, object]:
    return {"id": result, "cmd": "schedule", "result": result, "time": START}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A controller's folder; its store has something in every table, and what 0.3 does not know."""
    (tmp_path / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{MICROGRID}"\n')
    world = World(tmp_path / "gateway.db")
    for n in range(3):
        assert world.put(METER, n * 20 + 1, readings(METER, n * 20 + 1, 20, start=START + n * 300)).accepted
    event = EventRecord(previous_state=0, new_state=0x81, record_id=1, meter_id=METER, time=START)
    world.put(METER, 1, [event])
    first = next(iter(world.store.all_parts(unsent_only=True)))
    letter = DeadLetter(meter=METER, log=1, reason=3, generation=1, record_id=5, time=START, content=b"x")
    sharing = Desired(meter=METER, kind=Kind.SHARING, value="on", epoch=GRANTED, seq=3, until=START + 600)
    limit = Desired(meter=METER, kind=Kind.IMPORT_LIMIT, value="500", epoch=GRANTED, seq=1, until=START + 600)
    period = Desired(meter=METER, kind=Kind.PUT_PERIOD, value="300", epoch=GRANTED, seq=1, until=None)
    info = MeterInfo(meter=METER, push=True, minimum_percent=50, capacity=10_000, time=START)
    outcomes = {result: outcome(result) for result in ("done", "unsupported")}
    world.store.commit(
        [
            Relayed(done=(first.id,), averaged=(), events=(), dead_letters=(), slots=20),
            *(AddDeadLetters((letter,)), sharing, limit, period, info, PeriodDone("collect_s", 5)),
            *(Setting("utility_store", "u1"), Setting("starts", "7"), Setting("outcomes", json.dumps(outcomes))),
            Setting(f"clique:{MICROGRID}", ",".join(map(str, (*GRANTED, *HIGHEST)))),
        ]
    )
    world.store.close()
    return tmp_path


def downgraded(folder: Path) -> Result:
    return CliRunner().invoke(app, ["downgrade", "--config", str(folder / "gateway.toml")])


def rows(store: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store)) as connection:
        where = "" if table != "desired" else " WHERE kind != 'put_period'"
        return sorted(connection.execute(f"SELECT * FROM {table}{where}"), key=repr)


def stored_settings(store: Path) -> dict[str, str]:
    return {str(key): str(value) for key, value, _ in rows(store, "setting")}


def test_every_table_is_the_same_and_only_what_0_3_does_not_know_is_changed(folder: Path) -> None:
    store = folder / "gateway.db"
    before, known = {table: rows(store, table) for table in TABLES}, stored_settings(store)
    done = downgraded(folder)
    assert done.exit_code == 0, done.output
    assert all(before.values())
    assert {table: rows(store, table) for table in TABLES} == before
    found = stored_settings(store)
    with closing(sqlite3.connect(store)) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM desired")]
    assert sorted(kinds) == ["import_limit", "sharing"]
    changed = {key for key in known | found if known.get(key) != found.get(key)}
    assert changed == {"epoch", "schema"}


def form(path: Path) -> list[tuple[object, ...]]:
    """Return a store's version and its schema, as 0.3 compares them at its start."""
    with closing(sqlite3.connect(path)) as db:
        schema = db.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY name").fetchall()
        return [*db.execute("PRAGMA user_version"), *schema]


def test_a_store_of_0_3_is_upgraded_when_a_gateway_opens_it_and_goes_back_as_it_was(folder: Path) -> None:
    store, of_0_3 = folder / "gateway.db", folder / "of-0.3.db"
    make(of_0_3, 3)
    assert form(store) != form(of_0_3)
    before = {table: rows(store, table) for table in TABLES}
    for _ in range(2):
        assert downgraded(folder).exit_code == 0
        assert (form(store), stored_settings(store)["schema"]) == (form(of_0_3), "3")
        with closing(sqlite3.connect(store)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "its indexes are those of 0.3, too"
        opened, recovery = open_in_use(store, START)
        opened.check(store.stat().st_size)
        assert (opened.version, recovery, opened.setting("schema")) == (4, None, "4")
        opened.close()
        assert {table: rows(store, table) for table in TABLES} == before


def test_a_number_of_a_part_is_not_used_again_nor_by_0_3(tmp_path: Path) -> None:
    """Else an acknowledgement that comes late would be taken for another part's."""
    key, numbers = (1, 3, 1000), list[int]()
    for _ in range(3):
        with closing(Store.open(tmp_path / "gateway.db")) as store:
            for _ in range(2):
                store.commit([AppendParts((Part(0, key, payload(*key), DONE),))])
                numbers.append(store.newest_part())
                store.commit([DropBackup((numbers[-1],))])
                with pytest.raises(TypeError):
                    store.commit([AppendParts((Part(0, key, payload(*key)),)), "nothing"])  # type: ignore[list-item]
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as db, db:
        sql = "INSERT INTO part (meter, type, quarter, payload, relayed, joined) VALUES (1, 3, 1000, '', 6, 0)"
        numbers.append(int(db.execute(sql).lastrowid or 0))
        db.execute("UPDATE sqlite_sequence SET seq = 1")
    with closing(Store.open(tmp_path / "gateway.db")) as store:
        store.commit([AppendParts((Part(0, key, payload(*key)),))])
        numbers.append(store.newest_part())
    assert (numbers, len(numbers)) == (sorted(set(numbers)), 8)


def test_meters_of_both_releases_obey_the_epoch(folder: Path) -> None:
    downgraded(folder)
    with closing(Store.open(folder / "gateway.db")) as store:
        epoch = Epochs(store, [METER]).of(METER)
    assert epoch == (HIGHEST[0] + FURTHER, 0)
    assert Brokers(METER, [MeterBroker(name=MICROGRID, rank=1)]).why_not(MICROGRID, epoch) is None
    # One that obeyed the last manager, one that was away since the upgrade, and one that heard a later manager.
    for held in (HIGHEST, (1, 0), (HIGHEST[0] + 200, 3), (0, 0)):
        assert EpochGuard(epoch=held).why_not(epoch, 0) is None


def test_a_second_time_changes_nothing(folder: Path) -> None:
    downgraded(folder)
    before = {table: rows(folder / "gateway.db", table) for table in (*TABLES, "setting")}
    done = downgraded(folder)
    assert (done.exit_code, "was already in the form of version 0.3" in done.output) == (0, True)
    assert {table: rows(folder / "gateway.db", table) for table in (*TABLES, "setting")} == before


def test_after_a_second_upgrade_and_takeover_the_epoch_is_above_the_new_ones(folder: Path) -> None:
    downgraded(folder)
    with closing(Store.open(folder / "gateway.db")) as store:
        store.commit([Setting(f"clique:{MICROGRID}", "1500,1,1500,1")])
    assert f"epoch [{1500 + FURTHER}, 0]" in downgraded(folder).output


def test_a_controller_without_a_clique_keeps_its_epoch(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{MICROGRID}"\n')
    with closing(Store.open(tmp_path / "gateway.db")) as store:
        store.commit([Setting("epoch", "4,0")])
    assert "epoch [4, 0]" in downgraded(tmp_path).output


def test_a_released_store_stays_as_it_is(folder: Path) -> None:
    release(folder / "gateway.db", START)
    done = downgraded(folder)
    assert (done.exit_code, "was released" in done.stderr) == (2, True)
    assert form(folder / "gateway.db")[0] == (3,), "else a package of 0.3 would refuse it"
    assert "epoch" not in stored_settings(folder / "gateway.db")


def test_it_refuses_while_the_gateway_runs_and_without_a_store(folder: Path) -> None:
    with only_one(folder / "gateway.db", "a gateway"):
        done = downgraded(folder)
    assert (done.exit_code, "a running gateway" in done.stderr) == (2, True)
    (folder / "gateway.db").unlink()
    done = downgraded(folder)
    assert (done.exit_code, "no store there" in done.stderr) == (2, True)


def test_data_of_another_microgrid_that_waits_here_is_not_left_behind(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "gateway-r002.db"
    world = World(other)
    assert world.put(METER, 1, readings(METER, 1, 20)).accepted
    world.store.close()
    with pytest.raises(ConfigError, match=r"another microgrid wait here .* until `commonwatt status` shows no backlog"):
        downgrade(folder / "gateway.db", MICROGRID, [other], START)
    assert "epoch" not in stored_settings(folder / "gateway.db")
