"""Estimates and entered values on pages and by the API: decided once by a clerk; wrong input changes nothing."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from commonwatt.model.blocks import make_blocks
from harness.billing.worlds import found_in_store, world_of
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.overview.test_inbox import letters  # noqa: F401 - a fixture
from tests.unit.utility.tariffs.test_pages import SOURCE
from utility.access.people import Role
from utility.access.store import audit_log
from utility.corrections.correction import CorrectionState
from utility.corrections.estimates import Method
from utility.corrections.store.corrections import ChosenCorrections, Corrections, corrections_page, found, propose
from utility.database.database import Database

FIRST = 1_999_900
LIST = "/console/quarantine/corrections"
Browsers = Callable[..., Browser]


def estimates(*quarters: int, method: Method = Method.BALANCE, meter: int = 1, slots: slice = slice(60)) -> Corrections:
    keys = [(10_000 + meter, 3, quarter) for quarter in quarters]
    quality = np.zeros((len(keys), 60), np.uint8)
    quality[:, slots] = 2
    return Corrections(
        blocks=make_blocks(keys, np.full((len(keys), 60), 1000), quality),
        number=np.full(len(keys), meter),
        owner=np.full(len(keys), 1),
        method=np.full(len(keys), method, np.uint8),
    )


@pytest.fixture
def proposed(database: Database) -> None:
    with database.writes.begin() as connection:
        propose(connection, estimates(*range(FIRST, FIRST + 4), FIRST + 10), NOW)
        propose(connection, estimates(FIRST, meter=2), NOW)


def keys(database: Database, state: CorrectionState = CorrectionState.PROPOSED) -> list[str]:
    with database.reads.begin() as connection:
        return [line.key for line in corrections_page(connection, ChosenCorrections(), [state], 100).rows]


@pytest.mark.usefixtures("proposed")
def test_clerk_approves_lines_and_the_second_clerk_is_told(browser: Browsers, database: Database) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.CLERK, name="ben")
    first, second, third = keys(database)
    assert "Estimates (6)" in text_of(anna.get(LIST))
    done = anna.post(LIST, {"keys": [first, third], "action": "approve", "why": "as before"})
    assert "5 quarter-hours, 0.300 kWh: approved" in text_of(anna.get(done.headers["location"]))
    late = ben.post(LIST, {"keys": [second, third], "action": "refuse"})
    assert late.status_code == 409
    assert "those chosen are approved, by anna" in text_of(late)
    assert keys(database) == [second], "all or none"
    page = text_of(ben.get(f"{LIST}/{first}"))
    assert "anna" in page
    assert "as before" in page
    assert "the line is of proposed corrections" in text_of(ben.post(LIST, {"keys": first, "action": "revert"}))
    approved = keys(database, CorrectionState.APPROVED)[0]
    assert f'value="{approved}"' in ben.get(f"{LIST}/{first}").text
    assert ben.post(LIST, {"keys": approved, "action": "revert"}).status_code == 303
    assert set(keys(database)) == {first, second}
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="correction."), 9)
    assert [(e["person"], e["action"], e["subject"]) for e in entries] == [
        ("ben", "correction.revert", "meter 10001"),
        ("anna", "correction.approve", "2 meters"),
    ]


@pytest.mark.usefixtures("proposed")
def test_line_that_grew_meanwhile_is_not_decided_unseen(browser: Browsers, database: Database) -> None:
    seen = keys(database)[0]
    with database.writes.begin() as connection:
        propose(connection, estimates(FIRST + 1, method=Method.LIKE_DAYS, meter=2), NOW)
        rows = found(connection, ChosenCorrections(), [CorrectionState.PROPOSED], None)
    stale = ".".join([*seen.split(".")[:5], str(FIRST + 11), "4"])
    answer = browser(Role.CLERK).post(LIST, {"keys": stale, "action": "approve"})
    assert answer.status_code == 409
    assert "changed some of these corrections meanwhile" in text_of(answer)
    assert len(rows) == 7
    assert len(keys(database)) == 4
    assert browser(Role.CLERK).post(LIST, {"keys": "x", "action": "approve"}).status_code == 409


def test_line_is_decided_beside_corrections_of_the_same_quarter_in_other_states(
    browser: Browsers, database: Database
) -> None:
    clerk = browser(Role.CLERK)
    for slots, action in ((slice(0, 20), "approve"), (slice(20, 40), "refuse")):
        with database.writes.begin() as connection:
            propose(connection, estimates(FIRST, slots=slots), NOW)
        (line,) = keys(database)
        page = clerk.get(f"{LIST}/{line}").text
        assert f'name="keys" value="{line}"' in page, "the page of a line decides it, too"
        assert clerk.post(LIST, {"keys": line, "action": action}).status_code == 303, action
    (approved,), (refused,) = keys(database, CorrectionState.APPROVED), keys(database, CorrectionState.REFUSED)
    assert clerk.post(LIST, {"keys": [approved], "action": "revert"}).status_code == 303
    assert (keys(database, CorrectionState.APPROVED), keys(database, CorrectionState.REFUSED)) == ([], [refused])


@pytest.mark.usefixtures("proposed")
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_corrections_show_every_line_once(database: Database, limit: int) -> None:
    with database.writes.begin() as connection:
        propose(connection, estimates(FIRST + 4, FIRST + 6, method=Method.LIKE_DAYS), NOW)
        propose(connection, estimates(FIRST + 5, FIRST + 7, method=Method.INTERPOLATION), NOW)
        for slots, method in ((slice(0, 20), Method.BALANCE), (slice(20, 40), Method.LIKE_DAYS)):
            propose(connection, estimates(FIRST + 20, FIRST + 21, method=method, slots=slots), NOW)
    shown: list[int] = []
    after, pages = "", 0
    with database.reads.begin() as connection:
        while after or not pages:
            page = corrections_page(connection, ChosenCorrections(), [CorrectionState.PROPOSED], limit, after)
            assert len(page.rows) <= max(limit, 2), "two methods of a quarter-hour stay together"
            shown += [number for line in page.rows for number in line.numbers]
            after, pages = page.after, pages + 1
        assert sorted(shown) == sorted(
            row.no for row in found(connection, ChosenCorrections(), [CorrectionState.PROPOSED], None)
        )


def test_value_is_entered_or_the_form_says_what_is_wrong(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    fields = {
        "meter": "10001",
        "start": "2026-11-01T18:00",
        "until": "2026-11-01T20:00",
        "energy_kwh": "4,25",
        "why": "x",
    }
    wrong = clerk.post(f"{LIST}/edit", fields)
    assert wrong.status_code == 422
    assert "must be kilowatt-hours such as 4.25" in text_of(wrong)
    assert 'aria-describedby="energy_kwh-help energy_kwh-wrong"' in wrong.text, "beside the field"
    assert 'value="2026-11-01T18:00"' in wrong.text, "what was written stays in the form"
    done = clerk.post(f"{LIST}/edit", fields | {"energy_kwh": "0.25"})
    assert "8 quarter-hours entered, 0.250 kWh" in text_of(clerk.get(done.headers["location"]))
    (line,) = keys(database, CorrectionState.EDITED)
    plot = clerk.get(f"{LIST}/{line}/plot.json").json()
    assert plot["series"][0]["unit"] == "kW"
    assert [round(x, 3) for x in plot["series"][1]["high"] if x is not None] == [0.125] * 8
    assert browser(Role.VIEWER).post(f"{LIST}/edit", fields).status_code == 403


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
    words = "2 readings refused"
    assert done.json() == {
        "words": words,
        "changed": 2,
        "slots": 2,
        "energy_mwh": None,
        "meters": None,
        "person": "clerk",
    }
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
