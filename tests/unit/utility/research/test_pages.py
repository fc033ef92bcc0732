"""Researchers get what answers their requests, see it beforehand, and the audit log says so."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.model.calendar import parse_time
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.database.database import Database
from utility.research import store
from utility.research.documents import (
    attack_words,
    data_columns,
    files_of_tier,
    made_rows,
    options_words,
    plot_of,
    reading_lines,
)
from utility.research.release import Tier

MANIFEST_TEXT = (
    '{"resources": [{"path": "homes.csv", "schema": {"fields": '
    '[{"name": "home", "type": "string", "description": "The pseudonym"}]}}]}'
)
Browsers = Callable[..., Browser]


def release(release_id: str, tier: str, state: str, agreement: str = "") -> store.KeptRelease:
    attack = {"attack": "by bills", "attacker": "has all bills", "success": 0.5, "by_guessing": 0.01}
    options = {"agreement": agreement, "step_s": 900}
    return store.KeptRelease(
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
        (folder / "datapackage.json").write_text(MANIFEST_TEXT)
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
        entries = audit_log.entries(connection, audit_log.AuditFilter(), 9)
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
    assert "1 to 200 printable characters" in text_of(ben.post("/console/research/cc33/approve", {"why": " "}))
    assert ben.post("/console/research/cc33/approve", {"why": "looked at"}).status_code == 303
    assert "is approved already" in text_of(ben.post("/console/research/cc33/approve", {"why": "again"}))
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(action="release."), 9)
    assert (entry["person"], entry["subject"]) == ("ben", "release cc33")
    assert browser(Role.VIEWER).get("/console/research").status_code == 403


SUMS = "group,start,used_wh,generated_wh\nhome,2026-06-14T00:00:00Z,18800,\nhome,2026-06-14T00:15:00Z,17000,100\n"
MANIFEST = {
    "title": "Centertown: open release",
    "release": {"version": "0.3.0"},
    "resources": [
        {"path": "groups.csv", "rows": 1, "hash": "sha256:00", "schema": {"fields": []}},
        {
            "path": "sums.csv",
            "rows": 2,
            "hash": "sha256:abcdef",
            "schema": {
                "fields": [
                    {"name": one.name, "type": one.kind, "description": one.meaning} for one in data_columns(Tier.OPEN)
                ]
            },
        },
    ],
}


@pytest.fixture
def folder(database: Database, tmp_path: Path) -> Path:
    with database.writes.begin() as connection:
        store.save_release(connection, release("aa11", "open", "released"))
        store.save_release(connection, release("bb22", "homes", "released", "university"))
    made = tmp_path / "releases" / "aa11"
    made.mkdir(parents=True)
    (made / "datapackage.json").write_text(json.dumps(MANIFEST))
    (made / "sums.csv").write_text(SUMS)
    return made


@pytest.mark.parametrize("tier", Tier)
def test_made_rows_have_the_columns_of_their_tier_and_add_up(tier: Tier) -> None:
    *_, columns = files_of_tier(tier).values()
    rows = made_rows(tier)
    assert all(len(row) == len(columns) for row in rows)
    assert parse_time(rows[1][1], "start") - parse_time(rows[0][1], "start") == 900
    if tier is not Tier.OPEN:
        for _, _, used, generated, taken, given in rows:
            assert float(used) == pytest.approx(float(generated) + float(taken) - float(given), abs=0.01)
    plot = plot_of([one.name for one in columns], rows)["series"]
    assert [one["label"] for one in plot][:2] == ["Used", "Generated"]
    assert all(len(one["high"]) == len(rows) for one in plot)


def test_researcher_without_an_agreement_sees_what_there_is_and_whom_to_ask(
    browser: Callable[..., Browser], folder: Path
) -> None:
    del folder
    eve = browser(Role.RESEARCHER, name="eve")
    browser(Role.CLERK, name="anna")
    assert "Ask for data" in text_of(eve.get("/console/research"))
    page = text_of(eve.get("/console/research/kinds/homes"))
    assert "given_wh" in page
    assert "Made up, of no home" in page
    assert "made-up-home,2026-06-15T" in page
    assert "Sign the agreement, with Anna" in page
    assert "deleted when the agreement ends" in page
    assert "No agreement is needed" in text_of(eve.get("/console/research/kinds/open"))
    assert len(eve.get("/console/research/kinds/homes/plot.json").json()["series"]) == 4
    assert eve.get("/console/research/kinds/all").status_code == 422
    assert eve.get("/console/research/bb22/plot.json").status_code == 404
    assert browser(Role.VIEWER).get("/console/research/kinds/open").status_code == 403


def test_release_shows_licence_citation_checksum_attack_and_first_rows(
    browser: Callable[..., Browser], folder: Path
) -> None:
    eve = browser(Role.RESEARCHER, name="eve")
    assert "aa11 open" in text_of(eve.get("/console/research"))
    assert "CC BY 4.0" in text_of(eve.get("/console/research"))
    page = text_of(eve.get("/console/research/aa11"))
    for words in (
        "Centertown: open release, aa11, 2026-12",
        "Made by Commonwatt 0.3.0.",
        "abcdef",
        "home,2026-06-14T00",
    ):
        assert words in page
    assert "“by bills”, succeeds in 50.0% of its trials; guessing alone succeeds in 1.0%" in page
    used, generated = eve.get("/console/research/aa11/plot.json").json()["series"]
    assert (used["high"], used["step_s"], generated["high"]) == ([18800, 17000], 900, [None, 100])
    (folder / "sums.csv").unlink()
    assert eve.get("/console/research/aa11/plot.json").json() == {"series": []}


@pytest.mark.parametrize("program", ["DuckDB", "pandas"])
def test_line_reads_the_file_as_it_is_downloaded(
    browser: Callable[..., Browser], folder: Path, tmp_path: Path, program: str
) -> None:
    del folder
    eve = browser(Role.RESEARCHER, name="eve")
    got = eve.post("/console/research/aa11/download", {"name": "sums.csv"})
    name = got.headers["content-disposition"].partition('filename="')[2].strip('"')
    (tmp_path / name).write_bytes(got.content)
    line = dict(reading_lines("aa11", MANIFEST))[program]
    assert name in line
    done = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "18800" in done.stdout
    assert "2026-06-14 00:15:00" in done.stdout or "2026-06-13 20:15:00" in done.stdout, "times are times"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_s": 900, "min_homes": 15}, "groups of at least 15 homes, steps of 15 minutes"),
        ({"step_s": 15, "agreement": "a"}, "steps of 15 seconds, as measured"),
        ({"step_s": 3600, "unit_wh": 100, "shuffled": True}, "steps of 60 minutes, days shuffled, rounded to 100 Wh"),
    ],
)
def test_options_are_in_words(options: dict[str, object], words: str) -> None:
    assert options_words(options) == words


def test_attack_that_learned_most_is_told() -> None:
    attacks = [
        {"attack": "half-hours", "success": 0.9, "by_guessing": 0.89},
        {"attack": "bills", "success": 0.5, "by_guessing": 0.1},
    ]
    assert attack_words(attacks) == (
        "The most successful of 2 attacks on it, “bills”, succeeds in 50.0% of its trials; "
        "guessing alone succeeds in 10.0%."
    )
    assert attack_words([]) == "No attack was run on it."
    assert reading_lines("aa11", {}) == []
