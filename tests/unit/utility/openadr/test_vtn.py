"""A device with a token of the role `ven` reads prices, supply states and import limits by OpenADR 3.1."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.control import SupplyState
from harness.billing.worlds import tariff
from harness.console import Browser
from harness.furnished import token_of
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.tables import api_token
from utility.database.database import Database
from utility.openadr.api import BASE
from utility.supply.rationing import RATION_S, Ration
from utility.supply.store import tell_rations
from utility.tariffs import store as tariffs

LABEL = "ven's token"
HOUR_S = 3600


class Device:
    """A VEN with a token, on one application."""

    def __init__(self, browser: Callable[..., Browser], database: Database, account: int | None = None) -> None:
        self.roles = (Role.VEN,) if account is None else (Role.VEN, Role.RESIDENT)
        name = "ven" if account is None else "rita"
        browser(*self.roles, name=name, account=account)
        self.bearer = token_of(database, name, "ven", NOW)
        self._browser = browser()

    @property
    def secret(self) -> str:
        return self.bearer["Authorization"].split()[1]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._browser.get(f"{BASE}{path}", headers=self.bearer | headers)

    def read(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def log_in(self, name: str = LABEL, secret: str = "", grant: str = "client_credentials") -> httpx.Response:
        fields = {"grant_type": grant, "client_id": name, "client_secret": secret or self.secret}
        return self._browser.send("POST", f"{BASE}/auth/token", data=fields)


@pytest.fixture
def device(browser: Callable[..., Browser], database: Database) -> Device:
    return Device(browser, database)


def publish(database: Database, version: int = 1, effective: str = "2026-01-01", peak: str = "0.32") -> None:
    prices = (("peak", peak, "0.16"), ("off-peak", "0.20", "0.10"))
    with database.writes.begin() as connection:
        new = tariffs.propose(connection, tariff(effective=effective, prices=prices), "", "anna", NOW - HOUR_S)
        tariffs.publish(connection, new.name, version, "otto", NOW - HOUR_S + version)


def ration(database: Database, supply: SupplyState, *limits_w: int | None) -> None:
    """Send rations to the microgrids r001 and r002."""
    each = [Ration(import_limit_w=limit_w, reduce=True, reason="short") for limit_w in limits_w]
    new = {f"r{number:03d}": one for number, one in enumerate(each, 1)}
    database.write(tell_rations, new, supply, NOW)


def payloads(event: dict[str, Any]) -> list[tuple[int, int, dict[str, Any]]]:
    """Return start, seconds and values of each interval."""
    return [
        (
            parse_time(one["intervalPeriod"]["start"], ""),
            int(one["intervalPeriod"]["duration"][2:-1]),
            {payload["type"]: payload["values"][0] for payload in one["payloads"]},
        )
        for one in event["intervals"]
    ]


def test_prices_of_today_and_tomorrow_are_events_of_the_tariffs_program(device: Device, database: Database) -> None:
    publish(database)
    (program,) = [one for one in device.read("/programs") if one["id"] != "supply"]
    assert (program["id"], program["programName"], program["objectType"]) == ("tariff-town", "tariff-town", "PROGRAM")
    assert {one["payloadType"]: (one["units"], one["currency"]) for one in program["payloadDescriptors"]} == {
        "PRICE": ("KWH", "USD"),
        "EXPORT_PRICE": ("KWH", "USD"),
    }
    events = device.read("/events?programID=tariff-town")
    assert [one["id"] for one in events] == ["tariff-town-2027-01-15", "tariff-town-2027-01-16"]
    friday, saturday = map(payloads, events)
    cheap, dear = {"PRICE": 0.2, "EXPORT_PRICE": 0.1}, {"PRICE": 0.32, "EXPORT_PRICE": 0.16}
    assert [(hours_s // HOUR_S, values) for _, hours_s, values in friday] == [(15, cheap), (6, dear), (3, cheap)]
    assert [(hours_s // HOUR_S, values) for _, hours_s, values in saturday] == [(24, cheap)]
    assert friday[0][0] <= NOW < friday[0][0] + 24 * HOUR_S == saturday[0][0]


def test_a_version_that_begins_tomorrow_changes_tomorrows_event_alone(device: Device, database: Database) -> None:
    publish(database)
    before = device.read("/events?programID=tariff-town")
    publish(database, 2, "2027-01-16", "0.40")
    today, tomorrow = device.read("/events?programID=tariff-town")
    assert today == before[0]
    assert tomorrow["createdDateTime"] == today["modificationDateTime"] == iso(NOW - HOUR_S + 1)
    assert tomorrow["modificationDateTime"] == iso(NOW - HOUR_S + 2)
    assert device.read("/programs/tariff-town")["modificationDateTime"] == iso(NOW - HOUR_S + 2)


@pytest.mark.parametrize(
    ("supply", "level", "alert"),
    [
        (SupplyState.LOW, 1, "ALERT_FLEX_ALERT"),
        (SupplyState.CRITICAL, 2, "ALERT_GRID_EMERGENCY"),
        (SupplyState.EMPTY, 3, "ALERT_GRID_EMERGENCY"),
    ],
)
def test_a_short_supply_is_an_event_for_all(
    device: Device, database: Database, supply: SupplyState, level: int, alert: str
) -> None:
    assert device.read("/events") == []
    ration(database, SupplyState.LOW, None, None)
    ration(database, supply, None)
    (event,) = device.read("/events?programID=supply")
    words = f"The regional supply is {supply}. Use less."
    assert payloads(event) == [(NOW, RATION_S, {"SIMPLE": level, alert: words})]
    assert "targets" not in event
    ration(database, SupplyState.NORMAL, None, None)
    assert device.read("/events") == []


def test_an_import_limit_is_an_event_with_its_microgrid_as_target(device: Device, database: Database) -> None:
    ration(database, SupplyState.NORMAL, 4500, 0)
    (ven,) = device.read("/vens")
    assert ven["targets"] == ["r001", "r002"]
    assert device.read("/events") == [], "events with targets are listed for those that ask for the target"
    one, other = device.read("/events?targets=r001&targets=r002")
    assert (one["id"], one["targets"], payloads(one)) == (
        "limit-r001",
        ["r001"],
        [(NOW, RATION_S, {"IMPORT_CAPACITY_LIMIT": 4.5})],
    )
    assert (other["id"], payloads(other)[0][2]) == ("limit-r002", {"IMPORT_CAPACITY_LIMIT": 0.0})
    assert device.read("/events?targets=r002") == [other]
    assert device.read("/events/limit-r001") == one
    assert device.read("/programs?targets=r001") == []
    assert [each["id"] for each in device.read("/programs")] == ["supply"]


def test_a_residents_device_sees_the_limit_of_its_own_microgrid_alone(
    browser: Callable[..., Browser], database: Database
) -> None:
    ration(database, SupplyState.CRITICAL, 4500, 4500)
    device = Device(browser, database, account=1)
    assert [ven["targets"] for ven in device.read("/vens")] == [["r001"]]
    assert [one["id"] for one in device.read("/events?targets=r001&targets=r002")] == ["limit-r001"]
    assert device.get("/events/limit-r002").status_code == 404
    assert [one["id"] for one in device.read("/events")] == ["supply-state"]


def test_pages_are_bounded_and_filters_hold_together(device: Device, database: Database) -> None:
    publish(database)
    ration(database, SupplyState.LOW, 100, None)
    ids = [one["id"] for one in device.read("/events")]
    assert len(ids) == 3
    assert [one["id"] for one in device.read("/events?skip=1&limit=1")] == ids[1:2]
    assert device.read("/events?programID=tariff-town&targets=r001") == []
    (ven,) = device.read(f"/vens?venName={LABEL}&targets=r001")
    assert (ven["clientID"], device.read(f"/vens/{ven['id']}")) == (LABEL, ven)
    assert device.read("/vens?venName=other") == device.read("/vens?targets=r009") == []
    assert device.read("/reports") == device.read("/subscriptions") == device.read("/resources") == []
    problem = device.get("/events?limit=51").json()
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert problem["detail"].startswith("limit: ")


def test_what_a_client_has_is_not_sent_again(device: Device, database: Database) -> None:
    publish(database)
    tag = device.get("/events").headers["etag"]
    again = device.get("/events", **{"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    ration(database, SupplyState.LOW, None, None)
    assert device.get("/events", **{"If-None-Match": tag}).status_code == 200
    assert device.read("/notifiers") == {"WEBHOOK": False}


def test_client_and_secret_are_a_tokens_label_and_text(device: Device, browser: Callable[..., Browser]) -> None:
    found = browser().get(f"{BASE}/auth/server").json()["tokenURL"]
    assert found == f"https://localhost{BASE}/auth/token"
    answer = device.log_in()
    assert answer.json() == {"access_token": device.secret, "token_type": "Bearer", "expires_in": 60}, answer.text
    basic = base64.b64encode(f"{LABEL}:{device.secret}".encode()).decode()
    by_header = browser().send(
        "POST",
        f"{BASE}/auth/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {basic}"},
    )
    assert by_header.json() == answer.json()
    assert device.log_in(grant="password").json() == {"error": "unsupported_grant_type"}


def test_a_wrong_ended_or_other_token_is_refused(
    device: Device, browser: Callable[..., Browser], database: Database
) -> None:
    assert device.log_in(name="other").status_code == 401
    browser(Role.VIEWER, name="vera")
    reads_all = token_of(database, "vera", "viewer", NOW)["Authorization"].split()[1]
    assert device.log_in("vera's token", reads_all).json() == {"error": "invalid_client"}
    with database.writes.begin() as connection:
        digest = hashlib.sha256(device.secret.encode()).hexdigest()
        ended = api_token.update().where(api_token.c.digest == digest).values(revoked=NOW)
        assert connection.execute(ended).rowcount == 1
    assert device.log_in().status_code == 401
    refused = device.get("/programs")
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.json()["title"] == "Unauthorized"
    viewer = browser().get(f"{BASE}/programs", headers={"Authorization": f"Bearer {reads_all}"})
    assert (viewer.status_code, viewer.json()["status"]) == (403, 403)


def test_wrong_secrets_are_limited_as_logins_are(device: Device) -> None:
    codes = [device.log_in(secret="cwt_wrong").status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2
    answer = device.log_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/programs", "/events/supply-state", "/reports", "/subscriptions", "/vens"])
def test_nothing_can_be_written(device: Device, app: FastAPI, method: str, path: str) -> None:
    browser = Browser(app)
    answer = browser.send(method, f"{BASE}{path}", headers=device.bearer, json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["title"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/users", "/events/none", "/programs/none", "/vens/ven-0"])
def test_what_there_is_not_is_a_problem_of_404(device: Device, path: str) -> None:
    assert device.get(path).json()["status"] == 404


def test_the_role_reads_nothing_else(device: Device, browser: Callable[..., Browser]) -> None:
    for path in ("/me", "/tokens", "/status", "/home", "/openapi.json", "/console/town"):
        assert browser().get(path, headers=device.bearer).status_code == 403, path
