"""A fleet's store: what was committed comes back, all of a step or nothing, and only files it knows are opened."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from commonwatt.device.changes import (
    BrokerOrder,
    Delete,
    DesiredStates,
    LogRow,
    MeterState,
    NewRecords,
    Replace,
    StoredMeter,
)
from commonwatt.device.store import DeviceStore, open_checked, open_store, reading_store
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import EventRecord, Log, RecordType
from commonwatt.protocol.commands import HeldState, Kind
from commonwatt.sqlite import quarantined_before
from harness.surroundings.messages import a_record
from meter_sim.cli import held_lines, true_lines
from meter_sim.store import TRUTH, FleetChange, Slot, last_slot, true_records

T = 1_790_000_100
STATE = MeterState(meter=5, generation=3, remainders={RecordType.THROUGH: 7}, stopped=True, level=90, made=3)
ORDERS = DesiredStates(
    5,
    (2, 1),
    {Kind.SHARING: HeldState(value="on", epoch=(2, 1), seq=4, until=T, weight=2)},
    {1: [0.5, 7.25]},
    own_s=9.5,
    digest="ab",
)


def row(number: int, slot: int = 0, reading: int = 1, meter: int = 5, kind: int = 3) -> LogRow:
    record = a_record(T + 15 * slot, reading, meter=meter, record_id=number, kind=kind, account=0)
    return LogRow(number, number, record.pack())


def event(number: int) -> LogRow:
    record = EventRecord(previous_state=0, new_state=1, record_id=number, meter_id=5, time=T)
    return LogRow(number, number, record.pack())


def fill(store: DeviceStore) -> None:
    """Make three slots of one meter and one event; the first slot is acknowledged."""
    for slot in range(3):
        made = NewRecords(meter=5, log=Log.HISTORY, generation=3, rows=(row(slot + 1, slot, reading=slot),))
        store.commit([Slot(T + 15 * slot + 15, {5: slot}), made, STATE])
    store.commit(
        [NewRecords(meter=5, log=Log.EVENT, generation=3, rows=(event(1),)), Delete(5, Log.HISTORY, 1), ORDERS]
    )


def meter(store: DeviceStore) -> StoredMeter:
    stored = store.load(5)
    assert stored is not None
    return stored


def test_what_was_committed_comes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    store.close()
    store = open_store(tmp_path / "meters.db", TRUTH)
    stored = meter(store)
    assert (stored.state, stored.desired_states) == (STATE, ORDERS)
    assert stored.history == [row(2, 1, 1), row(3, 2, 2)]
    assert stored.events == [event(1)]
    assert last_slot(store) == Slot(T + 45, {5: 2})
    assert store.load(6) is None
    store.close()


def test_records_made_replaced_and_deleted_in_one_step_leave_what_was_left_last(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    merged = LogRow(2, 3, row(2).data)
    store.commit(
        [
            Slot(T + 15, {}),
            NewRecords(meter=5, log=Log.HISTORY, generation=3, rows=(row(1), row(2), row(3))),
            STATE,
            Replace(meter=5, first_id=2, last_id=3, rows=(merged,)),
            Delete(5, Log.HISTORY, 1),
        ]
    )
    assert meter(store).history == [merged]
    store.close()


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    with pytest.raises(sqlite3.IntegrityError):
        store.commit([Delete(5, Log.HISTORY, 2), NewRecords(meter=5, log=Log.HISTORY, generation=3, rows=(row(3),))])
    stored = store.load(5)
    assert stored is not None
    assert [r.first_id for r in meter(store).history] == [2, 3]
    store.close()


def test_the_truth_keeps_what_was_acknowledged_and_the_dump_does_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    with reading_store(tmp_path / "meters.db") as reader:
        true = [json.loads(line) for line in true_lines(reader)]
        held = [json.loads(line) for line in held_lines(reader)]
    store.close()
    assert [item["kind"] for item in true] == ["block", "event"]
    assert true[0]["values"][:4] == [0, 1, 2, None]
    assert held[0]["values"][:4] == [None, 1, 2, None]
    assert true[0]["quarter"] == T // 900
    assert true[1] == held[1] == {
        "kind": "event", "meter": "5", "generation": 3, "id": "1", "previous": 0, "new": 1, "time": T
    }  # fmt: skip


def test_the_truth_of_meters_with_ids_of_64_bits_is_dumped_by_meter(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    ids = (5, 2**60 + 5, 2**64 - 1)
    made = [
        NewRecords(meter=i, log=Log.HISTORY, generation=3, rows=(row(1, reading=n, meter=i),))
        for n, i in enumerate(ids)
    ]
    store.commit([Slot(T + 15, {}), *made])
    found = [json.loads(line) for line in true_lines(store)]
    assert [(one["meter"], one["values"][0]) for one in found] == [(str(i), n) for n, i in enumerate(ids)]
    store.close()


def test_a_store_is_read_after_its_fleet_has_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    store.close()
    with reading_store(tmp_path / "meters.db") as reader:
        assert len(list(true_lines(reader))) == 2


def test_a_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "meters.db", TRUTH).close()
    connection = sqlite3.connect(tmp_path / "meters.db")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StoreError, match="of version 2; this release knows 1"):
        open_store(tmp_path / "meters.db", TRUTH)


def test_what_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(tmp_path / "text.db", TRUTH)
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreError, match="not of meters"):
        open_store(tmp_path / "other.db", TRUTH)
    with pytest.raises(StoreError), reading_store(tmp_path / "none.db"):
        pass


def test_a_commit_that_failed_and_is_there_all_the_same_is_made_again(tmp_path: Path) -> None:
    """As after a failed sync: an error, and the frames are in the log when the file is opened again."""
    store = open_store(tmp_path / "meters.db", TRUTH)
    changes: list[FleetChange] = [
        Slot(T + 15, {5: 1}),
        NewRecords(meter=5, log=Log.HISTORY, generation=3, rows=(row(1), row(2))),
        NewRecords(meter=5, log=Log.EVENT, generation=3, rows=(event(1),)),
        Replace(meter=5, first_id=1, last_id=2, rows=(LogRow(1, 2, row(1).data),)),
    ]
    store.commit(changes)
    store._failed = True
    store.commit(changes)
    assert [r.last_id for r in store._rows(5, Log.HISTORY)] == [2]
    assert list(true_records(store)) == [(T + 15, row(1).data + row(2).data)]
    with pytest.raises(sqlite3.IntegrityError):
        store.commit(changes)
    store.close()


@pytest.mark.parametrize("spoil", [slice(0, 16), slice(4096, 4300)], ids=["header", "page"])
def test_a_damaged_store_is_set_aside_and_a_sound_one_is_not(tmp_path: Path, spoil: slice) -> None:
    path = tmp_path / "meters.db"
    store = open_checked(path, 100, TRUTH)
    fill(store)
    store.close()
    open_checked(path, 200, TRUTH).close()
    assert quarantined_before(path) == []
    data = bytearray(path.read_bytes())
    data[spoil] = b"\xff" * (spoil.stop - spoil.start)
    path.write_bytes(data)
    store = open_checked(path, 300, TRUTH)
    assert last_slot(store) is None, "a new one"
    store.close()
    assert [quarantined.read_bytes() == data for quarantined in quarantined_before(path)] == [True]


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE orders SET held = '{\"sharing'",
        "UPDATE epoch_raise SET raises = '[]'",
        "INSERT INTO broker_order VALUES (5, '{')",
        "UPDATE meter SET remainders = '[]'",
        "UPDATE slot SET levels = CAST(x'7B22CE' AS TEXT)",
    ],
)
def test_a_store_with_content_that_cannot_be_read_is_set_aside(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "meters.db"
    store = open_checked(path, 100, TRUTH)
    fill(store)
    store.connection.execute(spoil)
    store.close()
    store = open_checked(path, 200, TRUTH)
    assert store.load(5) is None
    store.close()
    assert len(quarantined_before(path)) == 1


def test_desired_states_of_a_later_release_are_left_out(tmp_path: Path) -> None:
    store = open_checked(tmp_path / "meters.db", 100, TRUTH)
    fill(store)
    held = {**json.loads(store.connection.execute("SELECT held FROM orders").fetchone()[0]), "later": {"value": "on"}}
    store.connection.execute("UPDATE orders SET held = ?", (json.dumps(held),))
    store.close()
    store = open_checked(tmp_path / "meters.db", 200, TRUTH)
    assert meter(store).desired_states == ORDERS
    store.close()


def test_a_store_of_an_earlier_release_has_no_raises_and_gets_the_table(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    store.connection.execute("DROP TABLE epoch_raise")
    store.close()
    with reading_store(tmp_path / "meters.db") as reader:
        assert [len(lines) for lines in (list(true_lines(reader)), list(held_lines(reader)))] == [2, 2]
    store = open_checked(tmp_path / "meters.db", 200, TRUTH)
    assert meter(store).desired_states == DesiredStates(5, (2, 1), ORDERS.held)
    store.commit([ORDERS])
    store.close()
    assert quarantined_before(tmp_path / "meters.db") == []


def test_the_newest_order_of_brokers_comes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "meters.db", TRUTH)
    fill(store)
    store.commit([BrokerOrder(5, ("r002", "r001")), BrokerOrder(5, ("r003",))])
    store.close()
    store = open_checked(tmp_path / "meters.db", 200, TRUTH)
    assert meter(store).order == ("r003",)
    store.connection.execute("DROP TABLE broker_order")
    assert meter(store).order == ()
    store.close()


def test_damage_in_a_large_table_is_found_at_the_opening_after_a_commit_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonwatt.sqlite.SMALL_BYTES", 0)
    path = tmp_path / "meters.db"
    store = open_checked(path, 100, TRUTH)
    fill(store)
    (root,) = store.connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'truth'").fetchone()
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * (root - 1) : 4096 * root] = bytes(4096)
    path.write_bytes(data)
    store = open_checked(path, 200, TRUTH)
    made = NewRecords(meter=5, log=Log.HISTORY, generation=3, rows=(row(9, 9),))
    with pytest.raises(sqlite3.DatabaseError):
        store.commit([Slot(T + 150, {}), made])
    store.close()
    store = open_checked(path, 300, TRUTH)
    store.commit([Slot(T + 150, {}), made])
    store.close()
    assert len(quarantined_before(path)) == 1
    open_checked(path, 400, TRUTH).close()
    assert sorted(p.name for p in tmp_path.iterdir() if "damaged" not in p.name) == ["meters.db"]


def test_a_store_whose_log_has_a_damaged_header_is_set_aside(tmp_path: Path) -> None:
    """SQLite would take the log for empty, and the meters give numbers again that they gave before."""
    fill(live := open_checked(tmp_path / "live.db", 100, TRUTH))
    path = tmp_path / "meters.db"
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"meters.db{suffix}")
    live.close()
    log = tmp_path / "meters.db-wal"
    data = bytearray(log.read_bytes())
    data[16] ^= 1
    log.write_bytes(data)
    store = open_checked(path, 300, TRUTH)
    assert last_slot(store) is None, "a new one"
    store.close()
    assert len(quarantined_before(path)) == 1


@pytest.mark.parametrize("cut_log", [False, True])
def test_a_newer_release_s_store_is_not_set_aside(tmp_path: Path, *, cut_log: bool) -> None:
    path, live = tmp_path / "meters.db", tmp_path / "live.db"
    open_store(live, TRUTH).close()
    connection = sqlite3.connect(live)
    connection.execute("PRAGMA user_version = 2")
    connection.execute("PRAGMA wal_checkpoint")
    connection.execute("INSERT INTO truth VALUES (1, x'')")
    connection.execute("INSERT INTO truth VALUES (2, x'')")
    connection.commit()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"meters.db{suffix}")
    connection.close()
    log = tmp_path / "meters.db-wal"
    if cut_log:
        data = bytearray(log.read_bytes())
        data[16] ^= 1
        log.write_bytes(data)
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(StoreError, match=r"of version 2; .* Install the newer release again"):
        open_checked(path, 100, TRUTH)
    assert quarantined_before(path) == []
    if cut_log:
        assert (path.read_bytes(), log.read_bytes()) == before, "the newer release finds what it left"
