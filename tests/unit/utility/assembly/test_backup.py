"""Backups of a database in use, restored: nothing that was acknowledged is lost, and nothing is overwritten unasked."""

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import join
from commonwatt.model.exceptions import ConfigError, StoreError
from harness.real import databases
from harness.real.jobs import compact
from harness.worlds.sent import append, blocks
from utility.assembly.backup.backup import backup, restore
from utility.database.database import Database, open_database
from utility.database.migrate import revisions
from utility.readings.store import reads
from utility.readings.store.writer import Writer

kind = databases.both_kinds

CONFIG = Path("utility.toml")
QUARTER = 2_000_000
NOW = (QUARTER + 10) * 900
MUCH_LATER = NOW + 900 * 5000
LATER_MONTH = QUARTER + 3000


def everything(database: Database) -> list[tuple[tuple[int, int, int], bytes]]:
    found = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    return list(zip(found.keys(), pack(found), strict=True))


def test_what_came_after_the_backup_comes_again_and_nothing_is_lost(
    command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    before = [append(blocks({0: 5})), append(blocks({1: 6}, quarter=QUARTER + 1))]
    since = [append(blocks({2: 7})), append(blocks({3: 8}, quarter=LATER_MONTH))]
    writer = Writer(database)
    writer.commit(before[:1])
    compact(database, MUCH_LATER)
    writer.commit(before[1:])
    saved = everything(database)
    said = command("backup", str(tmp_path / "kept"))  # while another has the database open
    assert "checked; restore with: commonwatt utility restore" in said
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600
    writer.commit(since)
    compact(database, MUCH_LATER)
    everything_sent = everything(database)
    database.close()
    assert "the database has data" in command("restore", str(tmp_path / "kept"), code=2)
    command("restore", str(tmp_path / "kept"), "--replace")
    with closing(open_database(url, create=False, check=True)) as again:
        assert everything(again) == saved
        assert again.store_id != database.store_id, "by which the gateways see that they must send their backups"
        Writer(again).commit([*before, *since])  # and this is what they have
        compact(again, MUCH_LATER)
        assert everything(again) == everything_sent
        assert again.schema[0] == again.schema[1]
    with closing(open_database(url, create=False)) as once_more:
        assert once_more.store_id == again.store_id, "only once"


def test_a_backup_is_put_back_where_nothing_is(
    command: Callable[..., str], database: Database, url: str, kind: str, tmp_path: Path
) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    compact(database, MUCH_LATER)
    saved = everything(database)
    command("backup", str(tmp_path / "kept"))
    database.close()
    if kind == "sqlite":
        (tmp_path / "utility.db").unlink()
    else:
        with closing(open_database(url, create=False)) as emptied, emptied.writes.begin() as connection:
            for table in ("compacted", "meter", "controller"):
                connection.execute(text(f"TRUNCATE {table} CASCADE"))
    assert "restored" in command("restore", str(tmp_path / "kept"))
    with closing(open_database(url, create=False, check=True)) as again:
        assert everything(again) == saved


def test_a_file_that_is_there_is_not_written_over(
    command: Callable[..., str], database: Database, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("precious")
    assert "exists already" in command("backup", str(tmp_path / "kept"), code=2)
    assert (tmp_path / "kept").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.glob("kept*")) == ["kept"]


def test_what_is_no_backup_is_not_put_back(
    command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    saved = everything(database)
    database.close()
    assert "there is no such file" in command("restore", str(tmp_path / "nowhere"), "--replace", code=2)
    (tmp_path / "noise").write_bytes(os.urandom(20_000))
    command("restore", str(tmp_path / "noise"), "--replace", code=2)
    with closing(open_database(url, create=False, check=True)) as still:
        assert everything(still) == saved
        assert still.store_id == database.store_id


def test_a_backup_that_was_damaged_is_not_put_back(
    command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    Writer(database).commit([append(blocks({s: s for s in range(60)}, quarter=QUARTER + q)) for q in range(400)])
    compact(database, MUCH_LATER)
    saved = everything(database)
    command("backup", str(tmp_path / "kept"))
    database.close()
    data = (tmp_path / "kept").read_bytes()
    (tmp_path / "kept").write_bytes(data[: len(data) * 2 // 3])
    assert "is unchanged" in command("restore", str(tmp_path / "kept"), "--replace", code=2)
    with closing(open_database(url, create=False, check=True)) as still:
        assert everything(still) == saved
        assert still.store_id == database.store_id


def test_a_database_in_use_is_not_replaced(command: Callable[..., str], database: Database, tmp_path: Path) -> None:
    command("backup", str(tmp_path / "kept"))
    with database.reads.begin():
        assert "one of its commands, is using" in command("restore", str(tmp_path / "kept"), "--replace", code=2)


def test_migrate_says_from_which_schema_to_which(command: Callable[..., str], database: Database) -> None:
    assert f"the database is up to date, with schema {revisions()[0]}; its store is" in command("migrate")
    before = command("migrate").split()[-1]
    assert command("migrate", "--new-store").split()[-1] != before


# Of one kind of database alone


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_damaged_part_is_told_and_all_else_is_in_the_backup(
    kind: str, command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    sound = append(blocks({0: 5}, quarter=QUARTER + 1))
    Writer(database).commit([append(blocks({0: 5})), sound])
    with closing(sqlite3.connect(tmp_path / "utility.db")) as connection, connection:
        connection.execute("UPDATE part SET payload = zeroblob(20) WHERE id = 1")
    assert "1 of its parts are damaged" in command("backup", str(tmp_path / "kept"), code=1)
    database.close()
    command("restore", str(tmp_path / "kept"), "--replace")
    with closing(open_database(url, create=False, check=True)) as again:
        assert [key for key, _ in everything(again)] == sound.blocks.keys()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_torn_page_is_told_and_leaves_no_backup(kind: str, database: Database, url: str, tmp_path: Path) -> None:
    database.close()
    with (tmp_path / "utility.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match=r"no backup was made.*damaged.*recover --config utility.toml"):
        backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    assert not list(tmp_path.glob("kept*"))


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_restore_keeps_what_was_there_beside(kind: str, database: Database, url: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    backup(url, tmp_path / "kept", CONFIG, lambda *done: told.append(done))
    database.close()
    quarantined = restore(url, tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    assert told[-1][0] == told[-1][1] > 10
    assert quarantined is not None
    with closing(open_database(f"sqlite:///{quarantined}", create=False)) as old:
        assert old.store_id == database.store_id


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_secret_that_everybody_could_see_is_refused(kind: str, database: Database, url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could see sslpassword") as caught:
        backup(f"{url}?sslpassword=verysecret", tmp_path / "kept", CONFIG, lambda *_: None)
    assert "verysecret" not in str(caught.value)
    assert not list(tmp_path.glob("kept*"))


@pytest.mark.parametrize("kind", ["postgresql"])
def test_without_the_servers_programs_it_is_said_what_to_install(
    kind: str, database: Database, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install postgresql-client"):
        backup(url, tmp_path / "kept", CONFIG, lambda *_: None)
    for program, said in (
        ("pg_dump", "pg_dump: error: aborting because of server version mismatch"),
        ("pg_dump", "pg_dump: error: no such secret1 known"),
    ):
        (tmp_path / program).write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
        (tmp_path / program).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        with pytest.raises((ConfigError, StoreError)) as caught:
            backup(url.replace("@", ":secret1@"), tmp_path / "kept", CONFIG, lambda *_: None)
        assert "secret1" not in str(caught.value)
        assert ("install a newer client" in str(caught.value)) == ("mismatch" in said)
    assert not list(tmp_path.glob("kept*"))
