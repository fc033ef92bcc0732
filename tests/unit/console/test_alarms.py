"""Alarms through the application: staff read, operators act, and everybody sees it at once."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from harness.console import Browser
from tests.unit.console.conftest import NOW
from utility.access.roles import Role
from utility.alarms.conditions import Counted, Facts
from utility.api.services import Api
from utility.console.console import Console

KEY = "CommonwattGatewaySilent|r001|gateway"


@pytest.fixture
def api(app: FastAPI) -> Api:
    console: Console = app.state.console
    api, clock = console.api, console.api.clock
    facts: Callable[[Counted | None], Facts] = lambda _: Facts(silent_s={"r001": 400.0})  # noqa: E731 - replaces a field
    object.__setattr__(api.alarms, "_facts", facts)
    for _ in range(2):
        api.alarms.count()
        api.alarms.look()
        clock.origin += 150
    api.alarms.look()
    api.alarms.save()
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
    assert "place: r999" in act(operator, "/alarms/maintenances", late).text
    assert act(browser(Role.VIEWER), "/alarms/acknowledgements", good).status_code == 403
