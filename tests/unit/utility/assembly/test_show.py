"""``commonwatt show``: every list of the API by its own description, as table, CSV and JSON; wrong names, filters."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from harness.commands import WHO, logged_in, run_as, shown
from harness.furnished import furnished
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.database.database import open_database
from utility.webkit.cli import show as module
from utility.webkit.cli.service import read
from utility.webkit.cli.show import Described


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    with furnished(folder, NOW):
        pass
    (folder / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{folder / "utility.db"}"\n')
    return folder / "utility.toml"


@pytest.fixture
def told(town: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Print in a terminal of 160 columns; return what is printed, or the error."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> str:
        try:
            return run_as(town, "show", *words)
        except SystemExit:
            return capsys.readouterr().err

    return run


def test_without_a_name_all_names_are_listed_with_their_filters(told: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in told().splitlines() if line.strip()}
    assert "dead-letters" in lines
    assert {"runs/{number}/bills/{account}", "assignments/{microgrid}", "accounts"} <= lines.keys()
    assert lines["gaps"].split()[-1] == "limit"
    assert "(approver, clerk)" in told(), "who may read it, if not everybody at the utility"
    assert not {"export/bills", "metrics", "openapi.json", "console/town"} & lines.keys()


def test_everything_that_needs_no_further_word_is_shown_in_a_terminal(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = open_database(f"sqlite:///{town.with_name('utility.db')}", create=False)
    with closing(database), logged_in(database, town, (WHO, "anna")):
        things = [
            thing
            for thing in Described(read(town, "/openapi.json")).things
            if "{" not in thing.name and not any(thing.filters.values()) and Role.CLERK in (thing.roles or {Role.CLERK})
        ]
        for thing in things:
            module.show(town, [thing.name])
            assert capsys.readouterr().out.strip(), thing.name
    assert len(things) > 25


def test_a_list_is_the_same_as_a_table_as_csv_and_as_json(told: Callable[..., str], town: Path) -> None:
    rows = shown(town, "accounts")["accounts"]
    assert len(rows) > 3
    table = told("accounts").splitlines()
    assert table[0].strip() == f"accounts ({len(rows)} shown)"
    assert [int(line.split()[0]) for line in table[3:] if line.strip()] == [row["account"] for row in rows]
    read = list(csv.DictReader(io.StringIO(told("accounts", "--format", "csv"))))
    assert [json.loads(row["meters"]) for row in read] == [row["meters"] for row in rows]
    assert told("accounts", "account=1") != told("accounts")


def test_a_name_may_be_given_in_parts(told: Callable[..., str]) -> None:
    assert told("assignments/r001") == told("assignments", "r001") == told("/assignments/r001/")
    assert "r001" in told("assignments", "r001")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gapz",), "gapz: nothing has this name; near: gaps; all names: commonwatt show"),
        (("gaps", "limt=3"), "limt: no filter of gaps; near: limit; it has: limit"),
        (("gaps", "limit=many"), "limit: Input should be a valid integer"),
        (("assignments", "r009"), "r009"),
        (("sharing",), "start: Field required"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_near(told: Callable[..., str], words: tuple[str, ...], says: str) -> None:
    assert says in told(*words)


def test_a_watched_list_is_shown_again_until_it_is_stopped(
    told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr(module._pause, "wait", lambda _: next(looks))
    assert told("gaps", "--watch").split("\n").count("no gaps") == 3
