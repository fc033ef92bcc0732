"""Row 5 of the faults: what rots in a gateway's store is found, quarantined, and refilled from where it still is."""

import errno
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import commonwatt.sqlite
from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import Blocks, from_records
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import QUARTER_S, ByteCount
from commonwatt.sqlite import LOG_BYTES, is_damage, quarantined_before, ready_of
from gateway.events import LineCounted
from gateway.relay.outbox import load
from gateway.store.changes import AVERAGED, DONE, OFFERED, UNSENT, DropDamaged, Setting
from gateway.store.recovery import open_checked, replace
from gateway.store.store import GoneError, Store
from gateway.store.tables import SCHEMA_VERSION, state_of
from harness.surroundings.gateway import START, World, batches, readings

FIRST_SCHEMA = Path(__file__).parents[2] / "databases" / "gateway_v0001.sql"
METERS = (1, 2, 3)
PUTS = 8
FLIPS = int(os.environ.get("GATEWAY_FLIPS", "70"))  # bits; ``make soak`` flips more

Values = dict[tuple[int, int, int], dict[int, int]]
Events = dict[tuple[int, int, int], EventRecord]


class Reference:
    """What was put, block by block and slot by slot, and every event."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.events: Events = {}

    def fill(self, world: World) -> None:
        """Put a few quarters of readings; half of them are relayed, acknowledged and joined."""
        for n in range(PUTS):
            if n == PUTS // 2:
                self._relay(world)
            world.now = START + (n + 1) * 300
            for meter in METERS:
                records = readings(meter, n * 20 + 1, 20, start=START + n * 300, value=1000 * n + meter)
                assert world.put(meter, n * 20 + 1, records).accepted
                merge(self.values, slots(from_records(records)))
                event = EventRecord(
                    previous_state=n % 2, new_state=1 - n % 2, record_id=n + 1, meter_id=meter, time=START + n * 300
                )
                world.put(meter, n + 1, [event])
                self.events[meter, 1, n + 1] = event
        for meter in METERS:
            world.introduce(meter)
            world.level(meter, 80 if meter == 1 else 20)

    @staticmethod
    def _relay(world: World) -> None:
        world.tick("relay_s")
        for batch in batches(world.sent):
            world.acknowledge(batch)
        world.now += 2 * QUARTER_S
        world.tick("compact_s")

    def check(self, values: Values, events: Events) -> None:
        """Everything is what was put."""
        for key, found in values.items():
            assert found.items() <= self.values.get(key, {}).items(), f"block {key} holds what nobody measured"
        assert events.items() <= self.events.items(), "an event that nobody sent"


def slots(blocks: Blocks) -> Values:
    return {
        blocks.key(row): {slot: int(blocks.values[row, slot]) for slot in blocks.quality[row].nonzero()[0].tolist()}
        for row in range(len(blocks))
    }


def merge(into: Values, new: Values) -> None:
    for key, values in new.items():
        into.setdefault(key, {}).update(values)


class Damaged(World):
    """A gateway whose store fails as a rotten one does, and is opened again as the shell does it."""

    def boot(self) -> None:
        self.quarantined = 0
        super().boot()

    def open(self) -> Store:
        store, recovery = open_checked(self.path, self.now)
        self.quarantined += recovery is not None
        return store

    def go_on(self, work: Callable[[], object]) -> None:
        """Do something; if the store fails, open it again as the shell does, once, and do it again."""
        for _ in range(3):
            try:
                work()
            except sqlite3.Error as error:
                self.store.close()
                if is_damage(error):
                    self.store, _ = replace(self.path, self.now, str(error), None)
                    self.quarantined += 1
                else:
                    self.store = self.open()
                self.new_core()
            else:
                return
        raise AssertionError("the store fails again and again")

    def relay_all(self) -> tuple[Values, Events]:
        """Relay and acknowledge until nothing is left; return what the utility got."""
        values: Values = {}
        events: Events = {}
        for _ in range(20):
            self.sent.clear()
            self.now += 300
            self.go_on(lambda: self.tick("retry"))
            self.go_on(lambda: self.tick("relay_s"))
            self.go_on(lambda: self.tick("compact_s"))
            sent = batches(self.sent)
            while sent:
                batch = sent.pop()
                if batch.keys or batch.events:
                    merge(values, slots(unpack(batch.keys, batch.payloads)))
                    events |= {(e.meter_id, g, e.record_id): e for g, e in batch.events}
                self.sent.clear()
                self.go_on(lambda batch=batch: self.acknowledge(batch))  # type: ignore[misc]
                sent += batches(self.sent)
            if self.store.backlog() == (0, 0, 0):
                return values, events
        raise AssertionError(f"the backlog does not drain: {self.store.backlog()}")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    """A store as a kill leaves it, all in its log; the same after a checkpoint, all in the file; what is in it."""
    folder = tmp_path_factory.mktemp("filled")
    world, reference = World(folder / "gateway.db"), Reference()
    reference.fill(world)
    for name in ("log", "file"):
        (folder / name).mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"gateway.db{suffix}", folder / name / f"gateway.db{suffix}")
        world.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    world.store.close()
    return folder, reference


def flip(path: Path, rng: random.Random) -> int:
    """Flip one bit of a file; return which."""
    data = bytearray(path.read_bytes())
    bit = rng.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return bit


@pytest.mark.parametrize(("kept", "suffix", "flips"), [("file", "", FLIPS), ("log", "-wal", FLIPS // 2)])
def test_row_05_a_flipped_bit_never_becomes_a_wrong_value(
    filled: tuple[Path, Reference], kept: str, suffix: str, flips: int, tmp_path: Path
) -> None:
    source, reference = filled
    rng = random.Random(f"flips{suffix}")
    outcomes: Counter[str] = Counter()
    for number in range(flips):
        folder = shutil.copytree(source / kept, tmp_path / str(number))
        flip(folder / f"gateway.db{suffix}", rng)
        outcomes[survive(folder, reference)] += 1
        shutil.rmtree(folder)
    assert outcomes["lost"] == 0, outcomes
    assert outcomes["quarantined"] > 0, outcomes
    if kept == "log":
        assert outcomes["harmless"] <= flips / 10, "nearly every frame of it was in force"


def survive(folder: Path, reference: Reference) -> str:
    """Let a gateway work on a damaged store, and check every value that leaves it, or stays."""
    world = Damaged(folder / "gateway.db")
    world.now = START + PUTS * 300 + QUARTER_S
    values, events = world.relay_all()
    reference.check(values, events)
    held = slots(load(list(world.store.all_parts(unsent_only=False))))
    reference.check(held, {(e.meter_id, g, e.record_id): e for g, e in world.store.all_events(unsent_only=False)})
    # What is gone is reported by its slots when the utility asks for it.
    asked = [(str(meter), kind, quarter, f"{2**60 - 1:x}") for meter, kind, quarter in reference.values]
    _, outcome = world.ask(cmd="get", blocks=asked)
    absent = {(int(m), t, q): 60 - int(mask, 16).bit_count() for m, t, q, mask in outcome.absent or ()}
    assert {key: absent.get(key, 60) for key in reference.values} == {
        key: len(held.get(key, {})) for key in reference.values
    }
    # Collecting goes on: what a meter holds a day later is taken in, durably.
    world.now = START + 2 * 86_400
    assert world.put(1, 1001, readings(1, 1001, 4, start=START + 86_400), generation=2).accepted
    world.store.close()
    if world.quarantined:
        assert quarantined_before(folder / "gateway.db")
        return "quarantined"
    if world.core.upkeep.damaged:
        return "rows moved away"
    return "harmless" if held == reference.values else "lost"


def test_an_undamaged_log_is_left_alone(filled: tuple[Path, Reference], tmp_path: Path) -> None:
    folder = shutil.copytree(filled[0] / "log", tmp_path / "killed")
    world = Damaged(folder / "gateway.db")
    assert not world.quarantined
    assert slots(load(list(world.store.all_parts(unsent_only=False)))) == filled[1].values


def test_a_damaged_log_costs_no_more_than_its_damaged_page(filled: tuple[Path, Reference], tmp_path: Path) -> None:
    folder = shutil.copytree(filled[0] / "log", tmp_path / "killed")
    flip(folder / "gateway.db-wal", random.Random(5))
    world = Damaged(folder / "gateway.db")
    assert world.quarantined == 1
    held = slots(load(list(world.store.all_parts(unsent_only=False))))
    assert sum(map(len, held.values())) > 0.9 * sum(map(len, filled[1].values.values()))
    assert world.store.store_id != int(World(filled[0] / "gateway.db").store.setting("store_id") or 0)


@pytest.mark.parametrize("bit", range(3, 32 * 8, 57))
def test_a_log_with_a_damaged_header_counts_as_lost_and_nothing_else(
    bit: int, filled: tuple[Path, Reference], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(filled[0] / "log", tmp_path / "killed")
    log = folder / "gateway.db-wal"
    data = bytearray(log.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    log.write_bytes(data)
    assert survive(folder, filled[1]) == "quarantined"
    assert "the header of its log, all of which is lost" in caplog.text


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("event", "new = 4711"),
        ("event", "meter = 99"),
        ("part", "quarter = quarter + 1"),
        ("part", "meter = 'x'"),
        ("part", "payload = zeroblob(30)"),
        ("part", "type = 300"),
        ("meter", "minimum_percent = 7"),
        ("desired", "seq = 9"),
        ("coverage", "first = 'x'"),
        ("period", "period = 0"),
    ],
)
def test_a_damaged_row_is_moved_away_and_does_not_stop_the_rest(world: World, table: str, change: str) -> None:
    for meter in (1, 2):
        world.put(meter, 1, readings(meter, 1, 4))
        world.put(meter, 1, [EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=meter, time=START)])
        world.introduce(meter)
    world.level(1, 80)
    world.level(2, 20)
    world.tick("compact_s")
    world.store._db.execute(f"UPDATE {table} SET {change} WHERE rowid = (SELECT min(rowid) FROM {table})")
    world.crash()
    world.store.check(10**12)
    for _ in range(3):
        world.now += 300
        sent = world.tick("retry") + world.tick("relay_s")
        for batch in batches(sent):
            world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)
    assert world.core.upkeep.damaged == {table: 1}
    assert [
        (dead_letter.reason, dead_letter.content.startswith(f"('{table}'".encode()))
        for dead_letter in world.store.dead_letters()
    ] == [(200, True)]


def test_a_store_deleted_under_a_running_gateway_is_written_anew_from_the_open_one(tmp_path: Path) -> None:
    world, reference = World(tmp_path / "gateway.db"), Reference()
    reference.fill(world)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"gateway.db{suffix}").unlink()
    with pytest.raises(GoneError, match="deleted"):
        world.put(1, 10_001, readings(1, 10_001, 4))
    store, recovery = replace(world.path, world.now, "gone", world.store)
    assert recovery.quarantined is None
    assert slots(load(list(store.all_parts(unsent_only=False)))) == reference.values
    assert {(e.meter_id, g, e.record_id): e for g, e in store.all_events(unsent_only=False)} == reference.events
    assert store.coverage(1, Log.HISTORY, 1) == [(1, PUTS * 20)]
    store.close()


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    for number in range(5):
        path.write_bytes(b"no database" * 1000)
        store, recovery = open_checked(path, START + number)
        store.close()
        assert recovery is not None
        assert recovery.quarantined == quarantined_before(path)[-1]
        assert recovery.quarantined.read_bytes().startswith(b"no database")
    assert len(quarantined_before(path)) == 3, "bounded"


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customer (name TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a gateway's"):
        open_checked(path, START)
    assert path.read_bytes() == before
    assert quarantined_before(path) == []


@pytest.mark.parametrize("flipped", [None, 16, 1200])
def test_a_store_of_a_later_release_is_refused_and_stays_as_it_is(
    filled: tuple[Path, Reference], tmp_path: Path, flipped: int | None
) -> None:
    live, path, later = tmp_path / "live.db", tmp_path / "gateway.db", SCHEMA_VERSION + 1
    shutil.copy(filled[0] / "file" / "gateway.db", live)
    store = Store.open(live)
    store.connection.execute("CREATE TABLE later (x)")
    store.connection.execute(f"PRAGMA user_version = {later}")
    store.commit([Setting("schema", str(later))])
    for number in range(3):
        store.commit([Setting("epoch", f"{number},0")])
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"gateway.db{suffix}")
    store.close()
    log = tmp_path / "gateway.db-wal"
    if flipped is not None:
        # All of it is in the file, and what goes on in the log is damaged.
        shutil.copy(live, path)
        data = bytearray(log.read_bytes())
        data[flipped] ^= 1
        log.write_bytes(data)
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(StoreError, match=f"schema {later}, but this release knows {SCHEMA_VERSION}; install"):
        open_checked(path, START)
    assert quarantined_before(path) == []
    if flipped is not None:
        assert (path.read_bytes(), log.read_bytes()) == before


def test_a_store_of_the_first_schema_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    _make(path, FIRST_SCHEMA.read_text())
    world = Damaged(path)
    assert world.quarantined == 0, "nothing of it is damaged"
    _is_the_first(world)
    assert world.store.store_id == 6290965058799535099
    assert world.store.coverage(1, Log.HISTORY, 1) == [(1, 500)]
    world.handle(LineCounted("utility", "a", ByteCount()))
    world.handle(LineCounted("utility", "a", ByteCount(5, 6)))
    world.crash()
    assert world.quarantined == 0
    assert world.controller.line.month(world.now) is not None, "what is new is kept in it, too"
    world.store.close()


def test_a_store_of_the_first_release_keeps_its_pages_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    _make(path, FIRST_SCHEMA.read_text())
    store, recovery = open_checked(path, START)
    store.commit([Setting("epoch", "5,0")])
    assert recovery is None
    assert _version_and_page(store) == (1, 4096), "the release before opens it, too"
    store.close()
    content = bytearray(path.read_bytes())
    content[100:512] = bytes(412)
    path.write_bytes(content)
    world = Damaged(path)
    assert world.quarantined == 1
    _is_the_first(world)
    assert _version_and_page(world.store) == (4, 512)
    world.store.close()


def _version_and_page(store: Store) -> tuple[int, ...]:
    return tuple(store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "page_size"))


def _make(path: Path, sql: str) -> None:
    made = sqlite3.connect(path)
    made.executescript(sql)
    made.close()


def _is_the_first(world: Damaged) -> None:
    """All that stands in the dump is there."""
    assert world.store.backlog() == (3, 1, 1)
    assert [part.relayed for part in world.store.all_parts(unsent_only=False)].count(DONE) == 1
    assert (world.store.setting("utility_store"), world.store.setting("epoch")) == ("123", "5,0")
    assert world.core.manager.epochs.own == (5, 0)
    assert [desired.seq for desired in world.store.desired()] == [3]
    assert [meter.minimum_percent for meter in world.store.meters()] == [50]
    assert world.store.period("relay_s") == 29_700_000


class Kills:
    """Keeps a copy of a folder at every step that changes something in it: what a kill there leaves."""

    def __init__(self, folder: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: list[tuple[str, Path]] = []
        self._folder = folder
        self._copies = copies
        for of, name in (
            (Path, "rename"),
            (Path, "unlink"),
            (commonwatt.sqlite, "sync_folder"),
            (Store, "add_recovered"),
            (Store, "commit"),
            (Store, "complete"),
            (Store, "close"),
        ):
            monkeypatch.setattr(of, name, self._copying(name, getattr(of, name)))

    def _copying(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            done = real(*arguments, **options)
            copy = self._copies / str(len(self.left))
            shutil.copytree(self._folder, copy)
            self.left.append((f"{name} {arguments}", copy))
            return done

        return step


@pytest.mark.parametrize("what", ["log", "file", "gone", "gone, not its log"])
def test_a_kill_at_any_step_of_a_replacement_loses_nothing_that_was_recovered(
    filled: tuple[Path, Reference], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reference = filled
    folder = shutil.copytree(source / ("file" if what == "file" else "log"), tmp_path / "live")
    path, gone = folder / "gateway.db", what.startswith("gone")
    old = Store.open(path) if gone else None
    for number in range(3):
        (folder / f"gateway.db.damaged-20200101T00000{number}Z").write_bytes(b"an older one")
    for suffix in {"gone": ("", "-wal", "-shm"), "gone, not its log": ("",)}.get(what, ()):
        (folder / f"gateway.db{suffix}").unlink()
    with monkeypatch.context() as patch:
        kills = Kills(folder, tmp_path, patch)
        store, recovery = replace(path, START, "test", old)
    assert (recovery.quarantined is None) == gone
    store.close()
    assert len(kills.left) > 10
    safe = not gone
    for step, left in kills.left:
        # While the only copy is the open one of a file that is gone, a kill takes it along.
        safe = safe or ready_of(left / "gateway.db").exists()
        if not safe:
            continue
        store, _ = open_checked(left / "gateway.db", START + 60)
        assert slots(load(list(store.all_parts(unsent_only=False)))) == reference.values, step
        store.close()
        assert not list(left.glob("*.ready*")), step
        assert not list(left.glob("*.new*")), step
        assert len(quarantined_before(left / "gateway.db")) <= 3, step
    assert safe


@pytest.mark.parametrize("disk_space_after", [1, 3, 4])
def test_on_a_full_disk_older_damaged_stores_give_way_and_then_the_backup(
    filled: tuple[Path, Reference], disk_space_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(filled[0] / "log", tmp_path / "killed")
    path, tries, rebuild = folder / "gateway.db", 0, commonwatt.sqlite.rebuild
    for number in range(2):
        (folder / f"gateway.db.damaged-20200101T00000{number}Z").write_bytes(b"an older one")
    flip(folder / "gateway.db-wal", random.Random(5))

    def full(*arguments: object) -> None:
        nonlocal tries
        tries += 1
        if tries <= disk_space_after:
            raise OSError(errno.ENOSPC, "No space left on device")
        rebuild(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(commonwatt.sqlite, "rebuild", full)
    if disk_space_after == 4:
        with pytest.raises(StoreError, match="no space for the recovered store"):
            open_checked(path, START)
        assert path.exists()
        assert not list(folder.glob("*.new*"))
        assert not list(folder.glob("*.image*"))
        return
    store, recovery = open_checked(path, START)
    assert recovery is not None
    assert len(quarantined_before(path)) == (2 if disk_space_after == 1 else 1)
    notes = Counter(part.relayed for part in store.all_parts(unsent_only=False))
    assert notes[UNSENT] > 0
    assert (notes[DONE] > 0) == (disk_space_after == 1)
    store.close()


def test_a_damaged_row_that_was_replaced_meanwhile_stays(world: World) -> None:
    world.introduce(1, minimum=50)
    world.store._db.execute("UPDATE meter SET minimum_percent = 7")
    assert world.store.meters() == []
    ((table, row),) = world.store.damaged
    world.introduce(1, minimum=60)
    world.store.commit([DropDamaged(table, row)])
    assert [info.minimum_percent for info in world.store.meters()] == [60]
    assert not world.store.damaged


def test_a_log_that_grew_under_a_reader_is_cut_back(world: World) -> None:
    log = world.path.with_name("gateway.db-wal")
    reader = sqlite3.connect(world.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM part").fetchone()
    world.store._db.execute("CREATE TABLE filler (data BLOB)")
    world.store._db.execute("INSERT INTO filler VALUES (zeroblob(?))", (LOG_BYTES * 2,))
    assert log.stat().st_size > LOG_BYTES * 2
    reader.close()
    world.store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    world.introduce(1)
    assert log.stat().st_size <= LOG_BYTES


@pytest.mark.parametrize("state", [UNSENT, OFFERED, AVERAGED, DONE])
def test_no_single_bit_makes_one_note_of_what_was_acknowledged_another(state: int) -> None:
    flipped = {state ^ 1 << bit for bit in range(8)}
    assert not flipped & {UNSENT, OFFERED, AVERAGED, DONE}
    assert {state_of(number) for number in (*flipped, None, "", b"")} == {OFFERED}


def test_an_unsent_row_whose_note_is_damaged_is_sent_all_the_same(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.put(1, 1, [EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=START)])
    world.store._db.execute("UPDATE part SET relayed = 1")
    world.store._db.execute("UPDATE event SET relayed = 1")
    (batch,) = batches(world.tick("relay_s"))
    assert (len(batch.keys), len(batch.events)) == (1, 1)


def test_the_backup_is_looked_through_slice_by_slice(world: World) -> None:
    world.now += 41 * QUARTER_S
    for n in range(40):
        world.put(1, n * 30 + 1, readings(1, n * 30 + 1, 30, start=START + n * QUARTER_S))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    world.store._db.execute("UPDATE part SET payload = zeroblob(30) WHERE id = 33")
    world.now += 60
    world.tick("retry")
    assert world.core.upkeep.damaged == {"part": 1}
    assert len(list(world.store.all_parts(unsent_only=False))) == 39
