"""The disks of the worlds: what a power cut, a full disk and rot leave of SQLite's files, and that it is noticed."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.world.disks import Disk, over


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with over():
        disk = Disk(tmp_path / "disk", random.Random(1))
        yield disk
        disk.close()


def opened(disk: Disk, synchronous: str = "FULL") -> sqlite3.Connection:
    db = sqlite3.connect(disk.folder / "a.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, filling BLOB)")
    return db


def written(db: sqlite3.Connection, first: int, number: int) -> None:
    for n in range(first, first + number):
        db.execute("INSERT INTO t VALUES (?, randomblob(900))", (n,))


def after_cut(disk: Disk, db: sqlite3.Connection) -> list[int]:
    """Cut the power, unless it is off, and return what a new process finds."""
    disk.cut_power()
    db.close()
    disk.restore_power()
    with closing(opened(disk)) as again:
        assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [n for (n,) in again.execute("SELECT n FROM t ORDER BY n")]


def test_what_is_synced_survives_and_what_is_not_may_be_lost(disk: Disk) -> None:
    db = opened(disk)
    written(db, 0, 20)
    assert after_cut(disk, db) == list(range(20))
    lost = 0
    for _ in range(20):
        db = opened(disk, "OFF")
        before = db.execute("SELECT count(*) FROM t").fetchone()[0]
        written(db, before, 5)
        found = after_cut(disk, db)
        assert found == list(range(len(found)))
        lost += before + 5 - len(found)
    assert lost, "without syncs no cut took anything"


def test_a_commit_in_whose_sync_the_power_goes_off_is_there_or_not(disk: Disk) -> None:
    seen = set()
    for n in range(30):
        db = opened(disk)
        db.execute("DELETE FROM t")
        written(db, 0, n)
        disk.cut_power(syncs=1)
        written(db, n, 1)
        assert disk.cut
        found = after_cut(disk, db)
        assert found in (list(range(n)), list(range(n + 1)))
        seen.add(len(found) - n)
    assert seen == {0, 1}


def test_a_full_disk_refuses_what_grows_until_there_is_room(disk: Disk) -> None:
    with closing(opened(disk)) as db:
        disk.full = True
        with pytest.raises(sqlite3.OperationalError, match="full"):
            written(db, 0, 1000)
        disk.full = False
        written(db, 1000, 10)


def test_rot_flips_one_bit_of_a_file(disk: Disk) -> None:
    with closing(opened(disk)) as db:
        written(db, 0, 50)
    (path,) = disk.folder.iterdir()
    before = path.read_bytes()
    assert disk.rot().endswith("of a.db")
    apart = [a ^ b for a, b in zip(before, path.read_bytes(), strict=True) if a != b]
    assert [each.bit_count() for each in apart] == [1]


def test_files_elsewhere_are_left_alone(disk: Disk, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        disk.full = True
        db.execute("CREATE TABLE t (n)")
    assert not disk.files
