"""The database: its files and tables, the age of pgBackRest's backups, and its health."""

import json
import logging
import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from commonwatt.model.exceptions import ConfigError, StoreError
from harness.docs.marked import DOCS
from utility.database import engines
from utility.database.database import Database, open_database
from utility.database.engines import Lock
from utility.database.health import DATABASE_AWAY, Health
from utility.database.metrics import Metrics
from utility.database.postgres.backups import Backups, finished


def test_connections_are_durable_and_check_references(database: Database) -> None:
    with database.writes.begin() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {p}")).scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


def test_each_advisory_lock_has_a_number_of_its_own() -> None:
    """What takes the same number waits for what it has nothing to do with."""
    assert len(Lock) == len(Lock.__members__) > 5, "two names of one number are one lock"
    places = {path.name for path in (DOCS.parent / "utility").rglob("*.py") if "0x4357" in path.read_text()}
    assert places == {"engines.py"}


def test_database_in_a_folder_that_is_not_there_yet_is_made_with_it(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/new/folder/utility.db", create=True).close()
    assert (tmp_path / "new" / "folder" / "utility.db").is_file()


def test_files_that_others_could_read_are_theirs_no_more(tmp_path: Path, url: str) -> None:
    path = tmp_path / "utility.db"
    open_database(url, create=True).close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).touch()
        path.with_name(path.name + suffix).chmod(0o644)
    database = open_database(url, create=False)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("utility.db*")}
    database.close()
    assert modes == dict.fromkeys((f"utility.db{suffix}" for suffix in ("", "-wal", "-shm", ".lock")), 0o600)


def test_store_id_stays_with_the_database(url: str) -> None:
    ids = []
    for _ in range(2):
        database = open_database(url, create=True)
        ids.append(database.store_id)
        database.close()
    assert ids[0] == ids[1]
    assert 0 <= ids[0] < 2**63


@pytest.mark.parametrize("kind", ["postgresql"])
def test_tables_that_pg_restore_made_get_a_new_store_id_once(kind: str, database: Database, url: str) -> None:
    del kind
    database.close()
    open_database(url, create=False).close()
    with database.writes.begin() as connection:  # As in another table: its number is not the one that it names.
        connection.execute(text("UPDATE setting SET value = '1/2' WHERE key = 'place'"))
    ids = []
    for _ in range(2):
        again = open_database(url, create=False)
        ids.append(again.store_id)
        again.close()
    assert ids[0] == ids[1] != database.store_id


def test_command_that_reads_does_not_wait_while_another_process_writes(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 1)
    with database.writes.begin():
        reading = open_database(url, create=False)
        with reading.reads.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM meter")).scalar() is not None
        reading.close()
        with pytest.raises(StoreError, match=r"utility\.db: another program has been writing for 5 s; try again"):
            open_database(url, create=True)


def test_requests_streams_and_jobs_have_a_connection_each(database: Database) -> None:
    with ExitStack() as stack:
        began = time.monotonic()
        for _ in range(22):
            stack.enter_context(database.reads.connect())
        assert time.monotonic() - began < 1, "one more than there are is waited for half a minute"


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "utility.db").write_text("x" * 5000)
    with pytest.raises(StoreError, match="recover --config"):
        open_database(f"sqlite:///{tmp_path}/utility.db", create=True)


@pytest.mark.parametrize("bad", ["nonsense", "mysql://localhost/x", "sqlite:////nowhere/at/all.db"])
def test_url_that_leads_nowhere_is_a_mistake_of_a_person(bad: str) -> None:
    with pytest.raises(ConfigError):
        open_database(bad, create=False)


@pytest.mark.parametrize("bad", ["postgresql//u:secret@h/db", "postgresql://u:secret@h:port/db", "secret"])
def test_a_password_is_never_shown(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(bad, create=False)
    assert "an SQLAlchemy URL, such as sqlite:///utility.db" in str(caught.value)
    assert caught.value.__suppress_context__, "nor in a traceback"
    assert "secret" not in str(caught.value)


def test_another_programs_database_is_left_alone(url: str) -> None:
    first = open_database(url, create=True)
    with first.writes.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    first.close()
    with pytest.raises(StoreError, match="another program's"):
        open_database(url, create=True)


def backup(repository: int, stop: int, *, error: bool = False) -> dict[str, object]:
    return {"database": {"id": 1, "repo-key": repository}, "error": error, "timestamp": {"start": 1, "stop": stop}}


def info(*backups: dict[str, object]) -> str:
    return json.dumps([{"name": "commonwatt", "repo": [{"key": 1}, {"key": 2}], "backup": backups}])


def test_the_newest_good_backup_of_each_place_counts() -> None:
    assert finished(info(backup(1, 50), backup(1, 90), backup(1, 99, error=True))) == {"1": 90, "2": 0}
    assert finished(info(backup(2, 70), backup(1, 50))) == {"1": 50, "2": 70}


@pytest.mark.parametrize("said", ["", "[]", "{}", "no pgbackrest", '[{"name": "other"}]'])
def test_what_cannot_be_read_counts_as_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    metrics = Metrics()
    backups = Backups("commonwatt", create_engine("sqlite://"), metrics)
    backups.look()
    name = "commonwatt_utility_backup_finished_timestamp_seconds"
    assert metrics.registry.get_sample_value(name, {"repository": "1"}) == 0
    assert metrics.registry.get_sample_value("commonwatt_utility_archive_fails") == 1
    assert "the state of the backups could not be read" in caplog.text


class GoneError(Exception):
    """The error of a driver whose server stops."""

    sqlstate = "57P01"


def gone() -> OperationalError:
    return OperationalError("SELECT 1", {}, GoneError("terminating connection\ndue to administrator command"))


WHY = "terminating connection due to administrator command"
AGAIN = "messages were not acknowledged and are sent again"


def test_an_outage_is_one_line_at_its_begin_one_a_minute_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    health = Health(None, lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(240):
            health.failed(gone(), "the storing of 3 messages", 3)
            now[0] += 0.5
        assert (health.alarms(), health.away_since) == ([DATABASE_AWAY], 1000)
        health.answered()
        health.answered()
    assert caplog.messages == [
        f"the database does not answer, nothing is acknowledged until it does: {WHY}",
        f"the database has not answered for 60 s: 121 attempts failed, 363 {AGAIN}",
        f"the database answers again after 120 s: 240 attempts failed, 720 {AGAIN}",
    ]
    assert (health.alarms(), health.away_since) == ([], None)


def test_another_error_is_said_each_time_and_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(None)
    for _ in range(2):
        health.failed(OperationalError("SELECT 1", {}, Exception("canceling statement")), "job gaps")
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("job gaps failed: ")
    assert health.alarms() == []
