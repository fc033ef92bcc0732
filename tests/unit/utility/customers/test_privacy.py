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

from harness.canary import CANARY, PAGE, SIGNS, found_in, store_canary
from harness.furnished import furnished, visited
from harness.routes import Visitors
from tests.unit.utility.conftest import NOW
from utility.assembly.backup.backup import copy
from utility.database.database import Database


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
        for name in graph.find_modules_that_directly_import("utility.customers.contact")
        if name.startswith(f"utility.{room}")
    }
    assert reading <= {"customers", "moves", "billing", "ledger", "mail"}
