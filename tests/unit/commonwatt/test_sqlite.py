"""SQLite's log: read as SQLite reads it, further where it is damaged, and written over itself."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from commonwatt.sqlite import LogFrames, open_read_only, read_log, readable_rows, rebuild, write_log_again


def test_log_written_again_is_the_same_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", ((bytes(4000),) for _ in range(500)))
        log = path.with_name("a.db-wal")
        before = log.read_bytes()
        assert len(before) > 1 << 20
        write_log_again(path)
        assert log.read_bytes() == before
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (500,)


def test_no_log_needs_nothing(tmp_path: Path) -> None:
    write_log_again(tmp_path / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_log_that_cant_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "a.db-wal").mkdir()
    with pytest.raises(sqlite3.OperationalError, match=r"a\.db-wal: can't be synced: Is a directory"):
        write_log_again(tmp_path / "a.db")


Rows = list[tuple[int, bytes]]


def killed(folder: Path, name: str) -> Path:
    """A copy of the database as a kill at this moment leaves it."""
    copy = folder / name
    for suffix in ("", "-wal"):
        shutil.copy(folder / f"live.db{suffix}", folder / f"{name}{suffix}")
    return copy


def rows(path: Path) -> Rows:
    with sqlite3.connect(path) as db:
        found: Rows = db.execute("SELECT * FROM t ORDER BY n").fetchall()
    db.close()
    return found


@pytest.fixture
def live(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA wal_autocheckpoint = 20")
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB)")
    yield db
    db.close()


def test_a_sound_log_is_never_taken_for_damaged(live: sqlite3.Connection, tmp_path: Path) -> None:
    rng = random.Random(1)
    for number in range(80):
        live.execute("BEGIN")
        for _ in range(rng.randrange(1, 6)):
            live.execute(
                "INSERT OR REPLACE INTO t VALUES (?, ?)", (rng.randrange(200), rng.randbytes(rng.randrange(3000)))
            )
        # Some of them are cut off in their middle, or rolled back.
        live.execute("ROLLBACK" if rng.random() < 0.2 else "COMMIT")
        copy = killed(tmp_path, f"{number}.db")
        log = read_log(copy)
        assert log is None or log.damage is None
        rebuild(copy, log, tmp_path / "image.db")
        assert rows(tmp_path / "image.db") == rows(copy)


def test_behind_a_flipped_bit_every_other_transaction_is_found(live: sqlite3.Connection, tmp_path: Path) -> None:
    rng = random.Random(2)
    live.execute("PRAGMA wal_autocheckpoint = 0")
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(30):
        live.execute("INSERT INTO t VALUES (?, ?)", (n, rng.randbytes(3000)))
    source = killed(tmp_path, "killed.db")
    size = source.with_name("killed.db-wal").stat().st_size
    found = kept = 0
    for number in range(60):
        copy = tmp_path / f"{number}.db"
        for suffix in ("", "-wal"):
            shutil.copy(f"{source}{suffix}", f"{copy}{suffix}")
        damaged = bytearray(Path(f"{copy}-wal").read_bytes())
        bit = rng.randrange(32 * 8, size * 8)
        damaged[bit // 8] ^= 1 << bit % 8
        Path(f"{copy}-wal").write_bytes(damaged)
        log = read_log(copy)
        assert log is not None
        found += log.damage is not None
        if log.damage:
            rebuild(copy, log, tmp_path / "image.db")
            with closing(open_read_only(tmp_path / "image.db")) as db:
                left = [n for n, _ in readable_rows(db, "t", ("data",), [])]
            kept += len(left) >= 25
    assert found >= 50, "but for those in the last transaction"
    assert kept >= 0.9 * found, "SQLite itself drops all that follows; an inner page takes its leaves with it"


@pytest.mark.parametrize("bit", range(32 * 8))
def test_a_log_with_a_flipped_bit_in_its_header_is_lost_and_says_so(bit: int, header_flips: Path) -> None:
    log = Path(f"{header_flips}-wal")
    whole = log.read_bytes()
    sound = read_log(header_flips)
    assert sound is not None
    assert sound.damage is None
    try:
        log.write_bytes(flipped(whole, bit))
        found = read_log(header_flips)
    finally:
        log.write_bytes(whole)
    assert found == LogFrames([], 0, None)
    assert found.damage == "the header of its log, all of which is lost"


def test_a_log_in_which_nothing_is_sound_is_damaged(header_flips: Path) -> None:
    log = Path(f"{header_flips}-wal")
    whole = log.read_bytes()
    try:
        log.write_bytes(random.Random(3).randbytes(len(whole)))
        assert read_log(header_flips) == LogFrames([], 0, None)
        log.write_bytes(bytes(len(whole)))
        assert read_log(header_flips) is None, "it was never written"
    finally:
        log.write_bytes(whole)


@pytest.fixture(scope="module")
def header_flips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three transactions in its log, and behind them what is left of an earlier one."""
    folder = tmp_path_factory.mktemp("header")
    db = sqlite3.connect(folder / "live.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB)")
    db.execute("INSERT INTO t VALUES (0, zeroblob(30000))")
    db.execute("PRAGMA wal_checkpoint(RESTART)")
    for n in (1, 2, 3):
        db.execute("INSERT INTO t VALUES (?, ?)", (n, bytes(10)))
    found = killed(folder, "killed.db")
    db.close()
    return found


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
