"""Alarms through the application: staff read, operators act, and everybody sees it at once."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI

from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.alarms.conditions import Counted, Facts
from utility.alarms.decisions import alarms_of
from utility.webkit.console.console import Console
from utility.webkit.services import Api

KEY = "CommonwattGatewaySilent|r001|gateway"


@pytest.fixture
def api(app: FastAPI) -> Api:
    console: Console = app.state.console
    api, clock = console.api, console.api.clock
    facts: Callable[[Counted | None], Facts] = lambda _: Facts(silent_s={"r001": 400.0})  # noqa: E731 - replaces a field
    object.__setattr__(alarms_of(api), "_facts", facts)
    for _ in range(2):
        alarms_of(api).count()
        alarms_of(api).look()
        clock.origin += 150
    alarms_of(api).look()
    alarms_of(api).save()
    return api


def act(person: Browser, path: str, body: dict[str, Any]) -> Any:
    return person.send("POST", path, json=body, headers={"X-CSRF": person.csrf})


def test_program_silences_an_alarm_with_an_end_and_every_other_person_sees_it(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator, viewer = browser(Role.OPERATOR), browser(Role.VIEWER)
    (alarm,) = viewer.get("/alarms").json()["alarms"]
    assert (alarm["key"], alarm["state"], alarm["runbook"]) == (KEY, "active", "/runbooks#commonwattgatewaysilent")
    assert alarm["since"].endswith("Z")
    until = "2027-01-15T12:00:00Z"
    made = act(operator, "/alarms/silences", {"key": KEY, "note": "cable", "until": until})
    assert made.status_code == 200
    board = viewer.get("/alarms").json()
    assert (board["alarms"][0]["state"], board["alarms"][0]["silences"]) == ("suppressed", [str(made.json()["no"])])
    (silence,) = board["silences"]
    assert (silence["person"], silence["until"], silence["holds"]) == ("operator", until, True)
    assert act(operator, f"/alarms/silences/{silence['id']}/end", {}).status_code == 200
    assert viewer.get("/alarms").json()["silences"] == []


def test_program_is_told_what_is_wrong_with_a_request(api: Api, browser: Callable[..., Browser]) -> None:
    del api
    operator = browser(Role.OPERATOR)
    good = {"key": KEY, "note": "cable", "until": NOW + 3_600}
    for wrong, words in (
        ({"key": "x"}, "there is no such alarm"),
        ({"until": NOW}, "end: "),
        ({"until": "2027-01-15T12:00"}, None),
        ({"note": ""}, "note"),
        ({"until": "soon"}, "is no time"),
    ):
        answer = act(operator, "/alarms/acknowledgements", good | wrong)
        assert answer.status_code == (200 if words is None else 422)
        assert (words or "no") in answer.text
    late = {"place": "r999", "start": NOW, "until": NOW + 3_600, "note": "cable"}
    assert "r999" in act(operator, "/alarms/maintenances", late).text
    assert act(browser(Role.VIEWER), "/alarms/acknowledgements", good).status_code == 403


def test_operator_silences_an_alarm_in_two_taps_and_every_page_shows_it(
    api: Api, browser: Callable[..., Browser]
) -> None:
    del api
    operator, viewer = browser(Role.OPERATOR), browser(Role.VIEWER)
    page = operator.get("/console/alarms")
    (link,) = re.findall(r'href="(/console/alarms/one[^"]*)"', page.text)
    form = operator.get(unescape(link))
    assert "The gateway of r001 is silent." in text_of(form)
    for look in re.findall(r'href="((?:/runbooks|/console/microgrids)[^"]*)"', form.text):
        assert operator.get(look).status_code == 200
    done = operator.post("/console/alarms/one", {"key": KEY, "silence_s": 3_600})
    assert (done.status_code, done.headers["location"].partition("?")[0]) == (303, "/console/alarms")
    assert "The alarm is silenced" in text_of(operator.get(done.headers["location"]))
    for path in ("/console/alarms", "/console/quarantine", "/console/alarms/count"):
        assert "1 silenced" in text_of(viewer.get(path))
        assert "no alarm" not in text_of(viewer.get(path)), "a silenced alarm still stands"
    shown = text_of(viewer.get("/console/alarms"))
    assert "suppressed" in shown
    assert "operator, until" in shown
    assert "End now" not in shown
    assert operator.post("/console/alarms/silences/1/end").status_code == 303
    assert "1 critical" in text_of(viewer.get("/console/alarms/count"))
    again = operator.post("/console/alarms/silences/1/end")
    assert (again.status_code, "silence 1 does not hold" in again.text) == (409, True)


def test_page_is_sent_again_only_when_it_changed_or_its_ages_did(api: Api, browser: Callable[..., Browser]) -> None:
    viewer = browser(Role.VIEWER)
    page = viewer.get("/console/alarms").text
    live, count = (unescape(re.search(rf'hx-get="(/console/alarms/{of}[^"]*)"', page)[1]) for of in ("live", "count"))  # type: ignore[index]
    assert [viewer.get(path).status_code for path in (live, count)] == [204, 204]
    api.clock.origin += 31
    assert [viewer.get(path).status_code for path in (live, count)] == [200, 204]
    act(browser(Role.OPERATOR), "/alarms/silences", {"key": KEY, "note": "cable", "until": NOW + 9_000})
    assert [viewer.get(path).status_code for path in (live, count)] == [200, 200]


def test_acknowledgement_shows_who_sees_to_it_until_when_and_can_be_ended(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator = browser(Role.OPERATOR)
    fields = {"key": KEY, "acknowledge_s": 14_400, "note": "<b>Ann</b> drives there"}
    assert operator.post("/console/alarms/one", fields).status_code == 303
    page = operator.get("/console/alarms").text
    assert "&lt;b&gt;Ann&lt;/b&gt; drives there" in page
    assert text_of(operator.get("/console/alarms/count")) == "○ 1 acknowledged"
    assert operator.post(f"/console/alarms/acknowledgements/{2**70}/end").status_code == 422
    assert operator.post("/console/alarms/acknowledgements/1/end").status_code == 303
    assert alarms_of(api).board().counts.critical == 1
    neither = operator.post("/console/alarms/one", {"key": KEY, "note": "x"})
    assert (neither.status_code, "choose for how long" in neither.text) == (422, True)
    assert operator.get("/console/alarms/one?key=CommonwattNone").status_code == 404


def test_maintenance_takes_the_towns_time_and_tells_mistakes_beside_what_was_typed(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator = browser(Role.OPERATOR)
    good = {"place": "r001", "part": "gateway", "start": "2027-01-15T08:00", "end": "2027-01-15T12:00", "note": "cable"}
    assert operator.post("/console/alarms/maintenance", good).status_code == 303
    (silence,) = alarms_of(api).board().silences
    assert (silence.subject, silence.end - silence.start) == ("the gateway of r001", 14_400)
    assert datetime.fromtimestamp(silence.start, UTC).hour == 13  # New York is five hours behind
    for wrong, words in (
        ({"place": "r001, r999"}, "r999 is no microgrid"),
        ({"place": ""}, "name the places, or choose the whole town"),
        ({"place": "r001", "whole": "yes"}, "name the places, or choose the whole town"),
        ({"end": "2027-01-15T08:00"}, "comes after the start"),
        ({"end": "2027-03-15T08:00"}, "is more than 31 days after the start"),
        ({"start": "soon"}, "is no time"),
        ({"note": " "}, "say why"),
        ({"part": "roof"}, "roof is none of"),
    ):
        answer = operator.post("/console/alarms/maintenance", good | wrong)
        assert answer.status_code == 422
        assert words in text_of(answer)
        field = next(iter(wrong))
        assert f'name="{field}"' in answer.text.partition('aria-invalid="true"')[0].rpartition("<")[2]
        assert f'aria-describedby="{field}-' in answer.text
        typed = good | wrong
        assert all(f'value="{typed[name]}"' in answer.text for name in ("place", "start", "end"))
    assert len(alarms_of(api).board().silences) == 1


def test_viewer_acts_on_nothing_and_a_resident_sees_nothing(api: Api, browser: Callable[..., Browser]) -> None:
    viewer, resident = browser(Role.VIEWER), browser(Role.RESIDENT, account=5)
    acts: dict[str, dict[str, Any]] = {
        "/console/alarms/one": {"key": KEY, "silence_s": 3_600},
        "/console/alarms/maintenance": {"start": "2027-01-15T08:00", "end": "2027-01-15T12:00", "note": "x"},
        "/console/alarms/silences/1/end": {},
        "/console/alarms/acknowledgements/1/end": {},
    }
    for person in (viewer, resident):
        assert {person.post(path, fields).status_code for path, fields in acts.items()} == {403}
    assert alarms_of(api).board().silences == ()
    for path in ("/console/alarms", "/console/alarms/count", f"/console/alarms/one?key={KEY}", "/alarms"):
        assert (viewer.get(path).status_code, resident.get(path).status_code) == (200, 403)
    assert "alarm-count" not in resident.get("/console/home").text


def test_page_leads_to_alertmanager_where_there_is_one(api: Api, browser: Callable[..., Browser]) -> None:
    viewer = browser(Role.VIEWER)
    assert "Alertmanager" not in viewer.get("/console/alarms").text
    object.__setattr__(api.settings, "alertmanager", "https://alerts.example")
    assert '<a href="https://alerts.example"' in viewer.get("/console/alarms").text


def test_page_of_a_town_with_every_gateway_silent_is_small(api: Api, browser: Callable[..., Browser]) -> None:
    facts = Facts(silent_s={f"r{no:03}": 400.0 for no in range(1, 803)})
    object.__setattr__(alarms_of(api), "_facts", lambda _: facts)
    alarms_of(api).look()
    api.clock.origin += 150
    alarms_of(api).look()
    operator = browser(Role.OPERATOR)
    page = operator.get("/console/alarms")
    assert "Gateway silent: 802 alarms" in text_of(page)
    assert "802 critical" in text_of(page)
    assert len(page.content) < 50_000
    one = alarms_of(api).board().rows[0].alarm.key
    assert "All 802 alarms of this name: r001, r002, r003 and 799 more" in text_of(
        operator.get("/console/alarms/one", params={"key": one})
    )
    # One silence holds them all, and those that begin later.
    assert operator.post("/console/alarms/one", {"key": one, "silence_s": 3_600, "equal": "true"}).status_code == 303
    facts.silent_s["r900"] = 400.0  # type: ignore[index]
    api.clock.origin += 150
    alarms_of(api).look()
    api.clock.origin += 150
    alarms_of(api).look()
    board = alarms_of(api).board()
    assert (len(board.rows), board.counts.critical, len(board.silences)) == (803, 0, 1)
