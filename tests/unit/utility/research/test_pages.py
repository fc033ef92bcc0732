"""Researchers get what answers their requests, and the audit log says so; a second person approves above the limit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.database.database import Database
from utility.research import store as store

MANIFEST = (
    '{"resources": [{"path": "homes.csv", "schema": {"fields": '
    '[{"name": "home", "type": "string", "description": "The pseudonym"}]}}]}'
)
Browsers = Callable[..., Browser]


def release(release_id: str, tier: str, state: str, agreement: str = "") -> store.Kept:
    attack = {"attack": "by bills", "attacker": "has all bills", "success": 0.5, "by_guessing": 0.01}
    options = {"agreement": agreement, "step_s": 900}
    return store.Kept(
        id=release_id,
        tier=tier,
        since=NOW // 900 - 2880,
        until=NOW // 900,
        options=options,
        attacks=[attack],
        groups={},
        state=state,
        asked=NOW - 100,
        asked_by="anna",
    )


def asked_for(database: Database, person: str, answer: str) -> None:
    """Keep a person's request that a release answers."""
    kept = replace(release("9", "homes", "made"), asked_by=person, options={"step_s": 900, "release": answer})
    with database.writes.begin() as connection:
        store.save_release(connection, kept)


@pytest.fixture
def stored(database: Database, tmp_path: Path) -> None:
    with database.writes.begin() as connection:
        store.save_release(connection, release("aa11", "open", "released"))
        store.save_release(connection, release("bb22", "homes", "released", "university"))
        store.save_release(connection, release("cc33", "open", "waiting"))
    for name in ("aa11", "bb22"):
        folder = tmp_path / "releases" / name
        folder.mkdir(parents=True)
        (folder / "datapackage.json").write_text(MANIFEST)
        (folder / "homes.csv").write_text("home\n1\n")
    (tmp_path / "releases" / "secret.txt").write_text("no")


@pytest.mark.usefixtures("stored")
def test_researcher_gets_files_under_an_agreement_and_the_log_says_so(browser: Browsers, database: Database) -> None:
    clerk, eve = browser(Role.CLERK, name="ben"), browser(Role.RESEARCHER, name="eve")
    file = {"name": "homes.csv"}
    assert eve.post("/console/research/aa11/download", file).text == "home\n1\n", "open releases are for all of them"
    assert eve.get("/console/research/bb22").status_code == 404
    assert eve.post("/console/research/bb22/download", file).status_code == 404
    assert clerk.post("/console/research/agreements", {"name": "university", "until": "2028-01-01"}).status_code == 303
    assert eve.get("/console/research/bb22").status_code == 404
    asked_for(database, "eve", "bb22")
    page = text_of(eve.get("/console/research/bb22"))
    assert "The pseudonym" in page
    assert "50.0 %" in page
    assert eve.post("/console/research/bb22/download", file).headers["content-disposition"].startswith("attachment")
    for name in ("../secret.txt", "secret.txt", ""):
        assert eve.post("/console/research/bb22/download", {"name": name}).status_code in (404, 422)
    assert clerk.post("/console/research/bb22/download", file).status_code == 403
    assert browser(Role.RESEARCHER, name="mallory").post("/console/research/bb22/download", file).status_code == 404
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.Wanted(), 9)
        assert store.releases_of(connection, "eve", NOW) == {"bb22": "university"}
        assert store.releases_of(connection, "eve", NOW + 2 * 366 * 86_400) == {}, "the agreement has ended"
    assert [(one["person"], one["action"], one["subject"]) for one in entries if one["person"] != "admin"] == [
        ("eve", "release.download", "release bb22"),
        ("ben", "agreement.add", "agreement university"),
        ("eve", "release.download", "release aa11"),
    ]


@pytest.mark.usefixtures("stored")
def test_release_above_the_limit_waits_for_another_person(browser: Browsers, database: Database) -> None:
    anna, ben = browser(Role.CLERK, Role.APPROVER, name="anna"), browser(Role.APPROVER, name="ben")
    own = anna.post("/console/research/cc33/approve", {"why": "small"})
    assert (own.status_code, "anna asked for it; a second person" in text_of(own)) == (409, True)
    assert "1 to 200 printable characters" in text_of(ben.post("/console/research/cc33/approve"))
    assert ben.post("/console/research/cc33/approve", {"why": "looked at"}).status_code == 303
    assert "is approved already" in text_of(ben.post("/console/research/cc33/approve", {"why": "again"}))
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.Wanted(action="release."), 9)
    assert (entry["person"], entry["subject"]) == ("ben", "release cc33")
    assert browser(Role.VIEWER).get("/console/research").status_code == 403
