"""A log written over itself; that it is needed is shown by tests/integration/test_power_cut.py."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from commonwatt.sqlite.resync import write_log_again


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
