"""People see what the utility does by itself; administrators run, pause and change it, which the audit log keeps."""

from collections.abc import Callable
from typing import Any

import pytest

from commonwatt.config.utility import UtilitySettings
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store.audit_log import Wanted, entries
from utility.database.database import Database
from utility.jobs.catalogue import catalogue, plan_of
from utility.jobs.store.job_leases import finish, give_back, postpone, take
from utility.outbox.changes import OpenCommand
from utility.outbox.store.commands import add_command
from utility.outbox.tables import command

DAY_S = 86_400


@pytest.fixture
def filled(database: Database) -> Database:
    """A database in which compaction ran, gaps failed, and the bills of a month wait."""
    with database.writes.begin() as connection:
        for name in ("compact", "gaps"):
            turn = take(connection, plan_of(UtilitySettings(), name), NOW - 20)
            assert turn is not None
            if name == "compact":
                finish(connection, turn, NOW - 10, 2_345)
            else:
                give_back(connection, turn, NOW - 10, "OperationalError: <disk> I/O")
        turn = take(connection, plan_of(UtilitySettings(), "bills"), NOW)
        assert turn is not None
        postpone(connection, turn, "2 days not settled yet", NOW + 3_600)
    return database


def act(person: Browser, path: str, body: dict[str, Any] | None = None) -> Any:
    return person.send("POST", path, json=body or {}, headers={"X-CSRF": person.csrf})


def logged(database: Database) -> list[tuple[object, object]]:
    with database.reads.begin() as connection:
        return [(row["action"], row["subject"]) for row in entries(connection, Wanted(action="job."), 9)]


def test_list_shows_each_job_with_its_state_its_last_run_and_its_error(
    filled: Database, browser: Callable[..., Browser]
) -> None:
    del filled
    viewer = browser(Role.VIEWER)
    for path in ("/console/system", "/console/jobs/live"):
        shown = text_of(viewer.get(path))
        for words in (
            "● ok",
            "2.3 s",
            "■ failed",
            "OperationalError: &lt;disk&gt; I/O",
            "■ waiting, late",
            "2 days not settled",
        ):
            assert words in shown
    found = {row["name"]: row for row in viewer.get("/jobs").json()["jobs"]}
    assert list(found) == [plan.name for plan in catalogue(UtilitySettings())]
    assert (found["compact"]["took_ms"], found["compact"]["done"]) == (2_345, "2027-01-15T09:23:10Z")
    assert (found["gaps"]["also"], found["bills"]["state"]) == (["Query_data", "Recover_data"], "waiting")
    periods = viewer.get("/jobs/periods?limit=1").json()["periods"]
    assert [row["state"] for row in periods] == ["failed"]


def test_administrator_pauses_resumes_runs_and_changes_a_job(filled: Database, browser: Callable[..., Browser]) -> None:
    admin = browser(Role.ADMIN)
    assert "Run now" in text_of(admin.get("/console/jobs/gaps"))
    answer = admin.post("/console/jobs/gaps/pause")
    assert answer.status_code == 303
    assert "It is paused." in text_of(admin.get(answer.headers["location"]))
    refused = admin.post("/console/jobs/gaps/run")
    assert refused.status_code == 409
    assert "resume it first. Nothing was changed" in text_of(refused)
    admin.post("/console/jobs/gaps/resume")
    admin.post("/console/jobs/gaps/run")
    admin.post("/console/jobs/compact/change", {"every_s": 1_800})
    assert "every 1800 s (changed" in text_of(admin.get("/console/jobs/compact"))
    admin.post("/console/jobs/compact/reset")
    assert "every 900 s." in text_of(admin.get("/console/jobs/compact"))
    admin.post("/console/jobs/bills/change", {"at": "02:30"})
    assert 'value="02:30"' in admin.get("/console/jobs/bills").text
    assert logged(filled)[::-1] == [
        ("job.pause", "gaps"),
        ("job.resume", "gaps"),
        ("job.run", "gaps"),
        ("job.change", "compact"),
        ("job.change", "compact"),
        ("job.change", "bills"),
    ]


def test_program_does_the_same(filled: Database, browser: Callable[..., Browser]) -> None:
    admin = browser(Role.ADMIN)
    assert act(admin, "/jobs/Query_data/pause").json() == {"words": ["paused"]}
    assert act(admin, "/jobs/gaps/pause").status_code == 409
    assert act(admin, "/jobs/gaps/resume").status_code == 200
    assert "within 15 s" in act(admin, "/jobs/gaps/run").json()["words"][0]
    assert act(admin, "/jobs/bills/change", {"at": "03:00"}).status_code == 200
    for body, why in (
        ({"every_s": 900}, "once for each local month"),
        ({"at": "25:00"}, "00:00 to 23:59"),
        ({"at": "noon"}, "no time of day"),
    ):
        answer = act(admin, "/jobs/bills/change", body)
        assert answer.status_code == 422
        assert why in answer.text
    assert act(admin, "/jobs/laundry/run").status_code == 404
    assert len(logged(filled)) == 4


def test_others_read_and_change_nothing(filled: Database, browser: Callable[..., Browser]) -> None:
    operator = browser(Role.OPERATOR)
    assert "Run now" not in text_of(operator.get("/console/jobs/gaps"))
    for path in ("/console/jobs/gaps/pause", "/console/jobs/gaps/change"):
        assert operator.post(path).status_code == 403
    assert act(operator, "/jobs/gaps/run").status_code == 403
    assert browser(Role.RESIDENT, account=1).get("/console/jobs").status_code == 403
    assert operator.get("/console/jobs").headers["location"] == "/console/system#jobs", "its old address"
    assert logged(filled) == []


def test_requests_without_an_answer_are_listed_oldest_first_with_their_end(
    database: Database, browser: Callable[..., Browser]
) -> None:
    with database.writes.begin() as connection:
        for n, until in enumerate((NOW + 60, NOW - 5, NOW - 9 * DAY_S, NOW + 70)):
            new = OpenCommand(id=f"c{n}", controller="r001", message='{"cmd": "get"}', until=until)
            add_command(connection, new, NOW - 10 * DAY_S - n)
        states = {"c1": "expired", "c2": "expired", "c3": "done"}
        for name, state in states.items():
            outcome = '{"result": "unsupported", "reason": "an old gateway"}' if state == "done" else None
            answered = {"state": state, "outcome": outcome, "result": "unsupported" if outcome else None}
            connection.execute(command.update().where(command.c.id == name).values(answered))
    viewer = browser(Role.VIEWER)
    found = viewer.get("/requests").json()["requests"]
    assert [(row["state"], row["reason"]) for row in found] == [
        ("failed", "unsupported: an old gateway"),
        ("expired", ""),
        ("open", ""),
    ], "what expired over a week ago is left out"
    assert found[-1]["expires"] == "2027-01-15T09:24:20Z"
    assert "failed: unsupported" in text_of(viewer.get("/console/requests"))
