"""What a restore refuses, before anything of the database is touched; and what of others' it leaves where it is."""

import errno
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, make_url, select, text

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import join
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.sqlite import damage
from commonwatt.sqlite.damage import KEPT_QUARANTINED, delete_database, quarantined_before
from harness.network.waiting import eventually
from harness.real import databases
from harness.real.jobs import compact
from harness.real.postgres import Postgres
from harness.worlds.sent import append, blocks
from utility.access.roles import Role
from utility.access.store import access
from utility.access.tables import invitation
from utility.assembly.backup import postgres as server_backup
from utility.assembly.backup import sqlite as file_backup
from utility.assembly.backup.backup import backup, restore
from utility.assembly.recovery import recovery as recover
from utility.assembly.tables import metadata
from utility.database.database import Database, open_database
from utility.database.locks import Lock
from utility.database.migrate import revisions
from utility.readings.store import reads
from utility.readings.store.writer import Writer

kind = databases.both_kinds

Command = Callable[..., str]

CONFIG = Path("utility.toml")
QUARTER = 2_000_000
NOW = (QUARTER + 10) * 900


@pytest.fixture
def saved(database: Database) -> list[bytes]:
    """What is in the database, which nobody has open any more."""
    Writer(database).commit([append(blocks({0: 5}))])
    compact(database, NOW)
    Writer(database).commit([append(blocks({1: 6}, quarter=QUARTER + 1))])
    found = contents(database)
    database.close()
    return found


@pytest.fixture
def others(server: Postgres) -> Iterator[Callable[[str], None]]:
    """Do something in the database as the server's owner; what was made is gone after the test."""
    yield lambda script: server.run_script("town", script)
    server.run_script(
        "town", "DROP VIEW IF EXISTS monthly; DROP TABLE IF EXISTS tariff; DROP SCHEMA IF EXISTS app CASCADE"
    )


def contents(database: Database) -> list[bytes]:
    return list(pack(join(list(reads.all_blocks(database, 0, 2**31 - 1)))))


def look(url: str) -> tuple[int, list[bytes]]:
    """Return a database's store id, and what is in it."""
    with closing(open_database(url, create=False, check=True)) as found:
        return found.store_id, contents(found)


def archive(url: str, target: Path) -> Path:
    """Write what pg_dump makes of a whole database."""
    parsed = make_url(url)
    address = f"host={parsed.host} port={parsed.port} dbname={parsed.database} user=postgres"
    subprocess.run(["pg_dump", "--format=custom", f"--file={target}", f"--dbname={address}"], check=True)
    return target


# What is no backup


def copy_of(url: str, kind: str, target: Path) -> Path:
    """Return a copy of the whole database that we did not check."""
    if kind == "postgresql":
        return archive(url, target)
    shutil.copyfile(str(make_url(url).database), target)
    return target


def in_sql(url: str, *statements: str) -> None:
    with closing(open_database(url, create=False)) as database, database.writes.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_backup_of_a_later_schema_is_refused_before_anything_is_touched(
    command: Command, saved: list[bytes], url: str, kind: str, tmp_path: Path
) -> None:
    in_sql(url, "UPDATE alembic_version SET version_num = '0099'")
    try:
        later = copy_of(url, kind, tmp_path / "later")
        said = command("backup", str(tmp_path / "kept"), code=1)
        assert "0099" in said
        assert "no backup was made" in said
        assert not list(tmp_path.glob("kept*")), "what this version can't restore is no backup"
    finally:
        set_version(url, kind, revisions()[0])
    before = look(url)
    said = command("restore", str(later), "--replace", code=2)
    assert "a later version of Commonwatt made it" in said
    assert "0099" in said
    assert "is unchanged" in said
    assert look(url) == before == (before[0], saved)


def set_version(url: str, kind: str, version: str) -> None:
    """Write a schema's name where it can't be opened."""
    if kind == "sqlite":
        with closing(sqlite3.connect(str(make_url(url).database))) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    else:
        parsed = make_url(url)
        address = f"host={parsed.host} port={parsed.port} dbname={parsed.database} user={parsed.username}"
        statement = f"UPDATE alembic_version SET version_num = '{version}'"
        subprocess.run(["psql", "-q", "-c", statement, address], check=True)


def test_where_a_later_version_was_an_earlier_one_is_put_back(
    command: Command, saved: list[bytes], url: str, kind: str, tmp_path: Path
) -> None:
    command("backup", str(tmp_path / "kept"))
    set_version(url, kind, "0099")
    assert "restored" in command("restore", str(tmp_path / "kept"), "--replace")
    assert look(url)[1] == saved


@pytest.mark.parametrize("length", [0, 50])
def test_an_empty_or_cut_off_file_is_no_backup(
    command: Command, saved: list[bytes], url: str, tmp_path: Path, length: int
) -> None:
    before = look(url)
    command("backup", str(tmp_path / "kept"))
    (tmp_path / "cut").write_bytes((tmp_path / "kept").read_bytes()[:length])
    said = command("restore", str(tmp_path / "cut"), "--replace", code=2)
    assert f"{tmp_path}/cut: is no backup of a utility's database" in said
    assert "is unchanged" in said
    assert look(url) == before == (before[0], saved)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("meter SET crc = crc + 1 WHERE no = 2", "meter (no 2, label 10002) fails its checksum"),
        ("installed SET crc = crc + 1 WHERE meter = 10002", "installed (meter 10002) fails its checksum"),
        ("holding SET account = account + 1 WHERE meter = 10002", "holding (meter 10002, since "),
    ],
)
def test_a_damaged_registry_makes_no_backup(
    command: Command, saved: list[bytes], url: str, tmp_path: Path, damage: str, named: str
) -> None:
    in_sql(url, f"UPDATE {damage}")
    said = command("backup", str(tmp_path / "kept"), code=1)
    assert "no backup was made" in said
    assert f"a row of {named}" in said.replace("\n", " ")
    assert not list(tmp_path.glob("kept*"))


@pytest.mark.parametrize("kind", ["sqlite"])
def test_text_that_is_no_text_any_more_makes_no_backup(
    kind: str, command: Command, saved: list[bytes], url: str, tmp_path: Path
) -> None:
    in_sql(url, "UPDATE installed SET place = CAST(x'ff' AS TEXT) WHERE meter = 10002")
    assert "no backup was made" in command("backup", str(tmp_path / "kept"), code=1)
    assert not list(tmp_path.glob("kept*"))


def test_the_commands_that_are_named_run_as_they_are_printed(
    command: Command, saved: list[bytes], tmp_path: Path
) -> None:
    said = command("backup", str(tmp_path / "kept it"))
    again = shlex.split(said.partition("restore with: commonwatt utility ")[2])
    assert again[-2] == "--config"
    said = command(*again[:-2], code=2)
    replacing = shlex.split(said.partition("if that is intended: commonwatt utility ")[2])
    assert replacing[-2:] == again[-2:]
    assert "restored" in command(*replacing[:-2])


def test_what_stops_a_command_is_told_and_nothing_is_left(
    command: Command, saved: list[bytes], url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(url)
    command("backup", str(tmp_path / "kept"))
    there = sorted(tmp_path.iterdir())

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    module, last = (file_backup, "check_copy") if kind == "sqlite" else (server_backup, "_load")
    with monkeypatch.context() as patch:
        patch.setattr(module, last, stop)
        assert "stopped; the database is unchanged" in command("restore", str(tmp_path / "kept"), "--replace", code=130)
    with monkeypatch.context() as patch:
        patch.setattr(module, last if kind == "sqlite" else "check_archive", stop)
        assert f"there is no {tmp_path}/new" in command("backup", str(tmp_path / "new"), code=130)
    if kind == "sqlite":
        with monkeypatch.context() as patch:
            patch.setattr(recover, "_fill", stop)
            assert "stopped; the database is unchanged" in command("recover", code=130)
    assert sorted(tmp_path.iterdir()) == there
    assert look(url) == before


# SQLite


@pytest.mark.parametrize("kind", ["sqlite"])
def test_nothing_comes_between_the_last_steps(
    kind: str, command: Command, saved: list[bytes], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("backup", str(tmp_path / "kept"))

    def make_ready(made: Path, path: Path) -> None:
        damage.make_ready(made, path)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(file_backup, "make_ready", make_ready)
    assert "restored" in command("restore", str(tmp_path / "kept"), "--replace")
    assert look(url)[1] == saved


@pytest.mark.parametrize("kind", ["sqlite"])
def test_another_program_s_file_is_neither_put_back_nor_called_a_backup(
    kind: str, command: Command, saved: list[bytes], url: str, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.db"
    with closing(sqlite3.connect(theirs)) as connection, connection:
        connection.execute("CREATE TABLE diary (line TEXT)")
    said = command("restore", str(theirs), "--replace", code=2)
    assert f"{theirs}: is no backup" in said
    assert "no tables of Commonwatt" in said
    assert "recover" not in said, "which would move a sound database away"
    assert look(url)[1] == saved
    with pytest.raises(StoreError, match=r"theirs.db: no backup was made.*no tables of Commonwatt") as caught:
        backup(f"sqlite:///{theirs}", tmp_path / "kept", CONFIG, lambda *_: None)
    assert "recover" not in str(caught.value)
    assert not list(tmp_path.glob("kept*"))


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_was_replaced_is_not_called_damaged_and_three_are_kept(
    kind: str, saved: list[bytes], url: str, tmp_path: Path
) -> None:
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    for number in range(KEPT_QUARANTINED + 1):
        quarantined = restore(url, tmp_path / "kept", NOW + number, CONFIG, replace=True, tell=lambda *_: None)
        assert quarantined is not None
        assert quarantined.name.startswith("utility.db.replaced-20")
    assert len(quarantined_before(tmp_path / "utility.db", "replaced")) == KEPT_QUARANTINED
    assert quarantined_before(tmp_path / "utility.db") == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_read_only_folder_is_told_as_such(
    kind: str, command: Command, saved: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("backup", str(tmp_path / "kept"))

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr("commonwatt.runtime.service.lock_file", refuse)
    said = command("backup", str(tmp_path / "new"), code=1)
    assert f"{tmp_path}/new: the backup can't be made: [Errno 30]" in said
    said = command("restore", str(tmp_path / "kept"), "--replace", code=1)
    assert "kept: can't be restored: [Errno 30]" in said
    assert "utility.db is unchanged" in said


def test_a_database_is_deleted_with_its_journal(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"x.part{suffix}").touch()
    delete_database(tmp_path / "x.part")
    assert not list(tmp_path.iterdir())


# PostgreSQL


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_backup_is_put_back_in_a_database_in_which_nothing_is(
    kind: str, saved: list[bytes], url: str, tmp_path: Path, server: Postgres
) -> None:
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    server.execute("DROP DATABASE IF EXISTS empty", "CREATE DATABASE empty")
    empty = server.url_of("empty")
    with pytest.raises(StoreError, match="empty: no backup was made"):
        backup(empty, tmp_path / "new", CONFIG, lambda *_: None)
    restore(empty, tmp_path / "kept", NOW, CONFIG, replace=False, tell=lambda *_: None)
    assert look(empty)[1] == saved


def test_sessions_and_invitations_of_a_backup_are_dead(url: str, saved: list[bytes], tmp_path: Path) -> None:
    del saved
    with closing(open_database(url, create=False)) as database, database.writes.begin() as connection:
        one = access.Person(
            name="eve", display="Eve", state="active", roles=frozenset({Role.CLERK}), account=None, created=NOW
        )
        access.add_person(connection, one, "test")
        access.set_state(connection, "eve", "active")
        cookie = access.open_session(connection, "eve", "127.0.0.1", "test", NOW).cookie
        values = {"digest": "0" * 64, "person": "eve", "made": NOW, "made_by": "test", "until": NOW + 60}
        connection.execute(invitation.insert().values(values))
        assert access.session_actor(connection, cookie, "127.0.0.1", NOW) is not None
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    restore(url, tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    with closing(open_database(url, create=False)) as database, database.reads.begin() as connection:
        assert access.session_actor(connection, cookie, "127.0.0.1", NOW) is None
        assert connection.execute(select(func.count()).select_from(invitation)).scalar_one() == 0
        assert access.find_person(connection, "eve") is not None


@pytest.mark.parametrize("kind", ["postgresql"])
def test_numbers_of_rows_go_on_after_a_restore(kind: str, saved: list[bytes], url: str, tmp_path: Path) -> None:
    numbered = [
        (t.name, t.autoincrement_column.name) for t in metadata.tables.values() if t.autoincrement_column is not None
    ]
    in_sql(url, *(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), 700)" for table, column in numbered))
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    restore(url, tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    next_of = text("SELECT nextval(pg_get_serial_sequence(:table, :column))")
    with closing(open_database(url, create=False)) as database, database.reads.begin() as connection:
        found = {
            table: connection.execute(next_of, {"table": table, "column": column}).scalar_one()
            for table, column in numbered
        }
    assert found == {table: 701 for table, _ in numbered}


@pytest.mark.parametrize("kind", ["postgresql"])
def test_what_is_others_is_not_in_the_way_and_stays(
    kind: str, command: Command, saved: list[bytes], url: str, tmp_path: Path, others: Callable[[str], None]
) -> None:
    others(
        "CREATE TABLE tariff (cents int); INSERT INTO tariff VALUES (7); "
        "CREATE VIEW monthly AS SELECT cents FROM tariff;"
        "CREATE SCHEMA zoo; CREATE TABLE zoo.alembic_version (version_num text);"
        "INSERT INTO zoo.alembic_version VALUES ('f00d');"
        "DROP ROLE IF EXISTS grafana; CREATE ROLE grafana; GRANT SELECT ON block, meter TO grafana;"
        "GRANT INSERT ON part TO PUBLIC; CREATE INDEX ON tariff (cents)"
    )
    command("backup", str(tmp_path / "kept"))
    listed = subprocess.run(["pg_restore", "--list", tmp_path / "kept"], capture_output=True, text=True, check=True)
    assert "tariff" not in listed.stdout
    assert "monthly" not in listed.stdout
    for kept in (tmp_path / "kept", archive(url, tmp_path / "whole")):
        assert "restored" in command("restore", str(kept), "--replace")
        assert look(url)[1] == saved
        with closing(open_database(url, create=False)) as database, database.reads.begin() as connection:
            rights = (
                "SELECT has_table_privilege('grafana', {0}, 'SELECT'), has_table_privilege('grafana', 'part', 'INSERT')"
            )
            for table in ("'block'", "'meter'"):
                assert tuple(connection.execute(text(rights.format(table))).one()) == (True, True)
            assert not connection.execute(text("SELECT has_table_privilege('grafana', 'part', 'SELECT')")).scalar_one()
    others("DO $$ BEGIN ASSERT (SELECT cents FROM monthly) = 7; END $$; DROP OWNED BY grafana; DROP ROLE grafana")


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE VIEW monthly AS SELECT meter, sum(total) FROM block GROUP BY 1", "view monthly depends on view block"),
        ("CREATE TABLE tariff (meter_no int REFERENCES meter (no))", "on table tariff depends on table meter"),
    ],
)
def test_nothing_is_replaced_on_which_something_of_others_depends(
    kind: str,
    command: Command,
    saved: list[bytes],
    url: str,
    tmp_path: Path,
    others: Callable[[str], None],
    made: str,
    named: str,
) -> None:
    others(made)
    before = look(url)
    command("backup", str(tmp_path / "kept"))
    said = command("restore", str(tmp_path / "kept"), "--replace", code=2)
    assert named in said
    assert "Nothing was changed" in said
    assert look(url) == before
    others("DROP VIEW IF EXISTS monthly; DROP TABLE IF EXISTS tariff")
    assert "restored" in command("restore", str(tmp_path / "kept"), "--replace")


@pytest.mark.parametrize("kind", ["postgresql"])
def test_another_program_s_database_is_neither_backed_up_nor_replaced(
    kind: str, saved: list[bytes], url: str, tmp_path: Path, server: Postgres
) -> None:
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    server.execute("DROP DATABASE IF EXISTS theirs", "CREATE DATABASE theirs")
    server.run_script("theirs", "CREATE TABLE event (said text); INSERT INTO event VALUES ('precious')")
    theirs = server.url_of("theirs")
    with pytest.raises(StoreError, match="theirs: no backup was made"):
        backup(theirs, tmp_path / "new", CONFIG, lambda *_: None)
    assert not list(tmp_path.glob("new*"))
    with pytest.raises(ConfigError, match="seem to be another program's"):
        restore(theirs, tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    server.run_script("theirs", "DO $$ BEGIN ASSERT (SELECT said FROM event) = 'precious'; END $$")
    foreign = archive(theirs, tmp_path / "foreign")
    before = look(url)
    with pytest.raises(ConfigError, match=r"foreign: is no backup .*no tables of Commonwatt"):
        restore(url, foreign, NOW, CONFIG, replace=True, tell=lambda *_: None)
    assert look(url) == before


@pytest.mark.parametrize("kind", ["postgresql"])
def test_somebody_s_lock_is_not_waited_for_without_end(
    kind: str,
    command: Command,
    saved: list[bytes],
    url: str,
    tmp_path: Path,
    server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command("backup", str(tmp_path / "kept"))
    monkeypatch.setattr(server_backup, "LOCK_TIMEOUT_S", 1)
    before = look(url)
    engine = create_engine(server.url_of("town"), connect_args={"application_name": "report"})
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM block"))
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        said = command("restore", str(tmp_path / "kept"), "--replace", code=1)
        assert f"process {process} (role postgres, report)" in said
        assert f'psql -c "SELECT pg_terminate_backend({process})"' in said
        assert look(url) == before, "whoever reads is not in its way"
        connection.execute(text("LOCK TABLE part IN ACCESS EXCLUSIVE MODE"))
        assert f"process {process}" in command("backup", str(tmp_path / "new"), code=1)
    engine.dispose()
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_a_restore_the_database_is_as_it_was(
    kind: str, saved: list[bytes], url: str, tmp_path: Path, server: Postgres, number: signal.Signals
) -> None:
    backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    before = look(url)
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    engine = create_engine(server.url_of("town"))
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'town'")
    command = [sys.executable, "-m", "commonwatt", "utility", "restore", "kept", "--replace", "--config", str(config)]
    with engine.connect() as holder, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
        # The lock under which partitions are made: by then it has dropped what was there, and made the tables anew.
        holder.execute(text(f"SELECT pg_advisory_lock({Lock.PARTITIONS:d})"))
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            eventually(lambda: watch.execute(waiting).scalar_one() == 1)
            process.send_signal(number)
            said = process.communicate()[1]
    engine.dispose()
    assert process.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert number == signal.SIGKILL or "stopped; the database is unchanged" in said
    assert "Traceback" not in said
    assert look(url) == before
