"""What administrators see and do: jobs, the parts of the utility with their state, and devices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import load_devices, load_tokens
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from harness.console import Browser, standing_api, text_of
from harness.surroundings.messages import a_heartbeat
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.access.store.audit_log import AuditFilter, entries
from utility.alarms.conditions import DatabaseCounts, JobFacts, Past, UtilityFacts
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.jobs.plans import catalogue, plan_of
from utility.jobs.store import finish, give_back, postpone, take
from utility.outbox.changes import OpenCommand, SawGateway
from utility.outbox.store import add_command
from utility.outbox.tables import command
from utility.overview.system import SystemFacts, SystemPart, parts
from utility.readings.store.writer import Writer
from utility.registry.store.enrolment import enrol
from utility.settings import UtilitySettings

A_DAY_S = 86_400


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
        return [(row["action"], row["subject"]) for row in entries(connection, AuditFilter(action="job."), 9)]


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
    assert "gaps is paused." in text_of(admin.get(answer.headers["location"]))
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
    assert act(admin, "/jobs/Query_data/pause").json() == {"words": ["gaps is paused."]}
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
        for n, until in enumerate((NOW + 60, NOW - 5, NOW - 9 * A_DAY_S, NOW + 70)):
            new = OpenCommand(id=f"c{n}", controller="r001", message='{"cmd": "get"}', until=until)
            add_command(connection, new, NOW - 10 * A_DAY_S - n)
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


HOUR_S, DAY_S = 3_600, 86_400
SYSTEM_NOW = 1_800_000_000


def judged(
    facts: UtilityFacts, *, backup: int | None = SYSTEM_NOW - 5 * HOUR_S, makes_backups: bool = True
) -> dict[str, SystemPart]:
    known = SystemFacts(version="0.4", schema="0031", jobs=14, makes_backups=makes_backups, backup=backup)
    return {part.name: part for part in parts(facts, known, SYSTEM_NOW)}


def test_everything_is_good_without_a_condition_and_says_what_is_known() -> None:
    facts = UtilityFacts(disk=(40 * 10**9, 100 * 10**9), certificates={"mqtt": 90 * DAY_S, "http": 30 * DAY_S})
    found = judged(facts)
    assert {part.state for part in found.values()} == {"good"}
    assert found["Disk"].words == "40.0 GB of 100.0 GB are free"
    assert found["Backups"].words == "the newest was made 5 hours ago"
    assert found["Certificates"].words == "for gateways ends in 90 days; for browsers ends in 30 days"


def test_what_is_not_measured_or_not_in_use_is_neither_good_nor_wrong() -> None:
    found = judged(UtilityFacts(), makes_backups=False)
    assert {name for name, part in found.items() if part.state == "idle"} == {"Disk", "Backups", "Certificates"}


def test_system_of_a_street_shows_its_own_nightly_backups(database: Database, tmp_path: Path) -> None:
    settings = UtilitySettings(second_factor="optional", site=tmp_path)
    viewer = Browser(make_app(standing_api(database, NOW, settings=settings)), Role.VIEWER)
    assert "no passphrase is set" in text_of(viewer.get("/console/system"))
    (tmp_path / "backup-key").touch()
    assert "Backups today" not in text_of(viewer.get("/console/system"))
    assert "none yet" in text_of(viewer.get("/console/system"))
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups/last.json").write_text('{"name": "", "fault": "no space left"}')
    assert "the last one was not made: no space left See Setup, Backup." in text_of(viewer.get("/console/system"))


FAILING = UtilityFacts(
    counted=DatabaseCounts(jobs=(JobFacts(name="gaps"),)), past=Past(counts={("job_failures", "gaps"): 3})
)


@pytest.mark.parametrize(
    ("facts", "name", "state", "words"),
    [
        (UtilityFacts(disk=(5, 100)), "Disk", "warning", "nearly full"),
        (UtilityFacts(full=True, disk=(0, 100)), "Disk", "bad", "full"),
        (UtilityFacts(damaged=True), "Database", "bad", "damaged"),
        (UtilityFacts(head_ends={"127.0.0.1:1884": False}), "Connection", "bad", "no connection"),
        (UtilityFacts(trusted=False), "Clock", "warning", "not synchronized"),
        (UtilityFacts(certificates={"http": 3 * DAY_S}), "Certificates", "warning", "expires soon"),
        (UtilityFacts(certificates={"mqtt": -HOUR_S}), "Certificates", "bad", "has expired"),
        (FAILING, "Jobs", "warning", "gaps fails"),
        (
            UtilityFacts(counted=DatabaseCounts(jobs=(JobFacts(name="backup", late_s=DAY_S),))),
            "Backups",
            "warning",
            "backup is late",
        ),
    ],
)
def test_a_part_is_wrong_by_the_condition_of_its_alarm(facts: UtilityFacts, name: str, state: str, words: str) -> None:
    found = judged(facts)
    assert found[name].state == state
    assert words in found[name].wrong[0].summary
    assert [part.name for part in found.values() if part.wrong] == [name]


def test_gateways_are_counted_by_their_releases() -> None:
    said = {
        "r001": a_heartbeat(),
        "r002": a_heartbeat(program={"release": "0.4"}),
        "r003": a_heartbeat(program={"release": "0.4"}),
    }
    assert judged(UtilityFacts(said=said))["Versions"].words == "utility 0.4, 2 gateways 0.4, 1 gateway 0.3 or older"


def test_page_shows_each_part_and_the_jobs(browser: Callable[..., Browser]) -> None:
    shown = text_of(browser(Role.ADMIN).get("/console/system"))
    for words in ("Disk", "Backups", "Certificates", "Versions", "○ not known", "settles the finished days"):
        assert words in shown


@pytest.fixture
def out(tmp_path: Path, town: Town) -> Path:
    folder = tmp_path / "site"
    enrol(town, folder)
    Authority.create(folder, "Test", NOW)
    return folder


@pytest.fixture
def person(database: Database, clock: Clock, out: Path) -> Callable[..., Browser]:
    """Return a browser at a service that has the folder."""
    app = make_app(standing_api(database, NOW, clock=clock, settings=UtilitySettings(enrolment=out)))
    return lambda role: Browser(app, role)


def test_without_the_folder_the_page_says_what_to_type(browser: Callable[..., Browser]) -> None:
    admin = browser(Role.ADMIN)
    assert "is not on this machine: that is the safe way" in text_of(admin.get("/console/devices"))
    page = text_of(admin.get("/console/devices/r001"))
    assert "where the enrolment's folder is" in page
    assert "commonwatt enroll" not in page
    for change in ("enrol", "revoke", "readmit"):
        answer = admin.post(f"/console/devices/r001/{change}", {"reason": "stolen"})
        assert (answer.status_code, "make the change where it is" in answer.text) == (409, True)
    assert admin.get("/console/devices/r999").status_code == 404


def test_gateway_is_enrolled_revoked_and_admitted_again(
    person: Callable[..., Browser], out: Path, database: Database
) -> None:
    admin = person(Role.ADMIN)
    assert "none, token only" in text_of(admin.get("/console/devices/r001"))
    done = admin.post("/console/devices/r001/enrol")
    assert str(out / "r001/gateway.pem") in done.text
    assert "ends in 90 days" in text_of(admin.get("/console/devices"))
    assert admin.post("/console/devices/r001/revoke", {"reason": " "}).status_code == 422
    done = admin.post("/console/devices/r001/revoke", {"reason": "stolen", "with_meters": "true"})
    assert str(out / "head-end/devices.json") in done.text
    assert "revoked: stolen" in text_of(admin.get("/console/devices/10001"))
    known = [device for file in out.glob("r*/devices.json") for device in load_devices(file).values()]
    assert {(device.microgrid, device.revoked) for device in known} == {("r001", "stolen"), ("r002", "")}
    refused = admin.post("/console/devices/r001/enrol")
    assert (refused.status_code, "was revoked (stolen)" in refused.text) == (422, True)
    before = load_tokens(out / "r001/gateway-tokens.json")
    done = admin.post("/console/devices/r001/readmit", {"with_meters": "true"})
    assert done.status_code == 200
    tokens = load_tokens(out / "r001/gateway-tokens.json")
    assert tokens != before
    assert tokens["r001"] not in done.text, "no secret is shown"
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="device."), 9)
    assert [entry["action"] for entry in entries] == ["device.readmit", "device.revoke", "device.enrol"]


def test_devices_of_other_makers_show_what_they_are_told_and_whether_they_obey(
    browser: Callable[..., Browser], database: Database
) -> None:
    states = {
        "sharing": {
            "stage": "disobeys",
            "since": NOW - 60,
            "failsafe": "none",
            "finding": "should be on, shows idle",
        },
        "reducing": {"stage": "obeys", "since": NOW - 600, "failsafe": "watchdog", "failsafe_s": 180},
    }
    ignored = {"unreadable": [3, "tele/shed: not JSON <b>"]}
    shed = {"name": "shed", "preset": "tasmota", "heard": NOW - 5, "states": states, "ignored": ignored}
    said = a_heartbeat(devices={"10001": shed, "10002": shed | {"name": "roof", "states": {}, "ignored": {}}})
    Writer(database).commit([SawGateway(controller="r001", time=NOW, heartbeat=said)])
    admin = browser(Role.ADMIN)
    for path, both in (("/console/devices", True), ("/console/devices/10001", False), ("/console/devices/r001", True)):
        page = text_of(admin.get(path))
        for words in (
            "sharing: ■ disobeys",
            "should be on, shows idle",
            "▲ nothing",
            "reducing: ● obeys",
            "the device, 180 s",
            "3 unreadable",
            "tele/shed: not JSON &lt;b&gt;",
        ):
            assert words in page, (path, words)
        assert ("roof" in page) == both


def test_operators_read_and_change_nothing(person: Callable[..., Browser], out: Path) -> None:
    operator, before = person(Role.OPERATOR), (out / "r001/devices.json").read_bytes()
    assert "A technician makes a new certificate" in text_of(operator.get("/console/devices/r001"))
    for change in ("enrol", "revoke", "readmit"):
        assert operator.post(f"/console/devices/r001/{change}", {"reason": "x"}).status_code == 403
    assert (out / "r001/devices.json").read_bytes() == before
    assert person(Role.CLERK).get("/console/devices").status_code == 403
