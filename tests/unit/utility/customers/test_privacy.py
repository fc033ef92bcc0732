"""Who people are leaves the office's pages nowhere: no answer, log, metric, file, database or backup has it.

Releases for researchers are searched for the same signs in ``research/test_research.py``.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grimp
import pytest

from harness.furnished import furnished, visited
from harness.household import HOUSE, MONTH
from harness.routes import Visitors, all_routes
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.assembly.backup.backup import copy
from utility.database.database import Database

CANARY = {
    "name": "Canaria Vogel",
    "street": "Käfigweg 77",
    "postcode": "99988",
    "city": "Piepstadt",
    "country": "DE",
    "mail": "canary@piep.example",
    "iban": "DE02120300000000202051",
    "mandate": "PIEP-1",
    "mandate_day": "2026-11-03",
}
SIGNS = ("Canaria", "Vogel", "Käfigweg", "Piepstadt", "piep.example", "DE02120300000000202051", "PIEP-1")
# The pages of the office that show people.
SHOWN = {"/console/accounts", "/console/accounts/{account}"}
QUERY = {"start": "2026-12-30", "end": "2027-01-02"}
VALUES = {"month": MONTH, "account": str(HOUSE), "microgrid": "r001", "meter": "10001", "name": "standard"}


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


def found_in(content: bytes | str) -> list[str]:
    raw = content.encode() if isinstance(content, str) else content
    return [sign for sign in SIGNS if sign.encode() in raw or sign.encode("utf-16-le") in raw]


def test_canary_is_shown_to_clerks_alone(visitors: Visitors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clerk, page = visitors.session("clerk"), f"/console/accounts/{HOUSE}"
    for fields in ({"kind": "people", "at": "2026-11-01"}, {"kind": "move", "at": "2027-02-01", "next": "new"}):
        for action in ("see", "do"):
            done = visitors.ask("POST", page, clerk, data=fields | CANARY | {"action": action})
            assert done.status_code == (303 if action == "do" else 200), done.text
    wrong = visitors.ask("POST", page, clerk, data={"kind": "people", "at": "Canaria"} | CANARY)
    assert wrong.status_code == 200
    assert found_in(visitors.ask("GET", page, clerk).text) == list(SIGNS)
    leaks = []
    for name in ("everything", *(role.value for role in Role)):
        headers = visitors.session(name)
        for route in all_routes():
            if not route.is_safe or (route.path in SHOWN and name in ("everything", "clerk")):
                continue
            query = {key: value for key, value in QUERY.items() if key in route.in_query}
            answer = visitors.ask(route.method, route.address(VALUES), headers, params=query)
            leaks += [(name, route.path, sign) for sign in found_in(answer.content)]
    assert leaks == []
    assert found_in(caplog.text) == []
    assert "contact.set" in visitors.ask("GET", "/console/audit/file", visitors.session("admin")).text


def test_database_and_backup_have_it_encrypted(visitors: Visitors, folder: Path, tmp_path: Path) -> None:
    page = visitors.ask("GET", f"/console/accounts/{HOUSE}", visitors.session("clerk"))
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
        for name in graph.find_modules_that_directly_import("utility.customers.contact")
        if name.startswith(f"utility.{room}")
    }
    assert reading <= {"customers", "moves", "billing", "ledger", "mail"}
