"""Programs decide by the API with the rights of the pages: typed answers, ISO times, pages, reasons of refusals."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness.billing.found import found_in_store
from harness.billing.two_months import world_of
from harness.console import Browser
from tests.unit.utility.conftest import NOW
from tests.unit.utility.corrections.test_pages import FIRST, estimates
from tests.unit.utility.overview.test_quarantine_page import letters  # noqa: F401 - a fixture
from tests.unit.utility.tariffs.test_pages import SOURCE
from utility.access.roles import Role
from utility.corrections.store.corrections import propose
from utility.database.database import Database

Browsers = Callable[..., Browser]


def post(person: Browser, path: str, **body: Any) -> httpx.Response:
    return person.send("POST", path, json=body, headers={"X-CSRF": person.csrf})


def result_of(person: Browser, work: dict[str, Any]) -> str:
    for _ in range(5000):
        work = person.get(f"/works/{work['id']}").json()
        if work["state"] in ("done", "failed"):
            return str(work["result"] or work["fault"])
    raise AssertionError("the work did not end")


@pytest.mark.usefixtures("letters")
def test_readings_are_decided(browser: Browsers) -> None:
    clerk = browser(Role.CLERK)
    done = post(clerk, "/dead-letters/decide", numbers=[1, 3], decision="refused", why="a fault")
    assert done.json() == {"changed": 2, "slots": 2, "energy_mwh": None, "meters": None, "person": "clerk"}
    again = post(clerk, "/dead-letters/decide", numbers=[3], decision="released")
    assert (again.status_code, "is refused already, by clerk" in again.json()["detail"]) == (409, True)
    assert post(clerk, "/dead-letters/decide", numbers=[2], decision="maybe").status_code == 422
    assert post(browser(Role.APPROVER), "/dead-letters/decide", numbers=[2], decision="released").status_code == 403


def test_corrections_are_listed_by_pages_and_decided(browser: Browsers, database: Database) -> None:
    with database.writes.begin() as connection:
        propose(connection, estimates(*range(FIRST, FIRST + 4), FIRST + 10), NOW)
    clerk = browser(Role.CLERK)
    first = clerk.get("/corrections?limit=1").json()
    (line,) = first["corrections"]
    assert line["start"] == "2027-01-14T07:00:00Z"
    assert (line["minutes"], line["energy_mwh"]) == (60, 240_000)
    second = clerk.get(f"/corrections?limit=1&after={first['after']}").json()
    assert second["after"] == ""
    keys = [line["key"], second["corrections"][0]["key"]]
    assert post(clerk, "/corrections/decide", keys=keys, action="approve").json()["changed"] == 5
    assert post(clerk, "/corrections/decide", keys=keys, action="approve").status_code == 409
    value = {"meter": "10001", "start": "2026-11-01T18:00Z", "until": "2026-11-01T19:00Z", "why": "stuck"}
    assert post(clerk, "/corrections/edit", **value, energy_kwh="0.1").json()["energy_mwh"] == 100_000
    wrong = post(clerk, "/corrections/edit", **value, energy_kwh="-1")
    assert (wrong.status_code, "must be kilowatt-hours" in wrong.json()["detail"]) == (422, True)
    assert clerk.get("/corrections?after=x").status_code == 422
    assert clerk.get("/findings").json() == {"findings": []}
    assert "finding 7 is not open" in post(clerk, "/findings/close", numbers=[7]).json()["detail"]


def test_month_is_billed_by_two_programs(browser: Browsers, monkeypatch: pytest.MonkeyPatch) -> None:
    world = found_in_store(monkeypatch, world_of())
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.CLERK, Role.APPROVER, name="ben")
    faults = post(anna, "/tariffs", source=SOURCE.replace('"0.3200"', "0.32").replace('"16:00"', "16"))
    assert (faults.status_code, len(faults.json()["detail"]) >= 2) == (422, True)
    preview = post(anna, "/tariffs/preview", source=SOURCE, month="2026-10")
    changes = anna.get(result_of(anna, preview.json())).json()
    count = len({held.account for meter in world.inputs.registry.meters.values() for held in meter.holdings})
    assert changes["accounts"] == len(changes["changes"]) == count
    proposed = post(anna, "/tariffs", source=SOURCE)
    assert (proposed.status_code, proposed.json()["effective"]) == (201, "2026-10-01T04:00:00Z")
    assert post(ben, "/tariffs/town/1/approve").json()["state"] == "published"
    assert anna.get("/tariffs").json()["tariffs"][0]["approved_by"] == "ben"
    path = result_of(anna, post(anna, "/runs", month="2026-10").json())
    assert path == "/runs/1"
    assert result_of(ben, post(ben, "/runs/1/check").json()) == path
    own = post(ben, "/runs/1/issue")
    assert (own.status_code, "ben checked it" in own.json()["detail"]) == (409, True)
    assert post(browser(Role.APPROVER, name="eve"), "/runs/1/issue").json()["state"] == "issued"
    assert anna.get("/runs?limit=1").json()["runs"][0]["issued_by"] == "eve"
    (bill,) = anna.get("/runs/1/bills?limit=1").json()["bills"]
    assert anna.get(f"/runs/1/bills/{bill['account']}").json()["total"] == bill["total"]
    again = post(anna, "/runs", month="2026-10").json()
    assert "bills of 2026-10 are issued and stay" in result_of(anna, again)
    assert post(anna, "/runs", month="x").status_code == 422
    assert anna.get("/runs/7").status_code == 404
    assert anna.get(f"/runs/{2**70}").status_code == 422
