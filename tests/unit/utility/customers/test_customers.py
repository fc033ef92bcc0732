"""The office's table of people and its mistakes; who people are leaves the office's pages nowhere.

Releases for researchers are searched for the same signs in ``research/test_research.py``.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import grimp
import pytest

from harness.furnished import CANARY, PAGE, SIGNS, found_in, furnished, store_canary, visited
from harness.routes import Visitors
from tests.unit.utility.conftest import NOW
from utility.assembly.backup.backup import copy
from utility.customers.people import COLUMNS, Contact, History, changed, read_people
from utility.database.database import Database
from utility.registry.changes import parse_quarter

ZONE = ZoneInfo("Europe/Berlin")
HEAD = "account,from,name,street,country,mail,language,paper,iban,mandate,mandate_day"
NOVEMBER = parse_quarter("2026-11-01", ZONE)


def read(*rows: str, head: str = HEAD, known: dict[int, History] | None = None) -> tuple[list[str], list[str]]:
    changes, faults = read_people("\n".join([head, *rows]), ZONE, {7, 8}, known or {})
    return [f"{each.account} {each.since} {'; '.join(each.lines)}" for each in changes], [str(each) for each in faults]


def test_rows_become_contacts_from_a_local_day_on() -> None:
    changes, faults = read(
        '7,2026-11-01,Anna Ärmel,"Am Anger 3, links",DE,a@example.org,de,yes,,,', "8,,O'Hara,,,,,,,,"
    )
    assert faults == []
    rest = "country: - → DE; mail: - → a@example.org; language: - → de; paper: - → yes"
    assert changes == [
        f"7 {NOVEMBER} name: - → Anna Ärmel; street: - → Am Anger 3, links; {rest}",
        "8 0 name: - → O'Hara",
    ]
    for delimiter in (";", "\t"):
        assert read(f"7{delimiter}'=Anna", head=f"\ufeffaccount{delimiter}name") == (["7 0 name: - → =Anna"], [])


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("9,,Canary,,,,,,,,", "column account: is no registered account"),
        ("Canary,,A,,,,,,,,", "column account: is no registered account"),
        ("7,Canary,A,,,,,,,,", "column from: is no local day"),
        ("7,2026-10-25T02:30,A,,,,,,,,", "column from: is no local day or quarter-hour that exists once"),
        ("7,,,Canary,,,,,,,", "column name: is needed"),
        ("7,," + 71 * "x" + ",,,,,,,,", "column name: is needed, with at most 70 characters"),
        ("7,,A\u202eCanary,,,,,,,,", "column name"),
        ("7,,A,,Canary,,,,,,", "column country"),
        ("7,,A,,,Canary,,,,,", "column mail: is no mail address"),
        ("7,,A,,,Canary <c@example.org>,,,,,", "column mail: is no mail address"),
        ("7,,A,,,=?utf-8?q?Canary=40evil.example=2C?=@example.org,,,,,", "column mail: is no mail address"),
        ("7,,A,,,,Canary,,,,", "column language"),
        ("7,,A,,,,,Canary,,,", "column paper"),
        ("7,,A,,,,,,Canary,,", "column iban: is no IBAN"),
        ("7,,A,,,,,,DE89370400440532013001,,", "column iban: is no IBAN: its check digits"),
        ("7,,A,,,,,,DE89370400440532013000,Canary,", "column mandate: a mandate needs its day"),
        ("7,,A,,,,,,,Canary,2026-11-03", "column mandate: a mandate needs its day and an IBAN"),
        ("7,,A,,,,,,DE89370400440532013000,Canary!,2026-11-03", "column mandate"),
        ("7,,A,,,,,,DE89370400440532013000,M1,2026-02-30", "column mandate_day: is no day"),
        ("7,,A,,,,,,,,,Canary", "row 2: has more cells"),
        ("7,,A,,,,,,,,\n7,,Canary,,,,,,,,", "row 3, column from: another row has the same account"),
    ],
)
def test_mistake_is_told_by_row_and_column_without_what_was_written(row: str, fault: str) -> None:
    _, faults = read(row)
    assert [each for each in faults if fault in each], faults
    assert "Canary" not in " ".join(faults)


def test_table_without_a_head_is_refused() -> None:
    for head in ("Canary,7", "account,Canary,name", ""):
        changes, faults = read(head=head)
        assert changes == []
        assert faults == [f"row 1: must name the columns, `account` and `name` among them: {', '.join(COLUMNS)}"]
    assert read(f"7,,{200_000 * 'x'}")[1] == ["row 1: can't be read as CSV"]


def test_same_table_again_changes_nothing_and_a_correction_keeps_what_bills_have() -> None:
    anna, anne = Contact(name="Anna"), Contact(name="Anne", iban="DE89370400440532013000")
    known: dict[int, History] = {7: [(0, anna), (NOVEMBER, anne)]}
    assert read("7,,Anna", known=known) == ([], [])
    assert read("7,2026-11-01,Anne,,,,,,DE89 3704 0044 0532 0130 00", known=known) == ([], [])
    assert read("7,2026-11-02,Anne,,,,,,DE89 3704 0044 0532 0130 00", known=known) == ([], []), "it is so already"
    corrected, _ = read("7,2026-11-01,Anneli", known=known)
    assert corrected == [f"7 {NOVEMBER + 1} name: Anne → Anneli; iban: DE89370400440532013000 → -"]
    known[7].append((NOVEMBER + 1, Contact(name="Anneli")))
    assert read("7,2026-11-01,Anneli", known=known) == ([], []), "the corrected table again"


def test_another_mail_address_is_that_of_issued_bills_too_another_name_is_not() -> None:
    anna = Contact(name="Anna", city="Jena")
    mail, name = Contact(name="Anna", city="Jena", mail="a@example.org"), Contact(name="Anne", city="Jena")
    assert changed(7, NOVEMBER, mail, [(0, anna)]).who.digest() == anna.digest()
    assert changed(7, NOVEMBER, name, [(0, anna)]).who.digest() != anna.digest()


@pytest.mark.parametrize("iban", ["GB82 WEST 1234 5698 7654 32", "CH9300762011623852957", "ES9121000418450200051332"])
def test_good_ibans_are_taken(iban: str) -> None:
    assert read(f"7,,A,,,,,,{iban}")[1] == []
    swapped = iban[:-2] + iban[-1] + iban[-2]
    assert read(f"7,,A,,,,,,{swapped}")[1] != []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    with furnished(folder, NOW) as made:
        yield made


@pytest.fixture(scope="module")
def visitors(database: Database) -> Iterator[Visitors]:
    with visited(database, NOW) as made:
        yield made


def test_no_line_of_the_log_has_it(visitors: Visitors, caplog: pytest.LogCaptureFixture) -> None:
    """Which pages show it, and that no others do, ``assembly/test_routes.py`` asks."""
    caplog.set_level(logging.DEBUG)
    store_canary(visitors)
    clerk = visitors.session("clerk")
    wrong = visitors.ask("POST", PAGE, clerk, data={"kind": "people", "at": "Canaria"} | CANARY)
    assert wrong.status_code == 422
    assert found_in(visitors.ask("GET", PAGE, clerk).text) == list(SIGNS)
    assert found_in(caplog.text) == []
    assert "contact.set" in visitors.ask("GET", "/console/audit/file", visitors.session("admin")).text


def test_database_and_backup_have_it_encrypted(visitors: Visitors, folder: Path, tmp_path: Path) -> None:
    page = visitors.ask("GET", PAGE, visitors.session("clerk"))
    assert found_in(page.text) == list(SIGNS), "the test before stored it"
    with closing(sqlite3.connect(folder / "utility.db")) as source:
        copy(source, tmp_path / "backup.db", lambda *_: None)
    files = [*folder.glob("utility.db*"), tmp_path / "backup.db"]
    assert len(files) >= 2
    for file in files:
        assert found_in(file.read_bytes()) == [], file


def test_only_the_office_reads_it() -> None:
    graph = grimp.build_graph("utility")
    rooms = {name.split(".")[1] for name in graph.modules if name.startswith("utility.")}
    reading = {
        room
        for room in rooms
        for name in graph.find_modules_that_directly_import("utility.customers.people")
        if name.startswith(f"utility.{room}")
    }
    assert reading <= {"customers", "moves", "billing", "ledger", "mail"}
