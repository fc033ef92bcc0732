"""What a restore refuses, before anything of the database is touched."""

import errno
import os
import re
import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import join
from commonwatt.model.exceptions import StoreError
from commonwatt.sqlite import damage
from commonwatt.sqlite.damage import KEPT_QUARANTINED, delete_database, quarantined_before
from harness.real.jobs import compact
from harness.real.pgbackrest import GUIDE
from harness.surroundings.sent import append, blocks
from utility.access.roles import Role
from utility.access.store import access
from utility.access.tables import invitation
from utility.assembly.backup import backup as backups
from utility.assembly.backup import restore as restores
from utility.assembly.backup.backup import backup
from utility.assembly.backup.restore import restore
from utility.assembly.recovery import recovery as recover
from utility.database.database import Database, open_database
from utility.database.migrate import revisions
from utility.readings.store import reads
from utility.readings.store.writer import Writer

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
        patch.setattr(restores, "check_copy", stop)
        assert "stopped; the database is unchanged" in command("restore", str(tmp_path / "kept"), "--replace", code=130)
    with monkeypatch.context() as patch:
        patch.setattr(backups, "check_copy", stop)
        assert f"there is no {tmp_path}/new" in command("backup", str(tmp_path / "new"), code=130)
    with monkeypatch.context() as patch:
        patch.setattr(recover, "_fill", stop)
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

    monkeypatch.setattr(restores, "make_ready", make_ready)
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
