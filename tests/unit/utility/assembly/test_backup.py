"""Backups of an SQLite database in use, restored: nothing acknowledged is lost; what a restore refuses."""

import errno
import os
import re
import shlex
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from commonwatt import sqlite as damage
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import join
from commonwatt.model.exceptions import StoreError
from commonwatt.sqlite import KEPT_QUARANTINED, delete_database, quarantined_before
from harness.real.postgres import GUIDE
from harness.surroundings.messages import append, blocks, compact
from utility.access.people import Role
from utility.access.store import access
from utility.access.tables import invitation
from utility.assembly import recovery
from utility.assembly.backup import backup as backups
from utility.assembly.backup.backup import backup, restore
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


Command = Callable[..., str]


@pytest.fixture
def saved(database: Database) -> list[bytes]:
    """What is in the database, which nobody has open any more."""
    Writer(database).commit([append(blocks({0: 5}))])
    compact(database, NOW)
    Writer(database).commit([append(blocks({1: 6}, quarter=QUARTER + 1))])
    found = contents(database)
    database.close()
    return found


def contents(database: Database) -> list[bytes]:
    return list(pack(join(list(reads.all_blocks(database, 0, 2**31 - 1)))))


def look(url: str) -> tuple[int, list[bytes]]:
    """Return a database's store id, and what is in it."""
    with closing(open_database(url, create=False, check=True)) as found:
        return found.store_id, contents(found)


# What is no backup


def in_sql(url: str, *statements: str) -> None:
    with closing(open_database(url, create=False)) as database, database.writes.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_backup_of_a_later_schema_is_refused_before_anything_is_touched(
    command: Command, saved: list[bytes], url: str, tmp_path: Path
) -> None:
    in_sql(url, "UPDATE alembic_version SET version_num = '0099'")
    try:
        later = shutil.copyfile(tmp_path / "utility.db", tmp_path / "later")
        said = command("backup", str(tmp_path / "kept"), code=1)
        assert "0099" in said
        assert "no backup was made" in said
        assert not list(tmp_path.glob("kept*")), "what this version can't restore is no backup"
    finally:
        set_version(tmp_path, revisions()[0])
    before = look(url)
    said = command("restore", str(later), "--replace", code=2)
    assert "a later version of Commonwatt made it" in said
    assert "0099" in said
    assert "is unchanged" in said
    assert look(url) == before == (before[0], saved)


def set_version(folder: Path, version: str) -> None:
    """Write a schema's name where it can't be opened."""
    with closing(sqlite3.connect(folder / "utility.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


def test_where_a_later_version_was_an_earlier_one_is_put_back(
    command: Command, saved: list[bytes], url: str, tmp_path: Path
) -> None:
    command("backup", str(tmp_path / "kept"))
    set_version(tmp_path, "0099")
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


def test_text_that_is_no_text_any_more_makes_no_backup(
    command: Command, saved: list[bytes], url: str, tmp_path: Path
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
    command: Command, saved: list[bytes], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(url)
    command("backup", str(tmp_path / "kept"))
    there = sorted(tmp_path.iterdir())

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(backups, "check_copy", stop)
        assert "stopped; the database is unchanged" in command("restore", str(tmp_path / "kept"), "--replace", code=130)
    with monkeypatch.context() as patch:
        patch.setattr(backups, "check_copy", stop)
        assert f"there is no {tmp_path}/new" in command("backup", str(tmp_path / "new"), code=130)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "_fill", stop)
        assert "stopped; the database is unchanged" in command("recover", code=130)
    assert sorted(tmp_path.iterdir()) == there
    assert look(url) == before


def test_nothing_comes_between_the_last_steps(
    command: Command, saved: list[bytes], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("backup", str(tmp_path / "kept"))

    def make_ready(made: Path, path: Path) -> None:
        damage.make_ready(made, path)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(backups, "make_ready", make_ready)
    assert "restored" in command("restore", str(tmp_path / "kept"), "--replace")
    assert look(url)[1] == saved


def test_another_program_s_file_is_neither_put_back_nor_called_a_backup(
    command: Command, saved: list[bytes], url: str, tmp_path: Path
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
        backup(theirs, tmp_path / "kept", CONFIG, lambda *_: None)
    assert "recover" not in str(caught.value)
    assert not list(tmp_path.glob("kept*"))


def test_what_was_replaced_is_not_called_damaged_and_three_are_kept(saved: list[bytes], tmp_path: Path) -> None:
    backup(tmp_path / "utility.db", tmp_path / "kept", CONFIG, lambda *_: None)
    path, kept = tmp_path / "utility.db", tmp_path / "kept"
    for number in range(KEPT_QUARANTINED + 1):
        quarantined = restore(path, kept, NOW + number, CONFIG, replace=True, tell=lambda *_: None)
        assert quarantined is not None
        assert quarantined.name.startswith("utility.db.replaced-20")
    assert len(quarantined_before(tmp_path / "utility.db", "replaced")) == KEPT_QUARANTINED
    assert quarantined_before(tmp_path / "utility.db") == []


def test_a_read_only_folder_is_told_as_such(
    command: Command, saved: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_sessions_and_invitations_of_a_backup_are_dead(kind: str, url: str, saved: list[bytes], tmp_path: Path) -> None:
    """After a restore of a server by its own programs, the guide's command ends them."""
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
    if kind == "sqlite":
        backup(tmp_path / "utility.db", tmp_path / "kept", CONFIG, lambda *_: None)
        restore(tmp_path / "utility.db", tmp_path / "kept", NOW, CONFIG, replace=True, tell=lambda *_: None)
    else:
        (statement,) = re.findall(r'psql commonwatt -c "(.*)"', GUIDE.read_text())
        in_sql(url, statement)
    with closing(open_database(url, create=False)) as database, database.reads.begin() as connection:
        assert access.session_actor(connection, cookie, "127.0.0.1", NOW) is None
        assert connection.execute(select(func.count()).select_from(invitation)).scalar_one() == 0
        assert access.find_person(connection, "eve") is not None
