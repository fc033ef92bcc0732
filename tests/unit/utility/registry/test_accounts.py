"""`commonwatt accounts`: a clerk's table changes the registry whole or not at all, and each change keeps its person."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from harness.commands import logged_in, shown
from harness.real import databases
from utility.database.database import Database
from utility.outbox.changes import ToldAccount
from utility.registry.accounts import Holding
from utility.registry.cli import app
from utility.registry.store.account_differences import MOST_OF_A_METER, account_differences, count_differences
from utility.registry.store.accounts import changes_of, load_dated_registry, load_for_change, save_dated_registry

Run = Callable[..., str]

MOVE = """what,account,meter,microgrid,place,from,to,value
account,9,,,,,,
holder,1,,r001,house 1,,2026-11-15T14:15,
holder,9,,r001,house 1,2026-11-15T14:15,,
minimum,9,,,,2026-11-15T14:15,,75
"""


@pytest.fixture
def run(tmp_path: Path, url: str, kind: str, database: Database) -> Run:
    """Run a command of accounts, which must exit with ``code``; return its output."""
    config = tmp_path / "utility.toml"
    url = url if kind == "sqlite" else url.replace("@", ":secret@")
    config.write_text(f'[utility]\ndatabase = "{url}"\n')

    def command(*words: str, code: int = 0) -> str:
        with logged_in(database, config, words) as left:
            done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*left, "--config", str(config)])
        assert done.exit_code == code, done.output
        return done.output

    return command


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "moves.csv"
    path.write_text(MOVE)
    return path


@databases.on_both_kinds
def test_a_move_is_previewed_imported_and_kept_with_its_person(run: Run, table: Path, database: Database) -> None:
    preview = run("check", str(table))
    assert "meter 10001\n  - account 1\n  + account 1 to 15 Nov 2026 14:15 EST\n" in preview
    with database.reads.begin() as connection:
        assert 9 not in load_dated_registry(connection).accounts
    assert run("import", str(table)).startswith(preview.partition(str(table))[0])
    assert "nothing new" in run("import", str(table))
    config = table.with_name("utility.toml")
    changes = shown(config, "accounts", "changes", "subject=account 9", "subject=meter 10002")["changes"]
    assert {one["subject"] for one in changes} == {"account 9", "meter 10002"}
    assert all(one["person"].endswith("@this-machine") for one in changes)
    assert any("minimum 75 from 15 Nov 2026 14:15 EST" in one["after"] for one in changes)
    # The house is between its accounts by the clock: the new one has it, from 2026-11-15 on.
    rows = {row["account"]: row for row in shown(config, "accounts")["accounts"]}
    assert rows[2]["meters"] == ["10003", "10004"]
    there = [row for row in rows.values() if any(place.startswith("r001 ") for place in row["places"])]
    assert shown(config, "accounts", "microgrid=r001")["accounts"] == there
    exported = table.with_name("all.csv")
    exported.write_text(run("export"))
    assert "nothing new" in run("import", str(exported))
    exported.write_text(run("export", "--account", "9"))
    assert (exported.read_text().count("holder"), exported.read_text().count("\naccount")) == (4, 2)
    assert "nothing new" in run("import", str(exported))


@pytest.mark.parametrize("words", [("export", "--microgrid", "r009"), ("export", "--account", "99")])
def test_a_name_that_is_not_registered_is_told(run: Run, words: tuple[str, ...]) -> None:
    assert f"{words[1]}: " in (told := run(*words, code=2))
    assert "is not registered" in told


def test_with_a_mistake_nothing_changes(run: Run, table: Path, database: Database) -> None:
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    table.write_text(MOVE + "holder,1,10003,,,2027-03-14T02:30,,\nholder,77,10004,,,,,\n")
    for word in ("check", "import"):
        told = run(word, str(table), code=2)
        assert f"{table}: row 6, column from: 2027-03-14T02:30 does not exist in America/New_York" in told
        assert f"{table}: row 7, column account: account 77 is unknown" in told
        assert "2 mistakes; nothing changed" in told
    table.write_text(MOVE)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before


@databases.on_both_kinds
def test_two_changes_at_once_are_made_one_after_the_other(database: Database) -> None:
    def move(number: int) -> None:
        with database.writes.begin() as connection:
            before = load_for_change(connection)
            holdings = (Holding(account=number, start=0),)
            after = replace(before, meters={**before.meters, number: replace(before.meters[number], holdings=holdings)})
            save_dated_registry(connection, before, after, "anna", number, ZoneInfo("UTC"))

    with database.reads.begin() as connection:
        revision = load_dated_registry(connection).revision
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(move, (10001, 10002, 10003, 10004)))
    with database.reads.begin() as connection:
        registry = load_dated_registry(connection)
        assert len(changes_of(connection, [f"meter {n}" for n in range(10001, 10005)], 99)) == 4
    assert registry.revision == revision + 4
    assert [registry.meters[n].account_at(0) for n in range(10001, 10005)] == list(range(10001, 10005))


def test_differences_are_bounded_for_each_meter(database: Database) -> None:
    found = [ToldAccount(meter=2**64 - 1, told=n, registered=3, time=100 - n) for n in range(20)]
    for some in (found[:5], found, found[2:3]):
        with database.writes.begin() as connection:
            count_differences(connection, some)
    with database.reads.begin() as connection:
        rows = account_differences(connection, 99)
    assert len(rows) == MOST_OF_A_METER + 1
    assert next(row for row in rows if row.told == 2).reports == 3
    assert dict(next(row for row in rows if row.told == "others")) == {
        "meter": str(2**64 - 1),
        "told": "others",
        "registered": 3,
        "first": 81,
        "last": 90,
        "reports": 10,
    }
