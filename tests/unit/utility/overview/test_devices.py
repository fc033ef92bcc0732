"""Devices: without the authority's folder the page shows commands; with it administrators enrol and revoke."""

from collections.abc import Callable
from pathlib import Path

import pytest

from commonwatt.config.utility import UtilitySettings
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import load_devices, load_tokens
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from harness.console import Browser, standing_api, text_of
from harness.surroundings.utility import a_heartbeat
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.outbox.changes import SawGateway
from utility.readings.store.writer import Writer
from utility.registry.store.enrolment import enrol


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
        entries = audit_log.entries(connection, audit_log.Wanted(action="device."), 9)
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
