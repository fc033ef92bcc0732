"""Databases of release 0.3 are brought up to date with nothing lost; those of other releases are left alone."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from commonwatt.model.blocks import Blocks, join
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import QUARTER_S
from harness.real.postgres import Postgres
from harness.surroundings import databases
from utility.access.store import audit_log
from utility.assembly.backup.backup import backup, restore
from utility.assembly.cli import app
from utility.assembly.recovery import recover
from utility.control.store import wanted_weights
from utility.database import migrations
from utility.database.database import DamagedDatabaseError, Database, open_database, save_setting
from utility.database.migrate import RELEASE, lock_schema, revisions
from utility.outbox.store import told_of
from utility.readings.store import reads
from utility.readings.store.compactor import Compactor
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.gaps import GapFinder
from utility.readings.store.writer import Writer
from utility.readings.tables import gap, part
from utility.registry.store.accounts import load_dated_registry
from utility.supply.store import rations

kind = databases.both_kinds

DATABASES = Path(__file__).parents[3] / "databases"
CONFIG = Path("utility.toml")
QUARTER = 2_000_000
FULL = {slot: 100 + slot * 7 % 13 for slot in range(60)}
READINGS = {
    (10001, 3, QUARTER): FULL,
    (10001, 3, QUARTER + 1): FULL | {6: -3},
    (10001, 2, QUARTER + 1): {slot: 10**12 + slot for slot in range(60)},
    (10001, 3, QUARTER + 3): dict.fromkeys(range(10), 5) | {0: 1},
    (10001, 3, QUARTER + 7): {1: 2, 2: 3},
    (10003, 3, QUARTER + 5000): {3: 1, 4: 2},
}
"""What was sent to the databases that are kept here; at two slots of the second block also something greater."""


def readings(database: Database) -> tuple[dict[tuple[int, int, int], dict[int, int]], list[tuple[int, int]]]:
    """Return all readings by block, and (slot, value) of the conflicting ones beyond the smallest."""
    blocks: Blocks = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    found = {
        blocks.key(row): {int(slot): int(blocks.values[row, slot]) for slot in blocks.quality[row].nonzero()[0]}
        for row in range(len(blocks))
    }
    return found, [(int(extra["slot"]), int(extra["value"])) for extra in blocks.extras]


@pytest.fixture
def kept(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Makes a database as the code of a schema's time made it; returns its address."""
    made: list[str] = []

    def make(schema: str) -> str:
        statements = (DATABASES / f"utility_v{schema}_{kind}.sql").read_text()
        if kind == "sqlite":
            with closing(sqlite3.connect(tmp_path / f"old{schema}.db")) as connection:
                connection.executescript(statements)
            return f"sqlite:///{tmp_path}/old{schema}.db"
        server: Postgres = request.getfixturevalue("server")
        name = f"old{schema}"
        server.execute(f"CREATE DATABASE {name}")
        made.append(name)
        server.run_script(name, statements)
        return server.url_of(name)

    yield make
    for name in made:
        request.getfixturevalue("server").execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def old_url(kept: Callable[[str], str]) -> str:
    """A database of release 0.3, which was made by 0.2."""
    return kept("0026")


def schema_of(url: str) -> dict[str, object]:
    """Every table with its columns in order, its keys, indexes and triggers; the names of the views."""
    engine = create_engine(url, poolclass=NullPool)
    found: dict[str, object] = {}
    with engine.connect() as connection:
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            columns = [
                (c["name"], str(c["type"]), c["nullable"], c["default"], c.get("autoincrement"))
                for c in inspector.get_columns(table)
            ]
            indexes = inspector.get_indexes(table)
            for index in indexes:
                index["dialect_options"] = {name: str(value) for name, value in index["dialect_options"].items()}
            keys = [
                sorted(map(str, keys))
                for keys in (
                    indexes,
                    inspector.get_foreign_keys(table),
                    inspector.get_unique_constraints(table),
                    [inspector.get_pk_constraint(table)],
                )
            ]
            found[table] = (columns, keys)
        triggers = {
            "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
            "postgresql": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        }[engine.dialect.name]
        found["views"] = inspector.get_view_names()
        found["triggers"] = sorted(map(tuple, connection.execute(text(triggers)).all()))
    return found


def test_a_database_of_0_3_is_brought_up_to_date_with_the_same_schema_and_readings(
    old_url: str, url: str, database: Database
) -> None:
    assert database.schema[1] == revisions()[0] == "0040"
    with closing(open_database(old_url, create=True, check=True)) as opened:
        assert opened.schema == ("0026", revisions()[0])
        assert readings(opened) == (READINGS, [(5, 59049), (6, 103)])
        with opened.reads.begin() as connection:
            assert load_dated_registry(connection).accounts
    found, new = schema_of(old_url), schema_of(url)
    differing = {name for name in found.keys() | new.keys() if found.get(name) != new.get(name)}
    assert {name for name in differing if not name.startswith("compacted_")} == set()


def test_what_0_3_logged_of_research_is_in_the_audit_log(old_url: str) -> None:
    rows = "(1, 9, 'anna', 'read', 'homes', 'June lab'), (2, 9, 'eve', 'downloaded', 'bb22', 'a.csv'), "
    rows += "(3, 9, 'eve', 'asked', 'bb22', '')"
    with create_engine(old_url, poolclass=NullPool).begin() as connection:
        connection.execute(text(f"INSERT INTO research_log (no, time, person, action, subject, detail) VALUES {rows}"))
    with closing(open_database(old_url, create=True)) as opened, opened.reads.begin() as connection:
        found = audit_log.entries(connection, audit_log.AuditFilter(action="release."), 9)
    assert [(one["time"], one["person"], one["action"], one["subject"]) for one in found] == [
        (9, "eve", "release.download", "release bb22"),
        (9, "anna", "release.read", "homes"),
    ], "what was asked is there already"
    assert "June lab" in found[1]["after"]


def test_weights_that_a_person_sent_by_0_3_are_replaced_by_the_registrys(old_url: str) -> None:
    with create_engine(old_url, poolclass=NullPool).begin() as connection:
        of = connection.execute(text("SELECT id FROM controller ORDER BY id")).scalars().first()
        change = {"no": 1, "made": 5, "due": 1800, "of": of, "fields": '{"cmd": "sharing", "weights": {"10001": 2}}'}
        for statement in (
            (
                "INSERT INTO control_change (no, made, person, action, fields, due, valid_s, state) "
                "VALUES (:no, :made, 'ann', 'sharing', '{}', :due, 60, 'sent')"
            ),
            "INSERT INTO control_target (change_no, controller, fields) VALUES (:no, :of, :fields)",
        ):
            connection.execute(text(statement), change)
    with closing(open_database(old_url, create=True)) as opened:
        new = opened.read(wanted_weights, 9_000)
    assert [(one.controller, one.content) for one in new] == [(of, [[2, {"10001": 2}], [10, {}]])], "each has 1 again"


def test_what_0_3_told_controllers_is_not_told_anew(old_url: str) -> None:
    with create_engine(old_url, poolclass=NullPool).begin() as connection:
        of = connection.execute(text("SELECT id FROM controller ORDER BY id")).scalars().first()
        said = {"of": of, "weights": '{"10001": 2}', "later": '{"10001": 3}', "until": 1_800_000_000 + 1_800}
        for statement in (
            (
                "INSERT INTO command (id, controller, message, created, until, state, result) "
                "VALUES ('told', :of, '{\"cmd\": \"any\"}', 1800000000, 9, 'done', 'done')"
            ),
            "INSERT INTO rates_told VALUES (:of, 'town', 2, '2027-01', 'told')",
            "INSERT INTO ration VALUES (:of, 2000000, 'LOW', 480, 'short', :until, 'told')",
            "INSERT INTO weights_told VALUES (:of, 5, :later, 'told'), (:of, 4, :weights, 'told')",
        ):
            connection.execute(text(statement), said)
    with closing(open_database(old_url, create=True)) as opened, opened.reads.begin() as connection:
        (rates, supply, weights) = (told_of(connection, topic)[0] for topic in ("rates", "supply", "weights"))
        assert rates.content == {"tariff": "town", "version": 2, "month": "2027-01"}
        assert (rates.topic, rates.time, rates.command, rates.state) == ("rates town", 1_800_000_000, "told", "done")
        assert supply.content == {"quarter": 2_000_000, "supply": "LOW", "import_limit_w": 480, "reason": "short"}
        assert rations(connection, 1_800_000_000)[supply.controller].until == said["until"]
        assert weights.content == [[4, {"10001": 2}], [5, {"10001": 3}]]


def test_a_database_of_0_2_is_told_to_go_by_way_of_0_3(old_url: str) -> None:
    with create_engine(old_url, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0004'"))
    for create in (True, False):
        with pytest.raises(StoreError, match=r"of schema 0004, before release 0\.3; upgrade it to 0\.3 first"):
            open_database(old_url, create=create)


def test_newer_schema_is_refused(url: str, database: Database) -> None:
    with database.writes.begin() as connection:
        known = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        save_setting(connection, RELEASE, "9.9")
    with pytest.raises(StoreError, match=r"later version of Commonwatt \(schema 9999\)"):
        open_database(url, create=True)
    with database.writes.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": known})


def test_a_server_of_a_later_patch_is_used(url: str, database: Database, kind: str) -> None:
    """Utilities of a cluster are upgraded in turn, after the schema."""
    with database.writes.begin() as connection:
        known = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        if kind == "postgresql":
            open_database(url, create=False, check=True).close()
        else:
            with pytest.raises(StoreError, match="later version"):
                open_database(url, create=False)
    finally:
        with database.writes.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": known})


_ADDS = re.compile(r"op\.(?!create_|add_|execute\()\w+|(?i:\b(drop|rename|delete|truncate|alter\s+column)\b)")
_RELEASED = "0040"  # the newest schema at the first release of this minor release


def only_adds(source: str) -> bool:
    upgrade = source.partition("def upgrade")[2].partition("def downgrade")[0]
    return _ADDS.search(upgrade) is None


def test_later_schemas_of_a_release_only_add() -> None:
    """A utility that is not upgraded yet goes on with them."""
    later = [
        path
        for path in (Path(str(migrations.__file__)).parent / "versions").glob("v[0-9]*.py")
        if path.name[1:5] > _RELEASED
    ]
    assert [path.name for path in later if not only_adds(path.read_text())] == []
    assert only_adds("def upgrade():\n    op.add_column('meter', Column('colour', Text))\n")
    assert not only_adds("def upgrade():\n    op.drop_column('meter', 'colour')\n")
    assert not only_adds("def upgrade():\n    op.execute('ALTER TABLE meter RENAME COLUMN a TO b')\n")


@pytest.mark.parametrize("kind", ["sqlite"])
def test_backup_that_an_upgrade_made_is_put_back_under_a_new_id(kind: str, old_url: str, tmp_path: Path) -> None:
    path, kept = tmp_path / "old0026.db", tmp_path / "kept"
    # As the code of that time wrote it.
    backup(path, kept, CONFIG, lambda *_: None)
    with pytest.raises(ConfigError, match="has data"):
        restore(path, kept, 0, CONFIG, replace=False, tell=lambda *_: None)
    for _ in range(2):
        restore(path, kept, 0, CONFIG, replace=True, tell=lambda *_: None)
        with closing(open_database(old_url, create=True, check=True)) as database:
            assert readings(database) == (READINGS, [(5, 59049), (6, 103)])
            assert database.store_id != 4711


LOOKS = ("dump", "command r001 aggregate")
"""Commands that take a database as it is."""


def commonwatt(tmp_path: Path, url: str, *words: str) -> tuple[int, str]:
    """Run a command of the utility; return its exit code and what it said."""
    (tmp_path / "utility.toml").write_text(f'[utility]\ndatabase = "{url}"\n')
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--config", str(tmp_path / "utility.toml")])
    return done.exit_code, done.output


def all_there_is(url: str) -> object:
    """Return what a command that only looks could have changed."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return path.read_bytes(), path.stat().st_mode
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return sorted(inspect(connection).get_table_names())


def test_who_only_looks_brings_no_database_up_to_date(old_url: str, tmp_path: Path) -> None:
    before = all_there_is(old_url)
    for words in LOOKS:
        code, said = commonwatt(tmp_path, old_url, *words.split())
        assert (code, "schema 0026" in said, "commonwatt utility migrate --config" in said) == (2, True, True), said
    if old_url.startswith("postgresql"):
        assert all_there_is(old_url) == before
    assert commonwatt(tmp_path, old_url, "migrate")[1].startswith("the database is brought from schema 0026 to ")
    assert commonwatt(tmp_path, old_url, "dump")[0] == 0


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with nothing in it."""
    if kind == "sqlite":
        (tmp_path / "empty.db").touch()
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: Postgres = request.getfixturevalue("server")
    server.execute("CREATE DATABASE nothing")
    yield server.url_of("nothing")
    server.execute("DROP DATABASE nothing WITH (FORCE)")


def test_who_only_looks_makes_no_tables_in_an_empty_database_nor_in_anothers(
    empty_url: str, kind: str, tmp_path: Path
) -> None:
    def looks() -> None:
        for words in LOOKS:
            code, said = commonwatt(tmp_path, empty_url, *words.split())
            assert (code, "Commonwatt" in said) == (2, True), said

    looks()
    with create_engine(empty_url, poolclass=NullPool).begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE theirs (x INTEGER)"))
    before = all_there_is(empty_url)
    looks()
    assert all_there_is(empty_url) == before
    if kind == "sqlite":
        assert "another program's" in commonwatt(tmp_path, empty_url, "migrate")[1]
        assert all_there_is(empty_url) == before


@pytest.mark.parametrize("kind", ["postgresql"])
def test_two_never_make_the_tables_at_the_same_time(kind: str, empty_url: str, tmp_path: Path) -> None:
    at_work = "another migrate is at work on this database; wait until it has ended"
    with create_engine(empty_url, poolclass=NullPool).begin() as connection:
        lock_schema(connection, "the first")
        code, said = commonwatt(tmp_path, empty_url, "migrate")
        assert (code, at_work in said) == (2, True), said

    def migrated(_: int) -> str:
        try:
            open_database(empty_url, create=True).close()
        except ConfigError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as threads:
        said_each = list(threads.map(migrated, range(4)))
    assert "" in said_each
    assert all(not told or at_work in told for told in said_each)
    with create_engine(empty_url, poolclass=NullPool).begin() as connection:
        lock_schema(connection, "another")
        # A process that finds nothing to make needs no lock.
        open_database(empty_url, create=True).close()


def of_0_3(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATABASES / "utility_v0026_sqlite.sql").read_text())
    return path


def test_damaged_database_that_was_upgraded_is_recovered_like_any_other(tmp_path: Path) -> None:
    path = of_0_3(tmp_path / "old.db")
    open_database(f"sqlite:///{path}", create=True).close()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("UPDATE meter SET crc = crc + 1 WHERE id = 10003")
    with pytest.raises(DamagedDatabaseError, match="utility recover"):
        open_database(f"sqlite:///{path}", create=True, check=True)
    done = recover(path, 0)
    assert (done.taken["part"], done.damaged["meter"]) == (3, 1)
    with closing(open_database(f"sqlite:///{path}", create=False, check=True)) as database:
        assert database.store_id != 4711
        assert readings(database)[0] == {key: values for key, values in READINGS.items() if key[0] != 10003}
        with database.reads.begin() as connection:
            assert [kept.dead_letter.content for kept in dead_letters(connection, 9)] == [b"abc"]


def test_damaged_database_of_0_3_is_told_to_be_recovered_with_0_3(tmp_path: Path) -> None:
    path = of_0_3(tmp_path / "old.db")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema 0026, this one's is .*recover it with that release"):
        recover(path, 0)
    assert path.read_bytes() == before


def test_upgraded_database_with_a_damaged_schema_is_not_read_by_the_pages_of_a_new_one(tmp_path: Path) -> None:
    path = of_0_3(tmp_path / "old.db")
    open_database(f"sqlite:///{path}", create=True).close()
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(400) + content[500:])
    with pytest.raises(StoreError, match=r"its schema is damaged, .* commonwatt utility restore"):
        recover(path, 0)


def test_database_of_a_later_schema_is_not_recovered(tmp_path: Path) -> None:
    path = of_0_3(tmp_path / "new.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("ALTER TABLE meter ADD COLUMN colour TEXT")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema 9999, this one.* is .*recover it with that release"):
        recover(path, 0)
    assert path.read_bytes() == before


def test_migrated_database_goes_on_where_it_was(old_url: str) -> None:
    now = (QUARTER + 9) * QUARTER_S
    with closing(open_database(old_url, create=True)) as database:
        finder, compactor = GapFinder(database), Compactor(database)
        replacement = compactor.plan(now)
        assert replacement is not None
        assert compactor.apply(replacement) == 2
        assert compactor.plan(now) is None
        assert readings(database)[0] == READINGS
        finder.apply(finder.plan(now, 0), now)
        with database.reads.begin() as connection:
            missing = connection.execute(select(gap.c.mask).where(gap.c.record_type == 3, gap.c.quarter == QUARTER + 7))
            assert missing.scalar_one() == 2**60 - 1 - 6
        Writer(database).commit([])
        with database.writes.begin() as connection:
            new = part.insert().values(
                quarter=1, meter_no=1, received_minute=0, record_type=3, sender_no=1, owner_no=1, payload=b""
            )
            assert connection.execute(new.returning(part.c.id)).scalar_one() > 15, "no number is used twice"
