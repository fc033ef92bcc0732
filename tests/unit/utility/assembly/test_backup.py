"""Backups of an SQLite database in use, restored: nothing acknowledged is lost, nothing is overwritten unasked."""

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import join
from commonwatt.model.exceptions import StoreError
from harness.real.jobs import compact
from harness.surroundings.sent import append, blocks
from utility.assembly.backup.backup import backup
from utility.assembly.backup.restore import restore
from utility.assembly.cli import app
from utility.database.database import Database, open_database
from utility.database.migrate import revisions
from utility.readings.store import reads
from utility.readings.store.writer import Writer

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
    command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    compact(database, MUCH_LATER)
    saved = everything(database)
    command("backup", str(tmp_path / "kept"))
    database.close()
    (tmp_path / "utility.db").unlink()
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


def test_a_damaged_part_is_told_and_all_else_is_in_the_backup(
    command: Callable[..., str], database: Database, url: str, tmp_path: Path
) -> None:
    sound = append(blocks({0: 5}, quarter=QUARTER + 1))
    Writer(database).commit([append(blocks({0: 5})), sound])
    with closing(sqlite3.connect(tmp_path / "utility.db")) as connection, connection:
        connection.execute("UPDATE batch SET payload = zeroblob(20) WHERE id = 1")
    assert "1 of its parts are damaged" in command("backup", str(tmp_path / "kept"), code=1)
    database.close()
    command("restore", str(tmp_path / "kept"), "--replace")
    with closing(open_database(url, create=False, check=True)) as again:
        assert [key for key, _ in everything(again)] == sound.blocks.keys()


def test_a_batch_whose_key_is_damaged_is_told(command: Callable[..., str], database: Database, tmp_path: Path) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    with closing(sqlite3.connect(tmp_path / "utility.db")) as connection, connection:
        connection.execute("UPDATE batch SET last_quarter = 2147483647")
    assert "1 of its parts are damaged" in command("backup", str(tmp_path / "kept"), code=1)


def test_a_torn_page_is_told_and_leaves_no_backup(database: Database, tmp_path: Path) -> None:
    database.close()
    with (tmp_path / "utility.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match=r"no backup was made.*damaged.*recover --config utility.toml"):
        backup(tmp_path / "utility.db", tmp_path / "kept", CONFIG, lambda *_: None)
    assert not list(tmp_path.glob("kept*"))


def test_a_restore_keeps_what_was_there_beside(database: Database, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    backup(tmp_path / "utility.db", tmp_path / "kept", CONFIG, lambda *done: told.append(done))
    database.close()
    quarantined = restore(tmp_path / "utility.db", tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    assert told[-1][0] == told[-1][1] > 10
    assert quarantined is not None
    with closing(open_database(f"sqlite:///{quarantined}", create=False)) as old:
        assert old.store_id == database.store_id


@pytest.mark.parametrize("words", ["backup {}", "restore {} --replace", "recover"])
def test_a_servers_database_is_left_to_pgbackrest(tmp_path: Path, words: str) -> None:
    config, file = tmp_path / "utility.toml", tmp_path / "kept"
    config.write_text('[utility]\ndatabase = "postgresql+psycopg:///town"\n')
    done = CliRunner().invoke(app, [*words.format(file).split(), "--config", str(config)])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "a PostgreSQL database is backed up by pgBackRest, see docs/stores.md" in said
    assert not file.exists()
